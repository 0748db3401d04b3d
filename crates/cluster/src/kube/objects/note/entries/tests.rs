use longshore_types::Digest;

use super::*;

fn namespace() -> Namespace {
    Namespace::new("default").unwrap()
}

fn entry(engine: &str, name: &str) -> NoteEntry {
    NoteEntry {
        engine: EngineId::new(namespace(), engine),
        boot: Boot::new("0b1c/containerd://ab#0"),
        name: AdapterName::new(name).unwrap(),
        root: Root::Other("/models/sql".into()),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_739_733_290_000 + seconds * 1000)
}

/// What a note has after these changes.
fn apply(shown: &BTreeMap<String, String>, changes: &[Change]) -> BTreeMap<String, String> {
    let mut data = shown.clone();
    match plan(&namespace(), shown, changes).0 {
        Plan::Nothing => {}
        Plan::Empty => data.clear(),
        Plan::Write(changes) => {
            for (key, value) in changes {
                match value {
                    Some(value) => data.insert(key, value),
                    None => data.remove(&key),
                };
            }
        }
    }
    data
}

fn entries(data: &BTreeMap<String, String>) -> Vec<NoteEntry> {
    let mut entries: Vec<_> = data.values().map(|value| parse(&namespace(), value).unwrap().entry).collect();
    entries.sort();
    entries
}

#[test]
fn what_is_noted_reads_back() {
    let mut stored = entry("pod-2", "code");
    stored.root = Root::Store(format!("sha256:{}", "ab".repeat(32)).parse::<Digest>().unwrap());
    let data =
        apply(&BTreeMap::new(), &[Change::Add(entry("pod-1", "sql"), at(0)), Change::Add(stored.clone(), at(1))]);
    assert_eq!(entries(&data), [entry("pod-1", "sql"), stored]);
    insta::assert_json_snapshot!("a_note", data);
}

#[test]
fn what_is_there_already_is_not_written_again() {
    let data = apply(&BTreeMap::new(), &[Change::Add(entry("pod-1", "sql"), at(0))]);
    assert_eq!(plan(&namespace(), &data, &[Change::Add(entry("pod-1", "sql"), at(9))]), (Plan::Nothing, 0));
    assert_eq!(plan(&namespace(), &data, &[Change::Remove(entry("pod-1", "code"))]), (Plan::Nothing, 0));
    assert_eq!(plan(&namespace(), &data, &[]), (Plan::Nothing, 0));
}

#[test]
fn an_entry_differs_by_engine_life_name_and_root() {
    let mut other_life = entry("pod-1", "sql");
    other_life.boot = Boot::new("0b1c/containerd://cd#1");
    let mut other_root = entry("pod-1", "sql");
    other_root.root = Root::Other("/models/sql-2".into());
    let all = [entry("pod-1", "sql"), entry("pod-2", "sql"), entry("pod-1", "code"), other_life, other_root];
    let adds: Vec<_> = all.iter().map(|entry| Change::Add(entry.clone(), at(0))).collect();
    let data = apply(&BTreeMap::new(), &adds);
    assert_eq!(data.len(), 5);
    for entry in &all {
        assert_eq!(apply(&data, &[Change::Remove(entry.clone())]).len(), 4);
    }
}

#[test]
fn changes_are_made_one_after_another() {
    let (add, remove) = (Change::Add(entry("pod-1", "sql"), at(0)), Change::Remove(entry("pod-1", "sql")));
    assert_eq!(apply(&BTreeMap::new(), &[add.clone(), remove.clone()]).len(), 0);
    assert_eq!(apply(&BTreeMap::new(), &[add.clone(), remove.clone(), add]).len(), 1);
}

#[test]
fn the_last_entry_takes_the_note_away() {
    let data = apply(&BTreeMap::new(), &[Change::Add(entry("pod-1", "sql"), at(0))]);
    assert_eq!(plan(&namespace(), &data, &[Change::Remove(entry("pod-1", "sql"))]).0, Plan::Empty);
}

#[test]
fn what_cannot_be_understood_goes_with_the_next_write() {
    let malformed = BTreeMap::from([("odd".to_owned(), "{".to_owned())]);
    assert_eq!(plan(&namespace(), &malformed, &[]).0, Plan::Nothing);
    assert_eq!(entries(&apply(&malformed, &[Change::Add(entry("pod-1", "sql"), at(0))])), [entry("pod-1", "sql")]);
    for odd in [
        "",
        "null",
        "[]",
        r#"{"engine":"e","boot":"b","adapter":"../x","root":"/a","since":""}"#,
        r#"{"engine":"e","boot":"b","adapter":"a","digest":"sha256:no","since":""}"#,
        r#"{"engine":"e","boot":"b","adapter":"a","since":""}"#,
    ] {
        assert_eq!(parse(&namespace(), odd), None, "{odd}");
    }
}

#[test]
fn a_full_note_drops_its_oldest_entries() {
    let adds: Vec<_> = (0..1010).map(|index| Change::Add(entry(&format!("pod-{index}"), "sql"), at(index))).collect();
    let (_, dropped) = plan(&namespace(), &BTreeMap::new(), &adds);
    assert_eq!(dropped, 10);
    let data = apply(&BTreeMap::new(), &adds);
    assert_eq!(data.len(), MOST_ENTRIES);
    assert!(!entries(&data).contains(&entry("pod-9", "sql")) && entries(&data).contains(&entry("pod-10", "sql")));
    // Long texts are bounded by their size.
    let long: Vec<_> = (0..300)
        .map(|index| {
            let mut entry = entry("pod-1", &format!("a{index}"));
            entry.root = Root::Other("/".repeat(4000).into());
            Change::Add(entry, at(index))
        })
        .collect();
    let data = apply(&BTreeMap::new(), &long);
    let bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes <= MOST_BYTES && data.len() > 100, "{bytes}");
}

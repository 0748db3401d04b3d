use proptest::prelude::*;

use super::super::fleet::table_from_fleet;
use super::*;

fn event(name: &str, data: impl Into<String>) -> Event {
    Event { name: name.into(), data: data.into(), id: None }
}

fn engine(name: &str, ready: bool) -> fleet::Engine {
    fleet::Engine {
        engine: name.into(),
        namespace: "a".into(),
        url: "http://10.0.0.1:8000".into(),
        kind: "vllm".into(),
        base_model: Some("tiny".into()),
        ready,
        ..fleet::Engine::default()
    }
}

fn adapter(namespace: &str, name: &str, engines: &[&str]) -> fleet::Adapter {
    let placement = |engine: &&str| fleet::Placement {
        pod: (*engine).into(),
        namespace: namespace.into(),
        address: "10.0.0.1".into(),
        port: 8000,
        ..fleet::Placement::default()
    };
    fleet::Adapter {
        namespace: namespace.into(),
        name: name.into(),
        endpoints: engines.iter().map(placement).collect(),
        ..fleet::Adapter::default()
    }
}

fn all_adapters(adapters: Vec<fleet::Adapter>) -> Change {
    Change::Adapters(Listed::All(adapters))
}

#[test]
fn there_is_no_table_before_both_lists_are_there() {
    let mut state = State::new(BTreeSet::new());
    state.apply(all_adapters(vec![adapter("a", "x", &["e1"])]));
    assert_eq!(state.table(), None);
    state.apply(Change::Engines(Listed::All(vec![engine("e1", true)])));
    assert_eq!(state.table().unwrap().adapter("a", "x").unwrap().endpoints().len(), 1);
}

#[test]
fn an_engine_that_comes_or_goes_changes_the_routes_through_it() {
    let mut state = State::new(BTreeSet::new());
    state.apply(Change::Engines(Listed::All(Vec::new())));
    state.apply(all_adapters(vec![adapter("a", "x", &["e1"])]));
    let endpoints = |state: &State| state.table().unwrap().adapter("a", "x").unwrap().endpoints().len();
    assert_eq!(endpoints(&state), 0);
    state.apply(Change::Engines(Listed::Put(Box::new(engine("e1", true)))));
    assert_eq!(endpoints(&state), 1);
    state.apply(Change::Engines(Listed::Gone(fleet::Gone { namespace: "a".into(), name: "e1".into() })));
    assert_eq!(endpoints(&state), 0);
}

#[test]
fn only_the_namespaces_asked_for_are_served() {
    let mut state = State::new(BTreeSet::from(["b".parse().unwrap()]));
    state.apply(Change::Engines(Listed::All(vec![engine("e1", true)])));
    state.apply(all_adapters(vec![adapter("a", "x", &[]), adapter("b", "x", &[])]));
    state.apply(Change::Adapters(Listed::Put(Box::new(adapter("a", "y", &[])))));
    let table = state.table().unwrap();
    assert_eq!(table.adapters().map(|route| route.qualified()).collect::<Vec<_>>(), ["b/x"]);
    assert_eq!(table.bases().count(), 0);
}

#[test]
fn events_are_read_by_their_names() {
    let read = |name: &str, data: &str| Change::read(List::Adapters, &event(name, data));
    let whole = serde_json::to_string(&adapter("a", "x", &[])).unwrap();
    let snapshot = format!(r#"{{"revision":"1","adapters":[{whole}],"later":1}}"#);
    assert!(matches!(read("snapshot", &snapshot), Ok(Some(Change::Adapters(Listed::All(all)))) if all.len() == 1));
    assert!(matches!(read("upsert", &whole), Ok(Some(Change::Adapters(Listed::Put(_))))));
    let gone = r#"{"namespace":"a","name":"x"}"#;
    assert!(matches!(read("delete", gone), Ok(Some(Change::Adapters(Listed::Gone(gone)))) if gone.name == "x"));
    assert!(matches!(read("news", "whatever"), Ok(None)));
    assert!(read("snapshot", "[]").is_err());
    assert!(read("snapshot", r#"{"adapters":{}}"#).is_err());
    assert!(read("delete", "x").is_err());
}

#[test]
fn i11_one_object_that_cannot_be_understood_is_left_out_alone() {
    let whole = serde_json::to_string(&adapter("a", "x", &[])).unwrap();
    let snapshot = event("snapshot", format!(r#"{{"adapters":[{whole},{{"namespace":"a","name":7}},null]}}"#));
    let read = Change::read(List::Adapters, &snapshot);
    assert!(matches!(read, Ok(Some(Change::Adapters(Listed::All(all)))) if all.len() == 1));
    let upsert = event("upsert", r#"{"namespace":"a","name":"x","phase":{}}"#);
    let read = Change::read(List::Adapters, &upsert);
    assert!(
        matches!(read, Ok(Some(Change::Adapters(Listed::Gone(gone)))) if gone.name == "x"),
        "its old routes are not kept"
    );
    let upsert = event("upsert", r#"{"namespace":"a","engine":"e1","ready":"maybe"}"#);
    let read = Change::read(List::Engines, &upsert);
    assert!(matches!(read, Ok(Some(Change::Engines(Listed::Gone(gone)))) if gone.name == "e1"));
}

/// A change, as (what, which, variant).
fn any_change() -> impl Strategy<Value = (u8, usize, bool)> {
    (0_u8..4, 0_usize..3, any::<bool>())
}

proptest! {
    #[test]
    fn changes_one_by_one_lead_to_the_table_of_the_whole(changes in proptest::collection::vec(any_change(), 0..30)) {
        let mut state = State::new(BTreeSet::new());
        let (mut adapters, mut engines) = (BTreeMap::new(), BTreeMap::new());
        state.apply(all_adapters(Vec::new()));
        state.apply(Change::Engines(Listed::All(Vec::new())));
        for (what, which, variant) in changes {
            let name = format!("n{which}");
            let gone = fleet::Gone { namespace: "a".into(), name: name.clone() };
            match what {
                0 => {
                    let adapter = adapter("a", &name, if variant { &["n0", "n1"] } else { &[] });
                    adapters.insert(name, adapter.clone());
                    state.apply(Change::Adapters(Listed::Put(Box::new(adapter))));
                }
                1 => {
                    let engine = engine(&name, variant);
                    engines.insert(name, engine.clone());
                    state.apply(Change::Engines(Listed::Put(Box::new(engine))));
                }
                2 => {
                    adapters.remove(&name);
                    state.apply(Change::Adapters(Listed::Gone(gone)));
                }
                _ => {
                    engines.remove(&name);
                    state.apply(Change::Engines(Listed::Gone(gone)));
                }
            }
            let (adapters, engines): (Vec<_>, Vec<_>) = (adapters.values().cloned().collect(), engines.values().cloned().collect());
            prop_assert_eq!(state.table(), Some(table_from_fleet(&adapters, &engines)));
        }
    }
}

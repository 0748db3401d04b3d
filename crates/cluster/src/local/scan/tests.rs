use std::os::unix::fs::symlink;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(99);

struct Place {
    directory: tempfile::TempDir,
    scanner: Scanner,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let named = directory.path().join("m");
        fs::create_dir(&named).unwrap();
        let scanner = Scanner::new(&[named], Some(&directory.path().join("engines")));
        fs::write(directory.path().join("engines"), "").unwrap();
        Self { directory, scanner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("m").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// What one look takes in, in short: file names, with a `-` before what is gone and a `!` before what is unreadable.
    fn look(&mut self) -> Vec<String> {
        let scan = self.scanner.look(NOW);
        let name = |path: &Path| path.strip_prefix(self.path("")).unwrap().display().to_string();
        let read = scan.manifests.iter().map(|(path, _, parsed)| match parsed {
            Ok(parsed) => format!("{} {}", name(path), parsed.len()),
            Err(_) => format!("!{}", name(path)),
        });
        read.chain(scan.gone.iter().map(|path| format!("-{}", name(path)))).collect()
    }
}

const ONE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n";
const TWO: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Service\n";

#[test]
fn the_first_look_takes_in_every_manifest_of_a_directory() {
    let mut place = Place::new();
    for name in ["b.yaml", "a.yml", "deep/er/c.json", "notes.txt", ".hidden.yaml", ".git/d.yaml", "e.yaml~"] {
        place.write(name, ONE);
    }
    assert_eq!(place.look(), ["a.yml 1", "b.yaml 1", "deep/er/c.json 1"]);
    assert_eq!(place.look(), [""; 0]);
}

#[test]
fn the_files_of_an_adapter_that_lies_among_the_manifests_are_no_manifests() {
    let mut place = Place::new();
    for name in ["sql/adapter_config.json", "sql/tokenizer.json", "sql/a.yaml", "b.json"] {
        place.write(name, ONE);
    }
    assert_eq!(place.look(), ["b.json 1", "sql/a.yaml 1"]);
}

#[test]
fn at_the_first_look_files_are_ordered_by_when_they_were_written_later_by_when_they_appear() {
    let mut place = Place::new();
    place.write("a.yaml", ONE);
    let long_ago = UNIX_EPOCH + Duration::from_millis(1500);
    fs::File::options().write(true).open(place.path("a.yaml")).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(place.scanner.look(NOW).manifests[0].1, Timestamp::from_millis(1500));
    place.write("b.yaml", ONE);
    place.scanner.look(NOW);
    assert_eq!(place.scanner.look(NOW).manifests[0].1, NOW);
}

#[test]
fn a_change_is_taken_in_once_the_file_has_come_to_rest() {
    let mut place = Place::new();
    place.write("a.yaml", ONE);
    place.look();
    place.write("a.yaml", "");
    assert_eq!(place.look(), [""; 0], "emptied before it is written");
    place.write("a.yaml", TWO);
    assert_eq!(place.look(), [""; 0], "just written");
    assert_eq!(place.look(), ["a.yaml 2"]);
    assert_eq!(place.look(), [""; 0]);
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_a_change_and_no_deletion() {
    let mut place = Place::new();
    place.write("a.yaml", ONE);
    place.look();
    place.write("a.yaml.tmp", TWO);
    fs::rename(place.path("a.yaml.tmp"), place.path("a.yaml")).unwrap();
    assert_eq!(place.look(), [""; 0]);
    assert_eq!(place.look(), ["a.yaml 2"]);
    // Another way of the same: the old one is moved away first.
    fs::rename(place.path("a.yaml"), place.path("a.yaml~")).unwrap();
    assert_eq!(place.look(), [""; 0]);
    place.write("a.yaml", ONE);
    assert_eq!(place.look(), [""; 0]);
    assert_eq!(place.look(), ["a.yaml 1"]);
}

#[test]
fn a_file_that_stays_away_is_gone() {
    let mut place = Place::new();
    place.write("a.yaml", ONE);
    place.look();
    fs::remove_file(place.path("a.yaml")).unwrap();
    assert_eq!(place.look(), [""; 0]);
    assert_eq!(place.look(), ["-a.yaml"]);
    assert_eq!(place.look(), [""; 0]);
}

#[test]
fn links_are_followed_and_a_link_that_leads_back_is_followed_once() {
    let mut place = Place::new();
    // As a ConfigMap is mounted.
    place.write("..2024/a.yaml", ONE);
    symlink("..2024", place.path("..data")).unwrap();
    symlink("..data/a.yaml", place.path("a.yaml")).unwrap();
    place.write("sub/b.yaml", ONE);
    symlink("..", place.path("sub/up")).unwrap();
    symlink("sub", place.path("zlink")).unwrap();
    assert_eq!(place.look(), ["a.yaml 1", "sub/b.yaml 1"]);
    // An update swaps one link.
    place.write("..2025/a.yaml", TWO);
    symlink("..2025", place.path("..new")).unwrap();
    fs::rename(place.path("..new"), place.path("..data")).unwrap();
    assert_eq!(place.look(), [""; 0]);
    assert_eq!(place.look(), ["a.yaml 2"]);
}

#[test]
fn a_file_that_is_named_twice_is_read_once_and_needs_no_ending() {
    let mut place = Place::new();
    place.write("conf", ONE);
    place.write("a.yaml", ONE);
    let named = ["conf", "a.yaml", ""].map(|name| place.path(name));
    place.scanner = Scanner::new(&named, None);
    assert_eq!(place.look(), ["a.yaml 1", "conf 1"]);
}

#[test]
fn what_was_named_and_is_not_there_is_a_problem_until_it_is() {
    let mut place = Place::new();
    let late = place.path("late.yaml");
    place.scanner = Scanner::new(std::slice::from_ref(&late), None);
    let roots = place.scanner.look(NOW).roots.unwrap();
    assert_eq!(roots[&late][0].reason, "Unreadable");
    assert!(place.scanner.look(NOW).roots.is_none(), "said once");
    place.write("late.yaml", ONE);
    let scan = place.scanner.look(NOW);
    assert_eq!(scan.roots.unwrap()[&late], []);
    assert_eq!(place.look(), ["late.yaml 1"]);
}

#[test]
fn a_file_that_is_no_text_is_said_once_and_read_when_it_is() {
    let mut place = Place::new();
    fs::write(place.path("a.yaml"), b"\xff\xfe").unwrap();
    assert_eq!(place.look(), ["!a.yaml"]);
    assert_eq!(place.look(), [""; 0]);
    place.write("a.yaml", ONE);
    assert_eq!(place.look(), [""; 0]);
    assert_eq!(place.look(), ["a.yaml 1"]);
}

#[test]
fn the_engines_file_is_told_when_it_changes_and_when_it_is_gone() {
    let mut place = Place::new();
    let (engines, problems) = place.scanner.look(NOW).engines.unwrap().listed.unwrap();
    assert_eq!((engines, problems), (vec![], vec![]));
    assert!(place.scanner.look(NOW).engines.is_none());
    fs::write(place.directory.path().join("engines"), "- url: h:1\n").unwrap();
    assert!(place.scanner.look(NOW).engines.is_none(), "just written");
    assert_eq!(place.scanner.look(NOW).engines.unwrap().listed.unwrap().0.len(), 1);
    fs::remove_file(place.directory.path().join("engines")).unwrap();
    assert_eq!(place.scanner.look(NOW).engines.unwrap().listed.unwrap_err().reason, "Unreadable");
    assert!(place.scanner.look(NOW).engines.is_none(), "said once");
    fs::write(place.directory.path().join("engines"), "").unwrap();
    assert!(place.scanner.look(NOW).engines.is_none());
    assert!(place.scanner.look(NOW).engines.unwrap().listed.is_ok());
}

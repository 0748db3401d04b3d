//! The page about conditions is held against the code: no word that an object's status or an event can show is left
//! unexplained.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use xtask::Workspace;

/// Values of conditions, which explain themselves.
const VALUES: [&str; 3] = ["True", "False", "Unknown"];

#[test]
fn every_condition_reason_and_event_is_explained() {
    let root = Workspace::find().unwrap().root().to_path_buf();
    let page = |name: &str| fs::read_to_string(root.join("docs").join(name)).unwrap();
    let (conditions, common) = (page("conditions.md"), page("troubleshooting.md"));
    let mut words = BTreeSet::new();
    // The reconciler says nothing in such words but phases, conditions, reasons and events; a driver says other things too,
    // and its reasons are where faults are made.
    below(&root.join("crates/reconciler/src"), &mut |text| words.extend(quoted(text, |_| true)));
    below(&root.join("crates/cluster/src/kube"), &mut |text| words.extend(quoted(text, is_reason)));
    assert!(words.len() > 30 && words.contains("ModelAdapterAvailable"), "{words:?}");
    let explained = |word: &str| [&conditions, &common].iter().any(|page| page.contains(&format!("`{word}`")));
    let missing: Vec<_> = words.iter().filter(|word| !VALUES.contains(&word.as_str()) && !explained(word)).collect();
    assert!(missing.is_empty(), "neither docs/conditions.md nor docs/troubleshooting.md explains {missing:?}");
}

/// Whether what follows is the reason of a fault: the argument behind its scope.
fn is_reason(before: &str) -> bool {
    let Some((_, scope)) = before.rsplit_once("Scope::") else { return false };
    scope.trim_end().strip_suffix(',').is_some_and(|scope| scope.chars().all(char::is_alphabetic))
}

/// The CamelCase words in quotes of `text`, outside its tests, whose line begins as `wanted` says.
fn quoted(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut words = Vec::new();
    for line in code.lines() {
        let parts: Vec<&str> = line.split('"').collect();
        let mut before = String::new();
        for (at, part) in parts.iter().enumerate() {
            let camel = part.starts_with(|c: char| c.is_ascii_uppercase()) && part.len() > 2;
            let word =
                camel && part.chars().all(|c| c.is_ascii_alphabetic()) && part.contains(|c: char| c.is_lowercase());
            if at % 2 == 1 && word && wanted(&before) {
                words.push((*part).to_owned());
            }
            before.push_str(part);
        }
    }
    words
}

fn below(dir: &Path, read: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, read);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            read(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn words_are_read_from_code_and_not_from_tests() {
    let text = "set(\"Ready\", \"no word\"); Fault::new(Scope::Engine, \"NoSuch\", \"Text\")\n#[cfg(test)] \"Test\"";
    assert_eq!(quoted(text, |_| true), ["Ready", "NoSuch", "Text"]);
    assert_eq!(quoted(text, is_reason), ["NoSuch"]);
}

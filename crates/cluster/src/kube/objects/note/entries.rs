//! What is in a note, and how it changes. One data key for each entry; its value is JSON, for people and for a later
//! release of ours.

use std::collections::BTreeMap;

use longshore_api::labels;
use longshore_types::{AdapterName, Boot, EngineId, Namespace, Root, Timestamp};
use serde::{Deserialize, Serialize};

use super::NoteEntry;

/// Entries of one note at most, and their size. The API server takes 1 MiB; each entry is some 300 bytes.
const MOST_ENTRIES: usize = 1000;
const MOST_BYTES: usize = 500 * 1024;

/// One change that is wanted.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// Noted at this time.
    Add(NoteEntry, Timestamp),
    Remove(NoteEntry),
}

/// What is to be done with the ConfigMap.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// It is as it should be.
    Nothing,
    /// Nothing is left in it.
    Empty,
    /// These keys get these values, or go.
    Write(BTreeMap<String, Option<String>>),
}

/// An entry, and when it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    pub entry: NoteEntry,
    /// RFC 3339 in UTC, so that it sorts as text.
    pub since: String,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    engine: String,
    boot: String,
    adapter: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    since: String,
}

/// What to do so that a note with this data has these changes, one after another, and how many entries are dropped for
/// lack of room. What cannot be understood goes when the note is written the next time.
pub(super) fn plan(namespace: &Namespace, shown: &BTreeMap<String, String>, changes: &[Change]) -> (Plan, usize) {
    let mut wanted: BTreeMap<String, Noted> =
        shown.iter().filter_map(|(key, value)| Some((key.clone(), parse(namespace, value)?))).collect();
    let mut changed = false;
    for change in changes {
        match change {
            Change::Add(entry, now) => {
                wanted.entry(key(entry)).or_insert_with(|| {
                    changed = true;
                    Noted { entry: entry.clone(), since: now.to_string() }
                });
            }
            Change::Remove(entry) => changed |= wanted.remove(&key(entry)).is_some(),
        }
    }
    if !changed {
        return (Plan::Nothing, 0);
    }
    let mut data: BTreeMap<String, String> = wanted.iter().map(|(key, noted)| (key.clone(), value(noted))).collect();
    let dropped = make_room(&mut data, &wanted);
    if data.is_empty() {
        return (Plan::Empty, dropped);
    }
    let gone = shown.keys().filter(|key| !data.contains_key(*key)).map(|key| (key.clone(), None));
    let mut write: BTreeMap<_, _> = gone.collect();
    write.extend(data.into_iter().filter(|(key, _)| !shown.contains_key(key)).map(|(key, value)| (key, Some(value))));
    (if write.is_empty() { Plan::Nothing } else { Plan::Write(write) }, dropped)
}

/// The entry that is written so; none where it is none.
pub(super) fn parse(namespace: &Namespace, value: &str) -> Option<Noted> {
    let wire: Wire = serde_json::from_str(value).ok()?;
    let root = match (wire.digest, wire.root) {
        (Some(digest), None) => Root::Store(digest.parse().ok()?),
        (None, Some(root)) => Root::Other(root.into()),
        _ => return None,
    };
    let entry = NoteEntry {
        engine: EngineId::new(namespace.clone(), wire.engine),
        boot: Boot::new(wire.boot),
        name: AdapterName::new(&wire.adapter).ok()?,
        root,
    };
    Some(Noted { entry, since: wire.since })
}

/// Under which key it is kept: the same for the same entry, another one for any other.
fn key(entry: &NoteEntry) -> String {
    labels::owned_name(entry.name.as_str(), &[&entry.engine.name, entry.boot.as_str(), &entry.root.to_string()])
}

fn value(noted: &Noted) -> String {
    let NoteEntry { engine, boot, name, root } = &noted.entry;
    let (digest, root) = match root {
        Root::Store(digest) => (Some(digest.to_string()), None),
        Root::Other(root) => (None, Some(root.to_string())),
    };
    let wire = Wire {
        engine: engine.name.to_string(),
        boot: boot.to_string(),
        adapter: name.to_string(),
        digest,
        root,
        since: noted.since.clone(),
    };
    serde_json::to_string(&wire).expect("a struct of texts is JSON")
}

/// Drops the oldest entries until the rest has room. Returns how many.
fn make_room(data: &mut BTreeMap<String, String>, noted: &BTreeMap<String, Noted>) -> usize {
    let mut bytes: usize = data.iter().map(|(key, value)| key.len() + value.len()).sum();
    let mut oldest: Vec<_> = noted.iter().map(|(key, noted)| (noted.since.as_str(), key)).collect();
    oldest.sort_unstable();
    let mut dropped = 0;
    for (_, key) in oldest {
        if data.len() <= MOST_ENTRIES && bytes <= MOST_BYTES {
            break;
        }
        if let Some(value) = data.remove(key) {
            bytes -= key.len() + value.len();
            dropped += 1;
        }
    }
    dropped
}

#[cfg(test)]
mod tests;

//! What a live table shows of what has happened.

use std::collections::{BTreeMap, VecDeque};

use longshore_cluster::local::Change;
use longshore_types::Timestamp;

/// Lines that are kept.
pub const RECENT: usize = 6;

/// What has happened, as far as it is shown.
#[derive(Debug, Default)]
pub struct Happened {
    /// The last few lines, whatever they are about.
    recent: VecDeque<String>,
    /// What is wrong with files now: when it was said, and the words. No table shows it, and other lines soon push it
    /// out.
    files: BTreeMap<String, (Timestamp, Vec<String>)>,
}

impl Happened {
    /// Takes in a line.
    pub fn remember(&mut self, change: &Change) {
        let at = change.at.to_string();
        // Of an RFC 3339 time, what a person who looks on needs.
        let time = at.get(11..).unwrap_or(&at);
        let mark = if change.warning { "warning: " } else { "" };
        self.recent.push_back(format!("{time} {mark}{change}"));
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
        // Files are named by absolute paths, with a line or not.
        if change.subject.starts_with('/') {
            self.remember_file(change);
        }
    }

    /// The last lines, oldest first.
    pub fn recent(&self) -> &VecDeque<String> {
        &self.recent
    }

    /// What is wrong with files now.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.values().flat_map(|(_, words)| words).map(String::as_str)
    }

    fn remember_file(&mut self, change: &Change) {
        let is_line = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let path = match change.subject.rsplit_once(':') {
            Some((path, line)) if is_line(line) => path,
            _ => &change.subject,
        };
        if !change.warning {
            self.files.remove(path);
            return;
        }
        let (at, words) = self.files.entry(path.to_owned()).or_default();
        // What was said at another time may have been put right since, and something else is wrong now.
        if *at != change.at {
            words.clear();
        }
        *at = change.at;
        let name = change.subject.rsplit_once('/').map_or(change.subject.as_str(), |(_, name)| name);
        words.push(format!("{name}: {}", change.text));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::lines::tests::change;
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_shown_until_it_is_put_right() {
        let mut happened = Happened::default();
        let later = |millis, change: Change| Change { at: change.at + Duration::from_millis(millis), ..change };
        let shown = |happened: &Happened| happened.files().map(str::to_owned).collect::<Vec<_>>();
        happened.remember(&change(true, "/m/a.yaml:3", "no name"));
        happened.remember(&change(true, "/m/a.yaml:9", "no spec"));
        happened.remember(&change(true, "/m/gone", "cannot be read"));
        happened.remember(&change(true, "default/sql", "Failed"));
        assert_eq!(shown(&happened), ["a.yaml:3: no name", "a.yaml:9: no spec", "gone: cannot be read"]);
        happened.remember(&later(1, change(true, "/m/a.yaml:4", "no kind")));
        assert_eq!(shown(&happened), ["a.yaml:4: no kind", "gone: cannot be read"]);
        happened.remember(&later(2, change(false, "/m/a.yaml", "is fine now")));
        assert_eq!(shown(&happened), ["gone: cannot be read"]);
    }
}

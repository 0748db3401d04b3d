//! Invariants: each of ARCHITECTURE.md's that can be tested without a cluster is named by a test, as in
//! `i4_nothing_is_left_after_deletion`.

use std::collections::BTreeMap;
use std::fmt;

use super::finding::Finding;
use super::tokens::{attribute, marks_test_function};
use super::tree::Tree;

/// The invariants that tests without a cluster must name.
pub const INVARIANTS: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// Which tests name which invariant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// By invariant: crate and function of every test that runs by itself. An ignored test shows nothing.
    pub tests: BTreeMap<u8, Vec<(String, String)>>,
}

impl Naming {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut tests: BTreeMap<u8, Vec<_>> = BTreeMap::new();
        for source in &tree.sources {
            let (mut at, mut is_test, mut is_ignored) = (0, false, false);
            while at < source.tokens.len() {
                if let Some((inside, length)) = attribute(&source.tokens[at..]) {
                    is_test |= marks_test_function(inside);
                    is_ignored |= inside.first().is_some_and(|first| first.text == "ignore");
                    at += length;
                    continue;
                }
                let text = source.tokens[at].text.as_str();
                if text == "fn" {
                    let name = source.tokens.get(at + 1).map_or("", |name| name.text.as_str());
                    if let Some(invariant) = invariant(name).filter(|_| is_test && !is_ignored) {
                        tests.entry(invariant).or_default().push((source.krate().to_owned(), name.to_owned()));
                    }
                }
                if matches!(text, "fn" | ";" | "{" | "}") {
                    (is_test, is_ignored) = (false, false);
                }
                at += 1;
            }
        }
        Self { tests }
    }

    /// One finding for each required invariant that no test names.
    pub fn missing(&self) -> Vec<Finding> {
        let missing = INVARIANTS.iter().filter(|invariant| !self.tests.contains_key(invariant));
        missing
            .map(|i| {
                Finding::new("ARCHITECTURE.md", None, format!("I{i} is named by no test: none begins with `i{i}_`"))
            })
            .collect()
    }
}

/// One line for each test, and one for each required invariant without any.
impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.tests.values().flatten().map(|(krate, _)| krate.len()).max().unwrap_or(0);
        for invariant in INVARIANTS {
            match self.tests.get(invariant) {
                None => writeln!(f, "I{invariant:<3} no test")?,
                Some(tests) => {
                    for (krate, test) in tests {
                        writeln!(f, "I{invariant:<3} {krate:width$}  {test}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The number in a name like `i4_nothing_is_left`.
fn invariant(name: &str) -> Option<u8> {
    let (number, rest) = name.strip_prefix('i')?.split_once('_')?;
    number.parse().ok().filter(|number| INVARIANTS.contains(number) && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invariant_is_named_by_the_beginning_of_a_name() {
        assert_eq!(invariant("i4_nothing_is_left"), Some(4));
        assert_eq!(invariant("i12_it_converges"), Some(12));
        assert_eq!(invariant("i13_is_not_one_of_ours"), None);
        assert_eq!(invariant("i_am_not_one"), None);
        assert_eq!(invariant("i4"), None);
    }
}

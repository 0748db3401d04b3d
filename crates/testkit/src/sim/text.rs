//! What the simulated engine answers: words that depend on the adapter's bytes and on the prompt, and on nothing else.

use longshore_types::Digest;
use sha2::{Digest as _, Sha256};

/// The words that answers are made of.
const WORDS: [&str; 16] = [
    "anchor", "berth", "buoy", "cargo", "crane", "deck", "ferry", "gangway", "harbour", "hull", "jetty", "keel",
    "mast", "quay", "rudder", "tide",
];

/// The `index`-th token of an answer.
///
/// The first is the beginning of the adapter's digest, as [`Digest::short`] gives it, or the base model's name; so a
/// test sees from the text which bytes answered.
pub(super) fn token(adapter: Option<Digest>, base: &str, prompt: &str, choice: usize, index: usize) -> String {
    if index == 0 {
        return adapter.map_or_else(|| base.to_owned(), |digest| digest.short());
    }
    let mut hash = Sha256::new();
    hash.update(adapter.map_or([0; 32], |digest| *digest.as_bytes()));
    hash.update(format!("{choice}\0{index}\0{prompt}"));
    format!(" {}", WORDS[usize::from(hash.finalize()[0] % 16)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(adapter: Option<Digest>, prompt: &str) -> String {
        (0..12).map(|index| token(adapter, "tiny-base", prompt, 0, index)).collect()
    }

    #[test]
    fn an_answer_depends_on_the_bytes_and_the_prompt_alone() {
        let (a, b) = (Some(Digest::from_bytes([1; 32])), Some(Digest::from_bytes([2; 32])));
        assert_eq!(answer(a, "x"), answer(a, "x"));
        assert_ne!(answer(a, "x"), answer(b, "x"));
        assert_ne!(answer(a, "x"), answer(a, "y"));
        assert!(answer(a, "x").starts_with("010101010101 "));
        assert!(answer(None, "x").starts_with("tiny-base "));
    }
}

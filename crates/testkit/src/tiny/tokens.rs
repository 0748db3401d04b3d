//! The tiny model's tokenizer: byte-level pair encoding with the merges in `merges.txt`.
//!
//! The maker of the real tiny model reads the same file, so the simulated engine counts tokens as the real one does.

use std::collections::HashMap;
use std::sync::LazyLock;

/// `<s>`, `</s>`, `<|user|>`, `<|assistant|>`: tokens 0 to 3, before the 256 bytes.
const SPECIAL: [&str; 4] = ["<s>", "</s>", "<|user|>", "<|assistant|>"];

struct Vocabulary {
    /// The bytes of each token, by its number.
    bytes: Vec<Vec<u8>>,
    /// The token of a single byte.
    of_byte: [u32; 256],
    /// What a pair of tokens merges into. A lower number is merged earlier.
    merges: HashMap<(u32, u32), u32>,
}

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    // Byte-level encoders write each byte as a printable character: itself where it has one, else the next from U+0100.
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 0x100;
    let mut alphabet: Vec<(char, u8)> = (0..=255)
        .map(|b| {
            let shown = if printable(b) { u32::from(b) } else { next };
            next += u32::from(!printable(b));
            (char::from_u32(shown).unwrap_or_default(), b)
        })
        .collect();
    alphabet.sort_unstable();
    let mut bytes: Vec<Vec<u8>> = SPECIAL.iter().map(|s| s.as_bytes().to_vec()).collect();
    let mut of_byte = [0; 256];
    let mut by_text = HashMap::new();
    for (shown, byte) in alphabet {
        let id = number(bytes.len());
        of_byte[usize::from(byte)] = id;
        by_text.insert(shown.to_string(), id);
        bytes.push(vec![byte]);
    }
    let mut merges = HashMap::new();
    for (left, right) in include_str!("merges.txt").lines().filter_map(|line| line.split_once(' ')) {
        let id = number(bytes.len());
        let (a, b) = (by_text[left], by_text[right]);
        merges.insert((a, b), id);
        bytes.push([bytes[a as usize].as_slice(), &bytes[b as usize]].concat());
        by_text.insert(format!("{left}{right}"), id);
    }
    Vocabulary { bytes, of_byte, merges }
});

fn number(index: usize) -> u32 {
    u32::try_from(index).expect("the vocabulary has a few hundred tokens")
}

/// The tokens of `text`. The names of the special tokens are recognised in it, as the real tokenizer does.
pub fn encode(text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let special = SPECIAL.iter().enumerate().filter_map(|(id, s)| rest.find(s).map(|at| (at, id))).min();
        let (plain, found) = special.map_or((rest, None), |(at, id)| (&rest[..at], Some(id)));
        for piece in pieces(plain) {
            merge(piece, &mut tokens);
        }
        rest = &rest[plain.len()..];
        if let Some(id) = found {
            tokens.push(number(id));
            rest = &rest[SPECIAL[id].len()..];
        }
    }
    tokens
}

/// The text of `tokens`; what is not UTF-8 is shown as U+FFFD. Unknown and special tokens have no text.
pub fn decode(tokens: &[u32]) -> String {
    let plain = tokens.iter().filter(|id| **id as usize >= SPECIAL.len());
    let bytes: Vec<u8> = plain.filter_map(|id| VOCABULARY.bytes.get(*id as usize)).flatten().copied().collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn merge(piece: &str, tokens: &mut Vec<u32>) {
    let vocabulary = &*VOCABULARY;
    let mut word: Vec<u32> = piece.bytes().map(|b| vocabulary.of_byte[usize::from(b)]).collect();
    let best = |word: &[u32]| {
        let pairs = word.windows(2).enumerate();
        pairs.filter_map(|(at, pair)| vocabulary.merges.get(&(pair[0], pair[1])).map(|id| (*id, at))).min()
    };
    while let Some((id, at)) = best(&word) {
        word[at] = id;
        word.remove(at + 1);
    }
    tokens.append(&mut word);
}

/// Splits as byte-level encoders do: contractions, then runs of letters, digits or other signs, each with one space
/// before it, and whitespace, whose last space goes to the word behind it.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = contraction(rest).or_else(|| run(rest)).unwrap_or_else(|| {
            let blank = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
            match rest[..blank].char_indices().next_back() {
                Some((last, _)) if blank < rest.len() && last > 0 => last,
                _ => blank.max(first.len_utf8()),
            }
        });
        let (piece, behind) = rest.split_at(length);
        out.push(piece);
        rest = behind;
    }
    out
}

fn contraction(text: &str) -> Option<usize> {
    ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].iter().find(|c| text.starts_with(**c)).map(|c| c.len())
}

fn run(text: &str) -> Option<usize> {
    let space = usize::from(text.starts_with(' '));
    let class = |c: char| match c {
        c if c.is_whitespace() => None,
        c if c.is_alphabetic() => Some(0),
        c if c.is_numeric() => Some(1),
        _ => Some(2),
    };
    let body = &text[space..];
    let kind = class(body.chars().next()?)?;
    Some(space + body.find(|c| class(c) != Some(kind)).unwrap_or(body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the `tokenizers` library answered for the same merges.
    #[test]
    fn text_is_split_as_the_real_tokenizer_splits_it() {
        for (text, tokens) in [
            ("hello world the adapter", &[288, 326, 289, 322][..]),
            (" hello", &[323]),
            (
                "don't  stop 12 !?\n\n x",
                &[71, 82, 81, 10, 87, 224, 224, 86, 333, 83, 224, 20, 21, 224, 4, 34, 202, 202, 224, 91],
            ),
            ("é", &[131, 106]),
        ] {
            assert_eq!(encode(text), tokens, "{text:?}");
        }
    }

    #[test]
    fn tokens_read_back_as_their_text() {
        for text in ["hello world", "naïve  ☃\n\tcafé", "", "'ve 've"] {
            assert_eq!(decode(&encode(text)), text);
        }
        assert_eq!(encode("<s><|user|>x<|assistant|>"), [0, 2, 91, 3]);
    }
}

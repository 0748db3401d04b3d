//! Texts from outside, before they are shown or believed.

/// What is odd about `text`: characters that are not seen, or that make the rest look other than it is.
pub(crate) fn odd(text: &str) -> Option<&'static str> {
    text.chars().find_map(odd_character)
}

fn odd_character(c: char) -> Option<&'static str> {
    match c {
        '\t' | '\n' | '\r' => None,
        c if c.is_control() => Some("control characters"),
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some("characters that turn the direction of writing")
        }
        '\u{200b}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}' => {
            Some("invisible characters")
        }
        '\u{fffe}' | '\u{ffff}' | '\u{fffd}' => Some("characters that are none, as a file in another encoding has"),
        _ => None,
    }
}

/// A key as messages and logs show it: short, on one line, and nothing that makes the rest look other than it is.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String =
        text.chars().filter(|c| !c.is_control() && odd_character(*c).is_none()).take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_without_what_would_change_the_line_around_it() {
        assert_eq!(shown("a\u{202e}b\r\n\u{7}c\u{200b}\u{1f600}"), "abc\u{1f600}");
        assert_eq!(shown(&"x".repeat(100)), format!("{}…", "x".repeat(80)));
    }
}

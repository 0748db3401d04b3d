//! The commands of a small shell script, as far as they can be told without running it.

use super::env::{Env, reference};

/// How deep defaults may lie in each other: `${A:-${B:-c}}` is two.
const DEEPEST: u8 = 4;

/// The simple commands of `script`, each as its words, with the variables that are known put in. What a script sets for
/// itself is known from there on. Whatever branches, loops or is computed is read as if it simply followed, which is
/// enough to find an engine's flags in the scripts that people put into manifests.
pub(super) fn commands(script: &str, env: &mut Env) -> Vec<Vec<String>> {
    let mut reader = Reader { rest: script, env, commands: Vec::new(), command: Vec::new(), word: None, skip: false };
    reader.read();
    reader.commands
}

struct Reader<'a> {
    rest: &'a str,
    env: &'a mut Env,
    commands: Vec<Vec<String>>,
    command: Vec<String>,
    /// The word that is being read; an empty one in quotes is a word too.
    word: Option<String>,
    /// Whether the next word is the target of a redirection.
    skip: bool,
}

impl Reader<'_> {
    fn read(&mut self) {
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.push(escaped),
                },
                '\'' => {
                    let quoted = self.until('\'');
                    self.push_str(&quoted);
                }
                '"' => self.double_quoted(),
                '`' => {
                    let computed = self.until('`');
                    self.push_str(&format!("`{computed}`"));
                }
                '$' => {
                    let value = self.variable();
                    self.push_split(&value);
                }
                '#' if self.word.is_none() => {
                    self.until('\n');
                    self.end_command();
                }
                '<' | '>' => {
                    // The number before it is that of a file, no argument.
                    if self.word.as_ref().is_some_and(|word| word.bytes().all(|b| b.is_ascii_digit())) {
                        self.word = None;
                    }
                    self.end_word();
                    self.redirection();
                }
                '&' if self.rest.starts_with('>') => {
                    self.end_word();
                    self.redirection();
                }
                '\n' | ';' | '&' | '|' | '(' | ')' => self.end_command(),
                c if c.is_whitespace() => self.end_word(),
                c => self.push(c),
            }
        }
        self.end_command();
    }

    fn redirection(&mut self) {
        self.rest = self.rest.trim_start_matches(['<', '>', '&', '|']);
        self.skip = true;
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        Some(c)
    }

    /// All up to `end`, which is passed over.
    fn until(&mut self, end: char) -> String {
        let (text, rest) = self.rest.split_once(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        text.to_owned()
    }

    fn double_quoted(&mut self) {
        self.push_str("");
        while let Some(c) = self.next() {
            match c {
                '"' => return,
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => self.push(escaped),
                    Some(other) => self.push_str(&format!("\\{other}")),
                },
                '$' => {
                    let value = self.variable();
                    self.push_str(&value);
                }
                c => self.push(c),
            }
        }
    }

    /// What stands behind a `$`.
    fn variable(&mut self) -> String {
        if let Some(inner) = self.rest.strip_prefix('{') {
            let end = balanced(inner, '{', '}');
            let (inside, rest) = inner.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            return braces(self.env, inside, 0);
        }
        if let Some(inner) = self.rest.strip_prefix('(') {
            let (inside, rest) = inner.split_at(balanced(inner, '(', ')'));
            self.rest = rest.get(1..).unwrap_or_default();
            return format!("$({inside})");
        }
        let end = name_length(self.rest);
        if end == 0 {
            return "$".to_owned();
        }
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.env.text(name).map_or_else(|| reference(name), str::to_owned)
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn push_str(&mut self, text: &str) {
        self.word.get_or_insert_default().push_str(text);
    }

    /// A value outside quotes becomes as many words as it has.
    fn push_split(&mut self, value: &str) {
        if value.contains('$') || !value.contains(char::is_whitespace) {
            if !value.is_empty() {
                self.push_str(value);
            }
            return;
        }
        if value.starts_with(char::is_whitespace) {
            self.end_word();
        }
        for (index, word) in value.split_whitespace().enumerate() {
            if index > 0 {
                self.end_word();
            }
            self.push_str(word);
        }
        if value.ends_with(char::is_whitespace) {
            self.end_word();
        }
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if std::mem::take(&mut self.skip) {
            return;
        }
        // `NAME=value` before a command, and behind `export` or `env`.
        let sets = self.command.is_empty() || self.command.iter().all(|word| word == "export" || word == "env");
        match word.split_once('=') {
            Some((name, value)) if sets && !name.is_empty() && name_length(name) == name.len() => {
                self.env.set(name, value.to_owned());
            }
            _ => self.command.push(word),
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.skip = false;
        let command = std::mem::take(&mut self.command);
        if !command.is_empty() {
            self.commands.push(command);
        }
    }
}

/// What `${inside}` is: a variable, or its default where it has no value.
fn braces(env: &Env, inside: &str, depth: u8) -> String {
    let (name, rest) = inside.split_at(name_length(inside));
    let default = [":-", ":=", "-", "="].iter().find_map(|operator| rest.strip_prefix(operator));
    let empty_counts = !rest.starts_with(':');
    match (env.get(name).is_some(), env.text(name)) {
        (_, Some(value)) if rest.is_empty() || default.is_some() && (empty_counts || !value.is_empty()) => {
            value.to_owned()
        }
        // It has a value, which is not known here; and whatever else the shell makes of values is left alone.
        (true, None) if rest.is_empty() || default.is_some() => reference(name),
        (false, None) if rest.is_empty() => reference(name),
        _ => match default {
            Some(default) if depth < DEEPEST => nested(env, default.trim_matches('"'), depth + 1),
            _ => format!("${{{inside}}}"),
        },
    }
}

/// A default, with the variables in it.
fn nested(env: &Env, text: &str, depth: u8) -> String {
    let Some((before, behind)) = text.split_once("${") else { return text.to_owned() };
    let (inside, rest) = behind.split_at(balanced(behind, '{', '}'));
    format!("{before}{}{}", braces(env, inside, depth), rest.get(1..).unwrap_or_default())
}

/// Where the bracket that is open before `text` closes, or the end.
fn balanced(text: &str, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            if depth == 0 {
                return at;
            }
            depth -= 1;
        }
    }
    text.len()
}

/// How long a variable's name at the beginning of `text` is.
fn name_length(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env() -> Env {
        let mut env = Env::default();
        env.set("N", "4".to_owned());
        env.set("ARGS", "--a 1  --b".to_owned());
        env.set("EMPTY", String::new());
        env
    }

    fn read(script: &str) -> Vec<Vec<String>> {
        commands(script, &mut env())
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        for (script, words) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            ("'a b' \"c d\" e\\ f", &["a b", "c d", "e f"]),
            ("a'b'\"c\"", &["abc"]),
            ("x '' \"\"", &["x", "", ""]),
            ("a \\\n  b", &["a", "b"]),
            ("'$N' \"$N\" $N ${N}", &["$N", "4", "4", "4"]),
            ("x$ARGS", &["x--a", "1", "--b"]),
            ("\"$ARGS\"", &["--a 1  --b"]),
            ("x $EMPTY y", &["x", "y"]),
            ("${M:-7} ${EMPTY:-8} ${EMPTY-9}z ${M:-${N:-5}}", &["7", "8", "z", "4"]),
            ("$KEY ${KEY} \"\\$N\" $", &["$(KEY)", "$(KEY)", "$N", "$"]),
            ("a # b\nc", &["a"]),
            ("a#b", &["a#b"]),
            ("run >log 2>&1 --x", &["run", "--x"]),
            ("run < in --x", &["run", "--x"]),
            ("run &>log --x", &["run", "--x"]),
            ("a $(hostname -i) `date`", &["a", "$(hostname -i)", "`date`"]),
            ("ä 'ö ü'", &["ä", "ö ü"]),
        ] {
            assert_eq!(read(script).first().map(Vec::as_slice), Some(words.map_to_strings().as_slice()), "{script}");
        }
    }

    trait Strings {
        fn map_to_strings(&self) -> Vec<String>;
    }

    impl Strings for [&str] {
        fn map_to_strings(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }

    #[test]
    fn a_script_is_the_commands_that_it_has() {
        let commands = read("set -e; export M=3\nN=5 x && y --n $M || (z $N) &");
        assert_eq!(commands, [&["set", "-e"][..], &["export"], &["x"], &["y", "--n", "3"], &["z", "5"]]);
    }

    #[test]
    fn an_open_quote_or_bracket_ends_with_the_script() {
        for script in ["a 'b", "a \"b", "a ${b", "a $(b", "a `b", "a \\", "a >"] {
            assert_eq!(read(script).first().and_then(|words| words.first()).map(String::as_str), Some("a"), "{script}");
        }
    }

    proptest! {
        #[test]
        fn no_script_is_too_odd(script in "[a-z$(){}:;&|<>='\"`#\\\\ \n\t0-9äN-]{0,80}|\\PC{0,80}") {
            read(&script);
        }
    }
}

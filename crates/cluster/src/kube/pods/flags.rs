//! How a container starts its engine: which software, with which flags.

use longshore_types::EngineKind;

use super::env::Env;
use super::words;

/// How many shells may be started within each other.
const DEEPEST: u8 = 3;
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "zsh", "ksh"];

/// The command that starts an engine, or what an image's own entrypoint is given.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    /// Which engine's program the words name. `None` where they name none.
    pub(super) kind: Option<EngineKind>,
    /// The model that is named without a flag: `vllm serve MODEL`.
    pub(super) model: Option<String>,
    /// Whether anything is said at all.
    pub(super) any: bool,
    flags: Vec<(String, Vec<String>)>,
}

impl Flags {
    /// Reads a container's command and arguments. What a shell would set for the engine is set in `env`.
    pub(super) fn read(command: &[String], args: &[String], env: &mut Env) -> Self {
        let words: Vec<String> = command.iter().chain(args).map(|word| env.expand(word)).collect();
        let words = unwrapped(words, env, 0);
        let mut found = program(&words);
        // `vllm` and `python3 -m vllm…` are entrypoints of images, which are given what follows them alone.
        let bare = command.is_empty() && found.is_none();
        let start = match &mut found {
            Some((_, at)) => *at + 1,
            None => 0,
        };
        let behind = words.get(start..).unwrap_or_default();
        Self {
            kind: found.map(|(kind, _)| kind),
            model: positional(behind, bare),
            any: !words.is_empty(),
            flags: flags(behind),
        }
    }

    /// The first value of the last flag of that name, which is what an engine goes by.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let (_, values) = self.flags.iter().rev().find(|(flag, _)| flag == name)?;
        values.first().map(String::as_str)
    }

    /// Whether the flag is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|(flag, _)| flag == name)
    }

    /// A flag that is on or off: `--x`, `--no-x`, `--x=false`. The last one counts.
    pub(super) fn switch(&self, name: &str) -> Option<bool> {
        self.flags.iter().rev().find_map(|(flag, values)| {
            if flag == name {
                return Some(values.first().is_none_or(|value| !is_off(value)));
            }
            (flag.strip_prefix("no-") == Some(name)).then_some(false)
        })
    }
}

/// Whether a setting's text says no.
pub(super) fn is_off(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off" | "none")
}

/// The engine's own command where `words` start a shell that starts it, else `words`.
fn unwrapped(words: Vec<String>, env: &mut Env, depth: u8) -> Vec<String> {
    let Some(script) = script(&words).filter(|_| depth < DEEPEST) else { return words };
    let commands = words::commands(script, env);
    let mut best: Vec<String> = Vec::new();
    for command in commands {
        let command = unwrapped(command, env, depth + 1);
        // Others speak of it too, `echo starting vllm`: the engine is the one that is told the most.
        let rank = |words: &[String]| (program(words).is_some(), words.len());
        if rank(&command) > rank(&best) {
            best = command;
        }
    }
    best
}

/// What `sh -c` and its like are given.
fn script(words: &[String]) -> Option<&str> {
    let shell = words.iter().position(|word| SHELLS.contains(&base(word)))?;
    let options = words.get(shell + 1..)?;
    // `-c` may be one of several letters: `-lc`, `-euxo pipefail -c`.
    let at = options.iter().position(|word| is_short_option(word) && word.contains('c'))?;
    options.get(at + 1).map(String::as_str)
}

fn is_short_option(word: &str) -> bool {
    word.starts_with('-') && !word.starts_with("--") && word.len() > 1
}

/// The program that is an engine, and where it stands.
fn program(words: &[String]) -> Option<(EngineKind, usize)> {
    let kind = |word: &str| {
        let base = base(word);
        // A program in any folder, or a module of Python, which has no folders.
        let is = |name: &str| base == name || word.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        if is("vllm") {
            Some(EngineKind::Vllm)
        } else if is("sglang") {
            Some(EngineKind::Sglang)
        } else if base == "sim-engine" {
            Some(EngineKind::Simulated)
        } else {
            None
        }
    };
    let found = |(at, word): (usize, &String)| Some((kind(word)?, at));
    // A program stands before the first long flag; or behind one, for something that starts it, and then it is followed by
    // its command or is a module.
    let flag = words.iter().position(|word| word.starts_with("--")).unwrap_or(words.len());
    let before = words.iter().enumerate().take(flag).find_map(found);
    before.or_else(|| {
        let starts = |at: usize, word: &str| {
            base(word) != "vllm" && base(word) != "sglang" || words.get(at + 1).is_some_and(|next| next == "serve")
        };
        words.iter().enumerate().skip(flag).filter(|(at, word)| starts(*at, word)).find_map(found)
    })
}

fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// The model that is named without a flag, behind `serve` or first of all.
fn positional(words: &[String], bare: bool) -> Option<String> {
    let first = words.first()?;
    let model = if first == "serve" { words.get(1)? } else { first };
    ((first == "serve" || bare) && !model.starts_with('-')).then(|| model.clone())
}

/// The flags among `words` with what follows each. vLLM takes `--max_loras` and `--max-loras` for the same.
fn flags(words: &[String]) -> Vec<(String, Vec<String>)> {
    let mut flags: Vec<(String, Vec<String>)> = Vec::new();
    for word in words {
        if let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) {
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let name = name.to_ascii_lowercase().replace('_', "-");
            flags.push((name, value.map(str::to_owned).into_iter().collect()));
        } else if let Some((_, values)) = flags.last_mut() {
            values.push(word.clone());
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn read(command: &[&str], args: &[&str]) -> Flags {
        let mut env = Env::default();
        env.set("RANK", "64".to_owned());
        Flags::read(&strings(command), &strings(args), &mut env)
    }

    #[test]
    fn a_flag_is_found_however_it_is_written() {
        for args in [
            &["--max-lora-rank", "64"][..],
            &["--max-lora-rank=64"],
            &["--max_lora_rank", "64"],
            &["--max_lora_rank=64"],
            &["--max-lora-rank", "8", "--max-lora-rank", "64"],
            &["--max-lora-rank", "$(RANK)"],
            &["--served-model-name", "a", "b", "--max-lora-rank", "64", "--enable-lora"],
        ] {
            assert_eq!(read(&["vllm", "serve", "m"], args).value("max-lora-rank"), Some("64"), "{args:?}");
            assert_eq!(read(&[], args).value("max-lora-rank"), Some("64"), "{args:?}");
        }
        assert_eq!(read(&["vllm"], &["--max-lora-rank-2", "64"]).value("max-lora-rank"), None);
    }

    #[test]
    fn the_engine_is_found_in_whatever_starts_it() {
        use EngineKind::{Sglang, Simulated, Vllm};
        for (command, kind) in [
            (&["vllm", "serve", "m", "--port", "9"][..], Vllm),
            (&["python3", "-m", "vllm.entrypoints.openai.api_server", "--port", "9"], Vllm),
            (&["/opt/venv/bin/vllm", "serve", "--port=9"], Vllm),
            (&["bash", "-c", "vllm serve m --port 9"], Vllm),
            (&["/bin/bash", "-euxo", "pipefail", "-c", "vllm serve m --port 9"], Vllm),
            (&["tini", "--", "/bin/sh", "-lc", "set -e\nulimit -n 1\nexec vllm serve m \\\n  --port 9"], Vllm),
            (&["sh", "-c", "bash -c 'vllm serve m --port 9'"], Vllm),
            (&["sh", "-c", "export P=9; echo vllm; sleep 1 && vllm serve m --port $P"], Vllm),
            (&["numactl", "--cpunodebind=0", "vllm", "serve", "m", "--port", "9"], Vllm),
            (&["python3", "-m", "sglang.launch_server", "--port", "9"], Sglang),
            (&["longshore", "sim-engine", "--port", "9"], Simulated),
        ] {
            let flags = read(command, &[]);
            assert_eq!((flags.kind, flags.value("port")), (Some(kind), Some("9")), "{command:?}");
        }
        for command in
            [&["nginx"][..], &["serve", "--model", "vllm"], &["sh", "-c", "nginx --x"], &["sh"], &["sh", "-c"]]
        {
            assert_eq!(read(command, &[]).kind, None, "{command:?}");
        }
    }

    #[test]
    fn a_model_may_be_named_without_a_flag() {
        for (command, args, model) in [
            (&["vllm", "serve", "org/m"][..], &["--port", "9"][..], Some("org/m")),
            (&["vllm", "serve"], &["--port", "9"], None),
            (&[], &["org/m", "--port", "9"], Some("org/m")),
            (&[], &["serve", "org/m"], Some("org/m")),
            (&[], &["--model", "org/m"], None),
            (&["python3", "-m", "vllm.entrypoints.openai.api_server"], &["x"], None),
        ] {
            assert_eq!(read(command, args).model.as_deref(), model, "{command:?} {args:?}");
        }
    }

    #[test]
    fn a_switch_is_on_or_off_by_the_last_that_is_said() {
        for (args, expected) in [
            (&["--enable-lora"][..], Some(true)),
            (&["--enable_lora", "--max-loras", "4"], Some(true)),
            (&["--enable-lora", "--no-enable-lora"], Some(false)),
            (&["--enable-lora=False"], Some(false)),
            (&["--max-loras", "4"], None),
        ] {
            assert_eq!(read(&["vllm", "serve"], args).switch("enable-lora"), expected, "{args:?}");
        }
    }

    proptest! {
        #[test]
        fn no_command_is_too_odd(
            command in prop::collection::vec("sh|-c|vllm|serve|--|--[a-z_=-]{0,9}|\\PC{0,20}|[a-z$(){} ;'\"-]{0,40}", 0..6),
            args in prop::collection::vec("-c|--[a-z_=-]{0,9}|\\PC{0,20}", 0..6),
        ) {
            let flags = Flags::read(&command, &args, &mut Env::default());
            flags.switch("enable-lora");
            flags.value("port");
        }

        #[test]
        fn every_value_that_is_given_is_found(names in prop::collection::vec(("[a-z]{1,5}(-[a-z]{1,5})?", "[a-z0-9/.]{1,9}"), 1..8)) {
            let args: Vec<String> = names.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]).collect();
            let flags = Flags::read(&[], &args, &mut Env::default());
            for (name, _) in &names {
                let expected = names.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
                prop_assert_eq!(flags.value(name), expected);
            }
        }
    }
}

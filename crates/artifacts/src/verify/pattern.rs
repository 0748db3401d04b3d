//! PEFT's patterns for the names of modules.
//!
//! They are Python's regular expressions, written by whoever made the adapter. Here they are evaluated by an engine that
//! never goes back, so that its time grows with pattern times text, and only where both are small; where one is not, or uses
//! what that engine lacks, nobody is refused because of it. vLLM evaluates those of `rank_pattern` and `alpha_pattern` by
//! going back while everyone waits (`(a|aa)+c` never ended on a name with 60 `a`), so [`is_harmless`] lets only those
//! through that cannot take long there.

use std::cell::Cell;
use std::collections::BTreeMap;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ast::parse::ParserBuilder;
use regex_syntax::ast::{self, Ast, RepetitionKind};

use super::config::AdapterConfig;

/// Longer patterns are not evaluated. The longest that training tools write have 600 bytes.
const MAX_PATTERN: usize = 4 << 10;
/// Bytes that a compiled pattern may take: room for [`MAX_PATTERN`] without repetitions. `((a{1000}){1000}){1000}` would
/// take gigabytes.
const MAX_COMPILED: usize = 256 << 10;
/// Patterns of one adapter that are evaluated.
const MAX_PATTERNS: usize = 32;
/// Bytes of names that are matched for one adapter. A model of 80 layers has 25 KB of names.
const FUEL: usize = 64 << 10;
/// Groups and parentheses within each other.
const MAX_NEST: u32 = 64;

/// Whether an engine that tries one way after the other is soon done with `text`, whatever the name.
///
/// Only single characters may be repeated, four times in the pattern, which makes the time grow with the name's length to
/// the power of five at worst, and there may be eight choices. What we cannot read is not harmless.
pub(crate) fn is_harmless(text: &str) -> bool {
    if is_literal(text) {
        return true;
    }
    let parse = || ParserBuilder::new().nest_limit(MAX_NEST).build().parse(text).ok();
    text.len() <= MAX_PATTERN && parse().is_some_and(|ast| ast::visit(&ast, Choices::default()).is_ok())
}

/// Whether it is a name, and no more of a pattern than that its `.` stand for any character.
fn is_literal(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The choices that a pattern leaves.
#[derive(Default)]
struct Choices {
    repetitions: usize,
    branchings: usize,
}

impl ast::Visitor for Choices {
    type Output = ();
    type Err = ();

    fn finish(self) -> Result<(), ()> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), ()> {
        match ast {
            Ast::Repetition(repetition) => match (&repetition.op.kind, &*repetition.ast) {
                (RepetitionKind::ZeroOrOne, _) => self.branchings += 1,
                (_, Ast::Literal(_) | Ast::Dot(_) | Ast::ClassPerl(_) | Ast::ClassBracketed(_)) => {
                    self.repetitions += 1
                }
                _ => return Err(()),
            },
            Ast::Alternation(_) => self.branchings += 1,
            _ => {}
        }
        if self.repetitions <= 4 && self.branchings <= 8 { Ok(()) } else { Err(()) }
    }
}

/// How many more bytes of names may be matched.
#[derive(Debug)]
pub(crate) struct Fuel(Cell<usize>);

impl Default for Fuel {
    fn default() -> Self {
        Self(Cell::new(FUEL))
    }
}

/// One pattern.
#[derive(Debug)]
pub(crate) enum Pattern {
    /// It can be evaluated.
    Compiled(Regex),
    /// It is too long, or uses what the engine lacks.
    Unknown,
    /// It is short, but repeats so much that it would fill the memory.
    Explodes,
}

impl Pattern {
    /// Matches whole names, as `target_modules` does.
    pub(crate) fn whole(text: &str) -> Self {
        Self::compile(&format!(r"\A(?:{text})\z"), text.len())
    }

    /// Matches the end of names, from a `.` on, as `rank_pattern` does.
    pub(crate) fn tail(text: &str) -> Self {
        Self::compile(&format!(r"\A(?:.*\.)?(?:{text})\z"), text.len())
    }

    fn compile(text: &str, written: usize) -> Self {
        if written > MAX_PATTERN {
            return Self::Unknown;
        }
        let mut builder = RegexBuilder::new(text);
        // Without Unicode's classes, which would take most of the room: modules have ASCII names.
        builder.unicode(false).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).nest_limit(MAX_NEST);
        match builder.build() {
            Ok(regex) => Self::Compiled(regex),
            Err(regex::Error::CompiledTooBig(_)) => Self::Explodes,
            Err(_) => Self::Unknown,
        }
    }

    /// Whether it matches; none where that is not found out.
    pub(crate) fn matches(&self, name: &str, fuel: &Fuel) -> Option<bool> {
        let Self::Compiled(regex) = self else { return None };
        fuel.0.set(fuel.0.get().checked_sub(name.len())?);
        Some(regex.is_match(name.as_bytes()))
    }
}

/// The ranks that modules may have.
#[derive(Debug)]
pub(crate) struct Ranks<'a> {
    default: u32,
    /// By the end of the module's name.
    tails: BTreeMap<&'a str, u32>,
    patterns: Vec<(Pattern, u32)>,
}

impl<'a> Ranks<'a> {
    /// Those of `config`.
    pub(crate) fn of(config: &'a AdapterConfig) -> Self {
        let (literals, patterns): (Vec<_>, Vec<_>) = config.rank_pattern.iter().partition(|(key, _)| is_literal(key));
        let compiled = |(at, (key, rank)): (usize, (&String, &u32))| {
            (if at < MAX_PATTERNS { Pattern::tail(key) } else { Pattern::Unknown }, *rank)
        };
        let mut patterns: Vec<_> = patterns.into_iter().enumerate().map(compiled).collect();
        // What was not compiled says one thing only: that any module may have this rank.
        let is_unknown = |pattern: &Pattern| !matches!(pattern, Pattern::Compiled(_));
        patterns.sort_by_key(|(pattern, rank)| (is_unknown(pattern), *rank));
        patterns.dedup_by(|a, b| is_unknown(&a.0) && is_unknown(&b.0) && a.1 == b.1);
        Self {
            default: config.rank,
            tails: literals.into_iter().map(|(key, rank)| (key.as_str(), *rank)).collect(),
            patterns,
        }
    }

    /// The ranks that `module` may have, ascending: those of the patterns that match it, and of those that are not evaluated;
    /// where none surely matches, the adapter's own.
    pub(crate) fn of_module(&self, module: &str, fuel: &Fuel) -> Vec<u32> {
        let mut ranks: Vec<u32> = tails(module).filter_map(|tail| self.tails.get(tail).copied()).collect();
        let mut is_named = !ranks.is_empty();
        for (pattern, rank) in &self.patterns {
            match pattern.matches(module, fuel) {
                Some(false) => {}
                Some(true) => {
                    is_named = true;
                    ranks.push(*rank);
                }
                None => ranks.push(*rank),
            }
        }
        if !is_named {
            ranks.push(self.default);
        }
        ranks.sort_unstable();
        ranks.dedup();
        ranks
    }
}

/// `a.b.c`, `b.c` and `c` of `a.b.c`.
pub(crate) fn tails(module: &str) -> impl Iterator<Item = &str> {
    std::iter::once(module).chain(module.match_indices('.').map(|(at, _)| &module[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ranks(patterns: serde_json::Value, module: &str) -> Vec<u32> {
        let config =
            json!({"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": "x", "rank_pattern": patterns});
        let config = AdapterConfig::parse(config.to_string().as_bytes()).unwrap();
        Ranks::of(&config).of_module(module, &Fuel::default())
    }

    #[test]
    fn a_rank_pattern_goes_by_the_end_of_the_module_name() {
        let patterns = json!({"q_proj": 4, "layers.1.self_attn.v_proj": 2, r"mlp\..*": 32});
        for (module, expected) in [
            ("model.layers.0.self_attn.q_proj", 4),
            ("model.layers.1.self_attn.v_proj", 2),
            ("model.layers.11.self_attn.v_proj", 8),
            ("model.layers.0.self_attn.xq_proj", 8),
            ("model.layers.0.mlp.up_proj", 32),
            ("model.layers.0.xmlp.up_proj", 8),
        ] {
            assert_eq!(ranks(patterns.clone(), module), [expected], "{module}");
        }
    }

    #[test]
    fn patterns_that_are_not_evaluated_refuse_nobody() {
        for pattern in ["(?!model).*q_proj", r"(q)_\1", "(", &"(".repeat(1000), &"a|".repeat(4000)] {
            let pattern = Pattern::whole(pattern);
            assert_eq!(pattern.matches("model.q_proj", &Fuel::default()), None, "{pattern:?}");
        }
        let many: serde_json::Map<_, _> = (0..40).map(|n| (format!("[x]{n}"), json!(n + 100))).collect();
        assert_eq!(ranks(many.into(), "model.q_proj").len(), 40 - MAX_PATTERNS + 1);
    }

    #[test]
    fn patterns_that_would_fill_the_memory_are_told_apart() {
        assert!(matches!(Pattern::whole("((a{1000}){1000}){1000}"), Pattern::Explodes));
        assert!(matches!(Pattern::whole(&"model.layers.1|".repeat(270)), Pattern::Compiled(_)));
    }

    #[test]
    fn patterns_that_make_other_engines_explode_are_just_evaluated() {
        let fuel = Fuel::default();
        let name = "a".repeat(1000);
        for pattern in EXPLODING {
            assert!(Pattern::whole(pattern).matches(&name, &fuel).is_some(), "{pattern}");
        }
        assert!(fuel.0.get() > 0);
        while Pattern::whole("a+").matches(&name, &fuel).is_some() {}
        assert!(fuel.0.get() < 1000, "the fuel ends");
    }

    const EXPLODING: [&str; 7] = [
        "(a+)+$",
        "(a|a)*b",
        "(a|aa)+c",
        "(.*)*x",
        "(a?){30}a{30}",
        "a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaa",
        "(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)(a|aa)b",
    ];

    #[test]
    fn patterns_that_make_other_engines_explode_are_not_harmless() {
        for pattern in EXPLODING {
            assert!(!is_harmless(pattern), "{pattern}");
        }
        for pattern in ["(", r"(a)\1", "(?<=a)b", ".*.*.*.*.*x", &"[a]".repeat(2000), &"(".repeat(100_000)] {
            assert!(!is_harmless(pattern), "{pattern:.40}");
        }
        for pattern in [
            "q_proj",
            "model.layers.1.self_attn.q_proj",
            r"layers\.(0|1|2)\..*\.(q|k|v)_proj",
            r".*\.mlp\..*",
            r"^model\.layers\.[0-9]+\.(self_attn|mlp)\.\w+$",
        ] {
            assert!(is_harmless(pattern), "{pattern}");
        }
    }

    #[test]
    fn a_training_tools_pattern_for_a_language_model_is_evaluated() {
        let pattern = r"(?:.*?(?:language|text).*?(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense).*?(?:k_proj|v_proj|q_proj|out_proj|fc1|fc2|gate_proj|up_proj|down_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)\.(?:(?:k_proj|v_proj|q_proj|out_proj|fc1|fc2|gate_proj|up_proj|down_proj)))";
        let pattern = Pattern::whole(pattern);
        let fuel = Fuel::default();
        assert_eq!(pattern.matches("model.layers.31.self_attn.q_proj", &fuel), Some(true));
        assert_eq!(pattern.matches("model.layers.31.self_attn.o_proj", &fuel), Some(false));
        assert_eq!(pattern.matches("model.language_model.layers.0.mlp.up_proj", &fuel), Some(true));
    }

    #[test]
    fn the_ends_of_a_name_begin_behind_each_dot() {
        assert_eq!(Vec::from_iter(tails("a.b.c")), ["a.b.c", "b.c", "c"]);
        assert_eq!(Vec::from_iter(tails("a")), ["a"]);
    }
}

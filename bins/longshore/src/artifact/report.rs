//! What became of it, for people and for programs.

use std::path::{Path, PathBuf};

use longshore_artifacts::{EngineLimits, Error, Verified};
use longshore_types::Digest;
use serde::Serialize;

use super::{End, units};
use crate::args::Form;
use crate::table::{cut, one_line};
use crate::{complain, say};

/// Names that one line lists; the rest is counted.
const LISTED: usize = 12;
/// Of a name that somebody else has chosen.
const LONGEST: usize = 120;

/// What was done with what is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It was brought into the store.
    Pulled,
    /// It was looked at.
    Verified,
}

/// What became of an adapter.
#[derive(Clone, Debug)]
pub struct Outcome {
    what: String,
    path: Option<PathBuf>,
    verified: Option<Verified>,
    failure: Option<Failure>,
}

/// Why it is not good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// A CamelCase word from a closed set.
    pub reason: &'static str,
    /// One sentence: what is wrong and what to do.
    pub message: String,
    /// Whether it may be good later.
    pub transient: bool,
    /// The digest that it has, where that is what is wrong.
    pub found: Option<Digest>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let mut message = error.fault().message;
        if let Some(wait) = error.retry_after() {
            message.push_str(&format!("; it asks to be left alone for {}", units::time(wait)));
        }
        let found = if let Error::DigestMismatch { found, .. } = error { Some(*found) } else { None };
        Self { reason: error.reason(), message, transient: error.is_transient(), found }
    }
}

/// The object that `-o json` writes. Its fields are a promise.
#[derive(Serialize)]
struct Object<'a> {
    url: &'a str,
    digest: Option<String>,
    path: Option<&'a Path>,
    bytes: Option<u64>,
    rank: Option<u32>,
    reason: Option<&'static str>,
    message: Option<&'a str>,
}

impl Outcome {
    /// `what` is good.
    pub fn good(what: String, verified: Verified) -> Self {
        Self { what, path: None, verified: Some(verified), failure: None }
    }

    /// `what` is not.
    pub fn failed(what: String, failure: Failure) -> Self {
        Self { what, path: None, verified: None, failure: Some(failure) }
    }

    /// It stays there.
    pub fn kept_at(self, path: PathBuf) -> Self {
        Self { path: Some(path), ..self }
    }

    /// It stays nowhere.
    pub fn not_kept(self) -> Self {
        Self { path: None, ..self }
    }

    /// The same, refused where its rank is above `max`.
    pub fn limited(mut self, max: Option<u32>) -> Self {
        let limits = EngineLimits { max_rank: max, targets: None };
        if let (Some(verified), None) = (&self.verified, &self.failure)
            && let Err(defect) = limits.check(verified)
        {
            self.failure = Some((&Error::from(defect)).into());
        }
        self
    }

    /// The same with a further hint where nothing was found.
    pub fn hinted(mut self, hint: Option<String>) -> Self {
        if let (Some(failure), Some(hint)) = (&mut self.failure, hint)
            && failure.reason == "ArtifactNotFound"
        {
            failure.message.push_str(&format!("; {hint}"));
        }
        self
    }

    /// How the command ends.
    pub fn end(&self) -> End {
        match &self.failure {
            None => End::Good,
            Some(failure) if failure.transient => End::Transient,
            Some(_) => End::Refused,
        }
    }

    /// Writes it: what is good to standard output, what is not to standard error, JSON always to standard output.
    pub fn tell(&self, verb: Verb, base: Option<&Path>, form: Form, quiet: bool) -> End {
        match (form, &self.failure, quiet) {
            (Form::Json, ..) => say(&self.json()),
            (Form::Text, Some(_), _) => complain(&self.refusal()),
            (Form::Text, None, false) => self.description(verb, base).iter().for_each(|line| say(line)),
            (Form::Text, None, true) => self.path.iter().for_each(|path| say(&path.display().to_string())),
        }
        self.end()
    }

    fn json(&self) -> String {
        let (verified, failure) = (self.verified.as_ref(), self.failure.as_ref());
        let digest = verified.map(|verified| verified.digest).or(failure.and_then(|failure| failure.found));
        let object = Object {
            url: &self.what,
            digest: digest.map(|digest| digest.to_string()),
            path: self.path.as_deref(),
            bytes: verified.map(|verified| verified.bytes),
            rank: verified.map(|verified| verified.rank),
            reason: failure.map(|failure| failure.reason),
            message: failure.map(|failure| failure.message.as_str()),
        };
        serde_json::to_string(&object).expect("texts and numbers, and the store's path is UTF-8")
    }

    fn refusal(&self) -> String {
        let Some(Failure { reason, message, transient, .. }) = &self.failure else { return String::new() };
        let (how, advice) = if *transient { ("not now", "; try again later") } else { ("refused", "") };
        one_line(&format!("{}: {how}: {reason}: {message}{advice}", self.what))
    }

    fn description(&self, verb: Verb, base: Option<&Path>) -> Vec<String> {
        let Some(verified) = &self.verified else { return Vec::new() };
        let verdict = match verb {
            Verb::Pulled => "is in the store",
            Verb::Verified => "is a LoRA adapter that engines can load",
        };
        let mut lines = vec![format!("{} {verdict}", self.what)];
        let mut field = |name: &str, text: String| lines.push(format!("  {name:<11} {text}"));
        field("digest", verified.digest.to_string());
        field("rank", verified.rank.to_string());
        field("targets", listed(verified.targets.iter().map(String::as_str)));
        field("base model", base_model(verified, base));
        let file = |file: &longshore_artifacts::KeptFile| format!("{} ({})", file.name, units::bytes(file.size));
        field("files", listed(verified.files.iter().map(file)));
        field("bytes", verified.bytes.to_string());
        if let Some(path) = &self.path {
            field("path", path.display().to_string());
        }
        for (reason, message) in &verified.warnings {
            field("warning", format!("{reason}: {message}"));
        }
        lines.iter().map(|line| one_line(line)).collect()
    }
}

/// What the adapter says that it was trained on, and what is known about that.
fn base_model(verified: &Verified, base: Option<&Path>) -> String {
    let hint = verified.base_model_hint.as_deref();
    let hint = hint.map_or_else(|| "not named".to_owned(), |hint| cut(hint, LONGEST));
    match base {
        Some(base) => format!("{hint}; its layers fit --base {}", base.display()),
        None => hint,
    }
}

fn listed(names: impl ExactSizeIterator<Item = impl AsRef<str>>) -> String {
    let more = names.len().saturating_sub(LISTED);
    let mut text = names.take(LISTED).map(|name| cut(name.as_ref(), LONGEST)).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use longshore_artifacts::KeptFile;

    use super::*;

    fn verified() -> Verified {
        let file = |name: &str, size| KeptFile { name: name.into(), size, sha256: Digest::from_bytes([1; 32]) };
        Verified {
            digest: Digest::from_bytes([0xab; 32]),
            bytes: 84_000_713,
            rank: 16,
            targets: ["q_proj", "v_proj\u{1b}[2J"].map(String::from).into(),
            files: vec![file("adapter_config.json", 713), file("adapter_model.safetensors", 84_000_000)],
            base_model_hint: Some("org/base-7b".into()),
            warnings: vec![("NoEffect", "lora_alpha is 0, so the adapter changes nothing".into())],
        }
    }

    fn away(retry_after: Option<u64>) -> Error {
        let status = "429 Too Many Requests".to_owned();
        let retry_after = retry_after.map(std::time::Duration::from_secs);
        Error::Unavailable { what: "hf://org/sql".into(), status, retry_after }
    }

    #[test]
    fn what_is_good_is_described_and_moves_no_cursor() {
        let good = Outcome::good("hf://org/sql".into(), verified());
        let pulled = good.clone().kept_at("/store/sha256-ab".into()).description(Verb::Pulled, None);
        let checked = good.description(Verb::Verified, Some(Path::new("/models/base-7b")));
        insta::assert_snapshot!(format!("{}\n\n{}", pulled.join("\n"), checked.join("\n")));
    }

    #[test]
    fn what_is_not_good_says_whether_it_will_be() {
        let refused = |error: &Error| Outcome::failed("hf://org/sql".into(), error.into());
        let missing = Error::NotFound { what: "hf://org/sql".into() };
        assert_eq!(refused(&missing).refusal(), "hf://org/sql: refused: ArtifactNotFound: hf://org/sql does not exist");
        assert_eq!(refused(&missing).end(), End::Refused);
        let later = refused(&away(Some(3600)));
        assert_eq!(later.end(), End::Transient);
        assert!(later.refusal().contains("left alone for 1 h 0 min; try again later"), "{}", later.refusal());
        let high = Outcome::good("x".into(), verified()).limited(Some(8));
        assert_eq!((high.end(), high.clone().limited(Some(64)).end()), (End::Refused, End::Refused));
        let said = "x: refused: RankTooHigh: the adapter has rank 16, but the engine takes 8 at most";
        assert!(high.refusal().starts_with(said), "{}", high.refusal());
        assert_eq!(Outcome::good("x".into(), verified()).limited(Some(16)).end(), End::Good);
    }

    #[test]
    fn the_object_has_its_seven_fields_whatever_is_known() {
        let digest = Digest::from_bytes([0xab; 32]);
        let mismatch = Error::DigestMismatch { expected: Digest::from_bytes([1; 32]), found: digest };
        for (outcome, known) in [
            (
                Outcome::good("x".into(), verified()).kept_at("/s/e".into()),
                vec!["url", "digest", "path", "bytes", "rank"],
            ),
            (Outcome::failed("x".into(), (&away(None)).into()), vec!["url", "reason", "message"]),
            (Outcome::failed("x".into(), (&mismatch).into()), vec!["url", "digest", "reason", "message"]),
            (
                Outcome::good("x".into(), verified()).limited(Some(1)),
                vec!["url", "digest", "bytes", "rank", "reason", "message"],
            ),
        ] {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&outcome.json()).unwrap();
            let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, ["bytes", "digest", "message", "path", "rank", "reason", "url"]);
            assert!(object.iter().all(|(name, value)| value.is_null() != known.contains(&name.as_str())), "{object:?}");
        }
    }
}

//! What `pull` and `verify` share: from what was typed to a result, and how both end.

mod bar;
mod credentials;
mod report;
mod retry;
mod units;

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use longshore_artifacts::{Artifacts, BaseShapes, Error, Expect, Order, Origin, Progress, Store};
use longshore_types::{ArtifactUrl, Invalid};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::FetchArgs;
use crate::complain;
use bar::Bar;
pub use report::{Failure, Outcome, Verb};

/// How a command ends, as its exit code says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum End {
    /// The adapter is good.
    Good = 0,
    /// It is refused, and will be until somebody changes something.
    Refused = 1,
    /// The command itself cannot be carried out as it was given.
    Usage = 2,
    /// It may do later.
    Transient = 3,
    /// Ctrl-C; 128 and the signal's number, as shells have it.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

/// Says why the command cannot be carried out. A full disk may have room later; everything else is for a person to mend.
pub fn unusable(error: &anyhow::Error) -> End {
    complain(&format!("error: {error:#}"));
    let is_full = |cause: &(dyn std::error::Error + 'static)| {
        let full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(cause.downcast_ref(), Some(Error::StoreFull { .. })) || cause.downcast_ref().is_some_and(full)
    };
    if error.chain().any(is_full) { End::Transient } else { End::Usage }
}

/// Where an adapter is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory of this machine, by its absolute path.
    Directory(PathBuf),
    /// Somewhere that has to be asked.
    Remote(ArtifactUrl),
}

impl Place {
    /// What was typed. Without `://` it is a path, seen from the working directory.
    pub fn parse(text: &str) -> Result<Self> {
        if text.contains("://") && !text.starts_with("file://") {
            if text.contains(' ') {
                bail!(
                    "a URL has no spaces: in https:// and http:// write %20 for each, elsewhere rename what it names"
                );
            }
            // Nothing of what was typed is repeated: it may hold a password.
            let no_url = |invalid: Invalid| anyhow!("this is no URL of an adapter: {}", invalid.rule);
            return Ok(Self::Remote(ArtifactUrl::new(text).map_err(no_url)?));
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if path.is_empty() {
            bail!("name the adapter's directory or URL");
        }
        if path.len() < text.len() && !path.starts_with('/') {
            bail!("file:// takes an absolute path: file:///path/to/adapter");
        }
        Ok(Self::Directory(std::path::absolute(path).context("the working directory cannot be read")?))
    }

    /// The place for people, without what may be secret.
    pub fn shown(&self) -> String {
        match self {
            Self::Directory(path) => path.display().to_string(),
            Self::Remote(url) => url.to_string(),
        }
    }

    /// The same as a reference.
    pub fn url(&self) -> Result<ArtifactUrl> {
        match self {
            Self::Remote(url) => Ok(url.clone()),
            Self::Directory(path) => {
                let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
                // `verify` takes any.
                let advice = "a path to pull from has no spaces or control characters: make a link to it that has none";
                ArtifactUrl::new(text).map_err(|_| anyhow!("{text:?}: {advice}"))
            }
        }
    }

    /// What else may have been meant, where there is no such directory: `org/name` is how hubs write it.
    pub fn instead(&self, typed: &str) -> Option<String> {
        let Self::Directory(path) = self else { return None };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.chars().all(plain);
        let is_name = typed.split('@').next()?.split('/').map(part).eq([true, true]);
        (is_name && !path.exists()).then(|| format!("if a Hugging Face repository is meant, write hf://{typed}"))
    }
}

/// Reads what a base model's `config.json` says.
pub fn base_shapes(path: &Path) -> Result<Arc<BaseShapes>> {
    /// Real ones have 2 KiB; those of models that see and hear 20.
    const LARGEST: u64 = 1 << 20;
    let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let what = || format!("--base {}", path.display());
    let advice = "name the directory that holds the base model's config.json, or that file";
    let text = read_bounded(&file, LARGEST).with_context(|| format!("{}: {advice}", what()))?;
    Ok(Arc::new(BaseShapes::from_config_json(&text).with_context(what)?))
}

/// All of a file, or of a pipe that a shell has made, of at most `largest` bytes.
fn read_bounded(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {largest} bytes")));
    }
    Ok(bytes)
}

/// Brings `place` into `store`, however often that takes. Breaks where it is told to stop.
///
/// # Errors
/// What is wrong with the command. What is wrong with the adapter or its source is an outcome.
pub async fn fetch(
    place: &Place,
    store: Store,
    base: Option<Arc<BaseShapes>>,
    args: &FetchArgs,
) -> Result<ControlFlow<End, Outcome>> {
    let url = place.url()?;
    let credentials = credentials::of(args.sources.credentials.as_deref(), url.scheme())?;
    let artifacts =
        Artifacts::from_everywhere(store, args.sources.flags.setup()).context("the sources cannot be used")?;
    let progress = Progress::default();
    let expect = Expect { pinned: args.digest, base };
    let order = Order { origin: Origin { url, credentials }, expect, progress: progress.clone() };

    let bar = Bar::new(&progress, !args.quiet);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let tell = |line: String| bar.say(&line);
    let ended = tokio::select! {
        biased;
        _ = interrupt.recv() => Err(End::Interrupted),
        _ = terminate.recv() => Err(End::Terminated),
        fetched = retry::persist(args.retries, tell, async || artifacts.fulfil(&order).await) => Ok(fetched),
        never = bar.draw() => match never {},
    };
    bar.clear();
    Ok(match ended {
        Ok(Ok(fetched)) => {
            if !args.quiet {
                complain(&bar.summary(fetched.verified.bytes));
            }
            ControlFlow::Continue(Outcome::good(place.shown(), fetched.verified).kept_at(fetched.path))
        }
        Ok(Err(error)) => ControlFlow::Continue(Outcome::failed(place.shown(), Failure::from(&error))),
        Err(end) => {
            complain("stopped: what had been fetched is removed");
            ControlFlow::Break(end)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_scheme_is_a_url_and_everything_else_a_path() {
        for url in ["hf://org/name@v1", "s3://bucket/a/", "https://example.com/a.tgz?sig=x"] {
            assert!(matches!(Place::parse(url).unwrap(), Place::Remote(_)), "{url}");
        }
        let here = std::env::current_dir().unwrap();
        for (text, path) in [
            ("adapters/sql", here.join("adapters/sql")),
            ("./my adapter", here.join("my adapter")),
            ("/srv/sql", "/srv/sql".into()),
            ("file:///srv/sql", "/srv/sql".into()),
        ] {
            assert_eq!(Place::parse(text).unwrap(), Place::Directory(path), "{text}");
        }
        for bad in ["", "file://", "file://here", "ftp://example.com/x", "s3://", "hf://org/na me"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn i8_a_url_that_is_refused_is_not_repeated() {
        let error = Place::parse("ftp://user:hunter2@example.com/x").unwrap_err();
        assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
    }

    #[test]
    fn who_writes_a_repository_like_a_path_is_told() {
        let hint = |typed: &str| Place::parse(typed).unwrap().instead(typed);
        assert!(hint("meta-llama/none").unwrap().ends_with("hf://meta-llama/none"));
        assert!(hint("org/none@v1").unwrap().ends_with("hf://org/none@v1"));
        for path in ["./org/none", "../none", "/org/none", "none", "src/artifact", "a/b/c", "hf:org/none", "a b/c"] {
            assert_eq!(hint(path), None, "{path}");
        }
    }
}

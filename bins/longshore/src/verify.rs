//! `longshore verify`: whether an adapter is one that engines can load, without keeping it.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use longshore_artifacts::{BaseShapes, Error, Store, verify_dir};
use longshore_types::Digest;
use tempfile::TempDir;

use crate::args::VerifyArgs;
use crate::artifact::{self, End, Failure, Outcome, Place, Verb};

/// Checks it. What had to be fetched is in the directory that comes with the end, to be removed when nothing can be
/// writing to it any more.
pub async fn run(args: VerifyArgs) -> (End, Option<TempDir>) {
    let mut scratch = None;
    let end = verify(&args, &mut scratch).await.unwrap_or_else(|error| artifact::unusable(&error));
    (end, scratch)
}

async fn verify(args: &VerifyArgs, scratch: &mut Option<TempDir>) -> Result<End> {
    let place = Place::parse(&args.from)?;
    let base = args.base.as_deref().map(artifact::base_shapes).transpose()?;
    let outcome = match &place {
        // Nothing is written and nothing waited for, so that a signal may simply end the process.
        Place::Directory(path) => look_at(path, base, args.fetch.digest),
        Place::Remote(_) => {
            let dir = tempfile::Builder::new().prefix("longshore-verify-").tempdir();
            let dir = scratch.insert(dir.context("no temporary directory: name one with room by TMPDIR")?);
            let store = Store::open(dir.path().join("store")).context("the temporary directory cannot be used")?;
            match artifact::fetch(&place, store, base, &args.fetch).await? {
                ControlFlow::Break(end) => return Ok(end),
                ControlFlow::Continue(outcome) => outcome.not_kept(),
            }
        }
    };
    let outcome = outcome.limited(args.max_rank).hinted(place.instead(&args.from));
    Ok(outcome.tell(Verb::Verified, args.base.as_deref(), args.fetch.output, args.fetch.quiet))
}

/// Checks a directory where it is.
fn look_at(path: &Path, base: Option<Arc<BaseShapes>>, pinned: Option<Digest>) -> Outcome {
    let what = path.display().to_string();
    let checked =
        verify_dir(path, base).and_then(|verified| match pinned.filter(|pinned| *pinned != verified.digest) {
            Some(expected) => Err(Error::DigestMismatch { expected, found: verified.digest }),
            None => Ok(verified),
        });
    match checked {
        Ok(verified) => Outcome::good(what, verified),
        Err(error) => Outcome::failed(what, Failure::from(&error)),
    }
}

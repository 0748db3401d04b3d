//! A token in a file that may be replaced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longshore_types::Secret;
use tokio::time::Instant;

use super::{Verdict, compared};
use crate::local::read_key_file;

/// How old what was read may be. A mounted Secret is replaced at any time, a minute after it was changed at the latest; a
/// look at most once a second costs nothing beside that.
const FRESH: Duration = Duration::from_secs(1);

/// A bearer token in a file. The file may be replaced at any time; where it cannot be read, the last token stays good.
#[derive(Debug)]
pub struct TokenFile {
    path: Arc<Path>,
    last: Mutex<(Secret, Instant)>,
}

impl TokenFile {
    /// The token in this file.
    ///
    /// # Errors
    /// What the system says, and `InvalidData` for a file that is empty, over 16 KiB or holds more than one word.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path: PathBuf = path.into();
        let token = read_key_file(&path)?;
        Ok(Self { path: path.into(), last: Mutex::new((token, Instant::now())) })
    }

    pub(super) async fn check(&self, given: &str) -> Verdict {
        let (token, read) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if read.elapsed() < FRESH {
            return compared(given, &token);
        }
        let path = self.path.clone();
        // It ends by a panic or with the runtime only, and then the last token is as good as any.
        let token = match tokio::task::spawn_blocking(move || read_key_file(&path)).await {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => {
                tracing::warn!(path = %self.path.display(), %error, "The token file cannot be read: the last token stays good");
                token
            }
            Err(_) => token,
        };
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (token.clone(), Instant::now());
        compared(given, &token)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_replaced_changes_the_token_and_one_that_is_gone_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(TokenFile::open(&path).is_err());
        fs::write(&path, "one\n").unwrap();
        let file = TokenFile::open(&path).unwrap();
        assert_eq!(file.check("one").await, Verdict::Open);

        fs::write(&path, "two\n").unwrap();
        advance(FRESH).await;
        assert_eq!(file.check("two").await, Verdict::Open);
        assert_eq!(file.check("one").await, Verdict::Nobody);

        for broken in ["", "two words"] {
            fs::write(&path, broken).unwrap();
            advance(FRESH).await;
            assert_eq!(file.check("two").await, Verdict::Open, "{broken:?}");
        }
        fs::remove_file(&path).unwrap();
        advance(FRESH).await;
        assert_eq!(file.check("two").await, Verdict::Open);
        assert_eq!(file.check("").await, Verdict::Nobody);
    }
}

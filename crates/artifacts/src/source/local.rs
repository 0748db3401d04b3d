//! Directories of this machine.
//!
//! Links are followed, both to the directory and to its files: the Hugging Face cache is made of them, and whoever names a
//! path of their own machine means what it leads to. (What comes out of an archive is another matter: there, a link is the
//! archive author's word.) What a name leads to must be a regular file; anything else is refused without being opened for
//! reading, so a pipe cannot hold us up and a device has nothing done to it.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use longshore_types::{ArtifactUrl, Scheme};

use super::{Fingerprint, Source};
use crate::digest::{CONFIG, FileKind};
use crate::error::{Defect, Error};
use crate::origin::Origin;
use crate::store::staging::Staging;
use crate::verify::CHUNK;
use crate::verify::defect::shown;

/// Names looked at in one directory. Training directories have some hundred.
const MAX_NAMES: usize = 10_000;
/// Kept files of one adapter. Real ones have up to eight.
pub(crate) const MAX_FILES: usize = 64;
/// Two changes within this time may leave the same times behind: file systems count in ticks, the coarsest (FAT) of 2 s.
const TICK: Duration = Duration::from_secs(2);

/// Absolute paths and `file://` references.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

#[async_trait]
impl Source for Local {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::File]
    }

    fn takes(&self) -> &'static str {
        "absolute paths and file:// references"
    }

    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        let path = path_of(&origin.url)?;
        blocking(move || Listing::open(&path).map(|listing| listing.fingerprint())).await
    }

    async fn fetch(&self, origin: &Origin, mut staging: Staging) -> Result<Staging, Error> {
        let path = path_of(&origin.url)?;
        blocking(move || {
            Listing::open(&path)?.copy_into(&mut staging)?;
            Ok(staging)
        })
        .await
    }
}

fn path_of(url: &ArtifactUrl) -> Result<PathBuf, Error> {
    match (url.scheme(), url.path()) {
        (Scheme::File, Some(path)) => Ok(PathBuf::from(path)),
        _ => Err(Error::UnsupportedScheme { url: url.clone(), supported: Local.takes().into() }),
    }
}

/// Runs file system work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and whoever waits with it.
            Err(_) => Err(Error::Abandoned),
        },
    }
}

/// The kept files of one directory, opened.
#[derive(Debug)]
pub(crate) struct Listing {
    dir: PathBuf,
    /// The configuration first and the weights next, so that what is wrong by its headers is refused before the rest is read.
    pub(crate) files: Vec<Opened>,
    passed_over: Vec<String>,
    opened_at: SystemTime,
}

/// One file, opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Its name in the directory, whatever it is a link to.
    pub(crate) name: String,
    /// Its size when it was opened.
    pub(crate) size: u64,
    path: PathBuf,
    file: File,
    metadata: Metadata,
}

impl Listing {
    /// Opens the adapter in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let opened_at = SystemTime::now();
        let failed = |source| Error::reading(dir, source);
        if !fs::metadata(dir).map_err(failed)?.is_dir() {
            return Err(Error::NotADirectory { path: dir.to_owned() });
        }
        let (mut files, mut passed_over) = (Vec::new(), Vec::new());
        for (count, entry) in fs::read_dir(dir).map_err(failed)?.enumerate() {
            let name = entry.map_err(failed)?.file_name();
            if count == MAX_NAMES {
                let problem = format!("{} holds more than {MAX_NAMES} names", dir.display());
                return Err(Defect::TooLarge { problem }.into());
            }
            let Some(name) = name.to_str() else {
                // Not UTF-8, so it can only be kept by its beginning or end; those are refused, the rest passed over.
                let lossy = name.to_string_lossy();
                match FileKind::of(&lossy) {
                    Some(_) => return Err(Defect::FileName { name: shown(&lossy) }.into()),
                    None => continue,
                }
            };
            match FileKind::of(name) {
                None => passed_over.push(name.to_owned()),
                Some(kind) => files.extend(Opened::open(dir, name, kind)?),
            }
            if files.len() > MAX_FILES {
                let problem = format!("it has more than {MAX_FILES} files");
                return Err(Defect::TooLarge { problem }.into());
            }
        }
        files.sort_by(|a, b| (FileKind::of(&a.name), &a.name).cmp(&(FileKind::of(&b.name), &b.name)));
        passed_over.sort_unstable();
        Ok(Self { dir: dir.to_owned(), files, passed_over, opened_at })
    }

    /// Tells `each` of the names that are not kept.
    pub(crate) fn announce(&self, each: impl FnMut(&str)) {
        self.passed_over.iter().map(String::as_str).for_each(each);
    }

    /// Where there seems to be an adapter, if not here: people name the directory of a training run, and the adapter is in
    /// one of its checkpoints.
    pub(crate) fn hint(&self) -> Option<String> {
        if self.files.iter().any(|file| file.name == CONFIG) {
            return None;
        }
        let below = self.passed_over.iter().take(64).find(|name| self.dir.join(name).join(CONFIG).is_file())?;
        Some(format!("; there is one in {}: name that directory", self.dir.join(below).display()))
    }

    /// Copies and checks every file.
    pub(crate) fn copy_into(self, staging: &mut Staging) -> Result<(), Error> {
        self.announce(|name| staging.passed_over(name));
        if let Some(hint) = self.hint() {
            staging.hint(hint);
        }
        let progress = staging.progress().clone();
        let total = self.files.iter().map(|opened| opened.size).sum();
        progress.expect(total);
        staging.reserve(total)?;
        for mut opened in self.files {
            let mut staged = staging.file(&opened.name, Some(opened.size))?;
            if staged.share(&opened.file)? {
                // The blocks are ours from here on, whatever is done to the file; only its end could have moved before.
                opened.unchanged()?;
                progress.add(opened.size);
            } else {
                opened.read(|bytes| {
                    progress.add(bytes.len() as u64);
                    staged.write(bytes)
                })?;
            }
            staged.finish()?;
        }
        Ok(())
    }

    /// Names, sizes, times and identities of everything that was opened.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let mut text = String::new();
        let mut newest = UNIX_EPOCH;
        for Opened { name, metadata: m, .. } in &self.files {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{name}\0{}\0{}.{}\0{}.{}\0{}\0{}",
                m.len(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
                m.dev(),
                m.ino()
            );
            // The time of the last change of anything, which unlike the other no user can set.
            newest = newest.max(UNIX_EPOCH + Duration::from_secs(u64::try_from(m.ctime()).unwrap_or(0)));
        }
        // A pickle beside the weights decides which refusal is given.
        for name in self.passed_over.iter().filter(|name| FileKind::is_pickle(name)) {
            let _ = writeln!(text, "{name}");
        }
        Fingerprint::new(text, is_settled(self.opened_at, newest)).for_this_process()
    }
}

/// Whether a change after `now` is sure to leave another time behind than the last one, which was at `newest`.
fn is_settled(now: SystemTime, newest: SystemTime) -> bool {
    now.duration_since(newest).is_ok_and(|age| age > TICK)
}

impl Opened {
    /// Opens `name` in `dir`; none where it is a directory whose name only looks like a tokenizer's.
    fn open(dir: &Path, name: &str, kind: FileKind) -> Result<Option<Self>, Error> {
        let path = dir.join(name);
        if name.chars().any(char::is_control) {
            return Err(Defect::FileName { name: shown(name) }.into());
        }
        let special = || Error::from(Defect::SpecialFile { name: shown(name) });
        let failed = |source| Error::reading(&path, source);
        let seen = fs::metadata(&path).map_err(failed)?;
        if seen.is_dir() && kind == FileKind::Tokenizer {
            return Ok(None);
        }
        if !seen.is_file() {
            return Err(special());
        }
        // It may have become a pipe since: without this flag, opening it would then wait for a writer.
        let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).custom_flags(nonblock).open(&path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(special());
        }
        Ok(Some(Self { name: name.to_owned(), size: metadata.len(), path, file, metadata }))
    }

    /// Reads all of it, and fails where it changes meanwhile.
    pub(crate) fn read(&mut self, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut buffer = vec![0; CHUNK];
        let mut left = self.size;
        loop {
            let n = match self.file.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::reading(&self.path, error)),
            };
            if n == 0 {
                break;
            }
            // A file that grows could go on for ever.
            left = left.checked_sub(n as u64).ok_or_else(|| self.changed())?;
            each(&buffer[..n])?;
        }
        self.unchanged()
    }

    /// Fails where the file is not as it was when it was opened, or where its name now leads to another.
    fn unchanged(&self) -> Result<(), Error> {
        let here = self.file.metadata().map_err(|source| Error::reading(&self.path, source))?;
        let there = fs::metadata(&self.path).map_err(|_| self.changed())?;
        let known = |m: &Metadata| (m.len(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec(), m.dev(), m.ino());
        if known(&here) == known(&self.metadata) && known(&there) == known(&self.metadata) {
            Ok(())
        } else {
            Err(self.changed())
        }
    }

    fn changed(&self) -> Error {
        Error::Changed { what: self.path.display().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_proves_nothing_until_the_next_change_is_sure_to_show() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(is_settled(now, now - Duration::from_secs(3)));
        for newest in [now, now - TICK, now - Duration::from_secs(1), now + Duration::from_secs(1)] {
            assert!(!is_settled(now, newest), "{newest:?}");
        }
    }

    #[test]
    fn a_fingerprint_shows_names_sizes_times_and_identities() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let taken = || Listing::open(dir.path()).unwrap().fingerprint();
        fs::write(path(CONFIG), "{}").unwrap();
        let mut last = taken();
        assert!(!last.differs(&taken()));
        let mut changes = |what: &str| {
            let now = taken();
            assert!(last.differs(&now), "{what}");
            last = now;
        };
        fs::write(path(CONFIG), "{ }").unwrap();
        changes("size");
        File::options().write(true).open(path(CONFIG)).unwrap().set_modified(UNIX_EPOCH).unwrap();
        changes("time");
        fs::write(path("new"), "{ }").unwrap();
        fs::rename(path("new"), path(CONFIG)).unwrap();
        changes("identity");
        fs::write(path("tokenizer.json"), "").unwrap();
        changes("a further file");
        fs::write(path("README.md"), "").unwrap();
        assert!(!last.differs(&taken()), "a file that is not kept");
    }
}

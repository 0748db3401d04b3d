//! Which members of an archive are the adapter.
//!
//! One directory of the archive is it: the root if a kept file is there, or else the one folder at the root that has any. So
//! the result does not depend on the order of the members, which is a directory's own with most packers. What is deeper, such
//! as the checkpoints of a training run, is passed over.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::path::{MemberPath, Place};
use super::stream::{Stream, invalid};
use crate::digest::{CONFIG, FileKind};
use crate::error::{Defect, Error};
use crate::store::staging::{StagedFile, Staging, WHITEOUT};
use crate::verify::defect::shown;

/// Members of one archive. Whole training directories have some hundred.
const MAX_MEMBERS: u32 = 10_000;
/// How the names of archives end.
const ARCHIVES: [&str; 9] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".zip", ".tar.xz", ".tar.bz2", ".7z", ".rar"];
/// What PyTorch calls the pickle in the zip files that it saves.
const TORCH: &str = "data.pkl";

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    SymbolicLink,
    HardLink,
    /// A device, a pipe, a socket.
    Special,
}

/// Takes the adapter's files out of the members of an archive.
pub(super) struct Taker<'s> {
    staging: &'s mut Staging,
    abandoned: Arc<AtomicBool>,
    /// Every file's name, in one case of letters. As keyed hashes, so that 10,000 of them take 200 KiB whatever their
    /// length; one chance in 10^11 that two of as many are taken for one is less than that of a disk to be wrong.
    names: HashSet<u64>,
    key: RandomState,
    members: u32,
    /// The directory that the adapter is in, as far as we can know: empty for the root.
    home: Option<String>,
    /// Another folder that would do.
    rival: Option<String>,
    has_config: bool,
    /// Where else there is a configuration.
    elsewhere: Option<String>,
    /// An archive in the archive.
    nested: Option<String>,
    /// The pickle of a file that PyTorch saved.
    torch: Option<String>,
}

impl<'s> Taker<'s> {
    pub(super) fn new(staging: &'s mut Staging) -> Self {
        Self {
            abandoned: staging.abandon_handle(),
            staging,
            names: HashSet::new(),
            key: RandomState::new(),
            members: 0,
            home: None,
            rival: None,
            has_config: false,
            elsewhere: None,
            nested: None,
            torch: None,
        }
    }

    /// Counts a header, whatever it is of.
    pub(super) fn count(&mut self) -> Result<(), Error> {
        self.members += 1;
        if self.members > MAX_MEMBERS {
            let problem = format!("the archive has more than {MAX_MEMBERS} members");
            return Err(Defect::TooLarge { problem }.into());
        }
        Ok(())
    }

    /// Begins a member; `size` in bytes, where it is known. What it is given is written if it is one of the adapter's files.
    pub(super) fn member(&mut self, name: &[u8], kind: Kind, size: Option<u64>) -> Result<Target<'_>, Error> {
        self.count()?;
        let path = MemberPath::parse(name)?;
        regular(&path, kind)?;
        let keep = kind == Kind::File && !path.is_apples() && self.is_kept(&path)?;
        let file = if keep { Some(self.staging.file(path.name(), size)?) } else { None };
        Ok(Target { file, abandoned: &self.abandoned })
    }

    /// Whether a file is one of the adapter's; makes room for it where it shows that those before it were not.
    fn is_kept(&mut self, path: &MemberPath) -> Result<bool, Error> {
        if !self.names.insert(self.key.hash_one(path.as_str().to_lowercase())) {
            return Err(Defect::MemberRepeated { name: shown(path.as_str()) }.into());
        }
        let name = path.name();
        // Whoever puts layers over each other has to know.
        if name.starts_with(WHITEOUT) {
            self.staging.passed_over(path.as_str());
        }
        let (kept, pickle) = (FileKind::of(name).is_some(), FileKind::is_pickle(name));
        if !kept && !pickle {
            if ARCHIVES.iter().any(|end| name.to_ascii_lowercase().ends_with(end)) {
                self.nested.get_or_insert_with(|| shown(path.as_str()));
            }
            if name == TORCH {
                self.torch.get_or_insert_with(|| shown(path.as_str()));
            }
            return Ok(false);
        }
        let here = self.is_home(path)?;
        match (here, name == CONFIG) {
            (true, config) => self.has_config |= config,
            (false, true) => self.note_elsewhere(path.place()),
            (false, false) => {}
        }
        if here && pickle {
            self.staging.passed_over(name);
        }
        Ok(here && kept)
    }

    /// Whether a file that could be the adapter's is where the adapter is.
    fn is_home(&mut self, path: &MemberPath) -> Result<bool, Error> {
        match (path.place(), self.home.as_deref()) {
            (Place::Deep(_), _) => Ok(false),
            (Place::Root, Some("")) => Ok(true),
            (Place::Root, None) => {
                self.home = Some(String::new());
                Ok(true)
            }
            (Place::Root, Some(_)) => {
                self.staging.start_over()?;
                let folder = self.home.replace(String::new()).unwrap_or_default();
                if std::mem::take(&mut self.has_config) {
                    self.note_elsewhere(Place::Folder(&folder));
                }
                Ok(true)
            }
            (Place::Folder(folder), None) => {
                self.home = Some(folder.to_owned());
                Ok(true)
            }
            (Place::Folder(folder), Some(home)) if folder == home => Ok(true),
            (Place::Folder(folder), Some(_)) => {
                self.rival.get_or_insert_with(|| folder.to_owned());
                Ok(false)
            }
        }
    }

    fn note_elsewhere(&mut self, place: Place<'_>) {
        if let Place::Folder(dir) | Place::Deep(dir) = place {
            self.elsewhere.get_or_insert_with(|| shown(dir));
        }
    }

    /// The archive is at its end.
    pub(super) fn finish(self) -> Result<(), Error> {
        match (self.home, self.rival) {
            (Some(home), Some(rival)) if !home.is_empty() => {
                Err(Defect::ArchiveAmbiguous { first: shown(&home), second: shown(&rival) }.into())
            }
            (home, _) => {
                match (home, self.elsewhere, self.torch, self.nested) {
                    // What is missing here is there.
                    (_, Some(dir), ..) => {
                        self.staging.hint(format!("; there is one in {dir}: pack the files of that directory alone"))
                    }
                    (None, None, Some(file), _) => return Err(Defect::PickleRefused { file }.into()),
                    (None, None, None, Some(inner)) => {
                        return Err(Defect::ArchiveNested { outer: "the archive", inner }.into());
                    }
                    _ => {}
                }
                Ok(())
            }
        }
    }
}

/// Refuses what is neither a file nor a directory.
pub(super) fn regular(path: &MemberPath, kind: Kind) -> Result<(), Error> {
    let link = |kind| Err(Defect::LinkRefused { name: shown(path.as_str()), kind }.into());
    match kind {
        Kind::SymbolicLink => link("a symbolic link"),
        Kind::HardLink => link("a hard link"),
        Kind::Special => Err(Defect::SpecialFile { name: shown(path.as_str()) }.into()),
        Kind::File if path.is_directory => {
            Err(invalid(format!("{} is a file under the name of a directory", shown(path.as_str()))))
        }
        Kind::File | Kind::Directory => Ok(()),
    }
}

/// Where the bytes of one member go: to the staging area, or nowhere.
pub(super) struct Target<'t> {
    file: Option<StagedFile<'t>>,
    abandoned: &'t AtomicBool,
}

impl Target<'_> {
    /// Takes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => file.write(bytes),
            None if self.abandoned.load(Ordering::Relaxed) => Err(Error::Abandoned),
            None => Ok(()),
        }
    }

    /// Takes the next `size` bytes of `from`. `place` is where the archive ends, if it does.
    pub(super) fn copy(&mut self, from: &mut impl Stream, size: u64, place: &str) -> Result<(), Error> {
        from.pass(size, place, |bytes| self.write(bytes))
    }

    /// The member is at its end.
    pub(super) fn finish(self) -> Result<(), Error> {
        self.file.map_or(Ok(()), StagedFile::finish)
    }
}

//! Whether files are an adapter that engines can load, found out while they stream by.
//!
//! A [`Verifier`] is fed every kept file, in any order and in chunks of any size. It hashes all bytes, reads the
//! configuration and the weights' header, looks for weights that are not numbers, and holds the parts against each other
//! as soon as it has them: what is wrong by its header is refused before the rest is copied or downloaded.

pub(crate) mod base;
pub(crate) mod config;
pub(crate) mod defect;
pub(crate) mod finite;
pub(crate) mod header;
pub(crate) mod limits;
pub(crate) mod lora;
pub(crate) mod pattern;
mod targets;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use longshore_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::digest::{FileKind, KeptFile, digest_of, finish};
use crate::error::Error;
use crate::source::local;
use base::BaseShapes;
use config::{AdapterConfig, MAX_CONFIG};
use defect::{Defect, shown};
use finite::FiniteScan;
use header::{Header, LENGTH_BYTES, MAX_HEADER};
use lora::Summary;

/// Bytes read at once. With 1 MiB, the memory of a process that had fetched 20 adapters in parallel stayed 10 MiB higher:
/// an allocator keeps one such buffer for each of its arenas.
pub(crate) const CHUNK: usize = 128 << 10;
/// How every Git LFS pointer begins (<https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>): as many bytes of it as a
/// weights file's length has.
const LFS: &[u8] = b"version ";

/// An adapter that passed every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The digest of its kept files.
    pub digest: Digest,
    /// The size of its kept files in bytes.
    pub bytes: u64,
    /// The largest rank that any of its modules has: what an engine holds against its limit.
    pub rank: u32,
    /// The last parts of the names of the modules that it changes: `q_proj`.
    pub targets: BTreeSet<String>,
    /// Its kept files, in byte order of their names.
    pub files: Vec<KeptFile>,
    /// What `adapter_config.json` calls the base model: often a path on the trainer's machine.
    pub base_model_hint: Option<String>,
    /// Things that are odd but not wrong, as (reason, message).
    pub warnings: Vec<(&'static str, String)>,
}

/// Checks and hashes the files of one adapter.
#[derive(Debug, Default)]
pub struct Verifier {
    base: Option<Arc<BaseShapes>>,
    config: Option<AdapterConfig>,
    weights: Option<Header>,
    summary: Option<Summary>,
    files: Vec<KeptFile>,
    pickle: Option<String>,
    hint: Option<String>,
    warnings: Vec<(&'static str, String)>,
}

impl Verifier {
    /// A verifier that has seen no file. With `base`, modules are held against the base model's.
    pub fn new(base: Option<Arc<BaseShapes>>) -> Self {
        Self { base, ..Self::default() }
    }

    /// A verifier for the same base model that has seen no file.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.base.clone())
    }

    /// Tells of a file that is not kept: a pickle in the place of weights is worth another message than nothing at all.
    pub fn passed_over(&mut self, name: &str) {
        if FileKind::is_pickle(name) {
            self.pickle = Some(name.to_owned());
        }
    }

    /// The names of the files that were seen to their end.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// Adds the end of a sentence that says where else there seems to be an adapter, for the case that there is none here.
    pub(crate) fn hint(&mut self, hint: String) {
        self.hint = Some(hint);
    }

    /// Begins a kept file. `size`, where known, lets a file that is too short be refused by its header.
    ///
    /// # Errors
    /// [`Defect::FileName`] for a name that is none of a kept file.
    pub fn file(&mut self, name: &str, size: Option<u64>) -> Result<FileVerifier<'_>, Defect> {
        let bad_name = || Defect::FileName { name: shown(name) };
        let kind = FileKind::of(name).ok_or_else(bad_name)?;
        if name.contains('/') || name.chars().any(char::is_control) || self.files.iter().any(|file| file.name == name) {
            return Err(bad_name());
        }
        let state = match kind {
            FileKind::Config => State::Config(Vec::new()),
            FileKind::Weights | FileKind::OtherWeights => State::Length(Vec::with_capacity(LENGTH_BYTES)),
            FileKind::Tokenizer => State::Opaque,
        };
        Ok(FileVerifier { of: self, name: name.to_owned(), kind, size, seen: 0, hash: Sha256::new(), state })
    }

    /// Comes to a conclusion when every file has been seen.
    ///
    /// # Errors
    /// What is missing.
    pub fn finish(self) -> Result<Verified, Defect> {
        let Self { config, summary, mut files, pickle, hint, mut warnings, .. } = self;
        let config = config.ok_or(Defect::ConfigMissing { hint })?;
        let summary = match (summary, pickle) {
            (Some(summary), _) => summary,
            (None, Some(file)) => return Err(Defect::PickleRefused { file }),
            (None, None) => match files.iter().find(|file| is_shard(&file.name)) {
                Some(file) => return Err(Defect::WeightsSharded { file: shown(&file.name) }),
                None => return Err(Defect::WeightsMissing),
            },
        };
        files.sort_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        for file in files.iter().filter(|file| FileKind::of(&file.name) == Some(FileKind::OtherWeights)) {
            let message = format!("{} is kept, but vLLM does not read it and SGLang might", shown(&file.name));
            warnings.push(("OtherWeights", message));
        }
        warnings.extend(config.warnings);
        warnings.extend(summary.warnings);
        Ok(Verified {
            digest: digest_of(&files),
            bytes: files.iter().map(|file| file.size).sum(),
            rank: summary.rank,
            targets: summary.targets,
            files,
            base_model_hint: config.base_model,
            warnings,
        })
    }

    fn set_config(&mut self, json: &[u8]) -> Result<(), Defect> {
        self.config = Some(AdapterConfig::parse(json)?);
        self.compare()
    }

    fn set_weights(&mut self, header: Header) -> Result<(), Defect> {
        self.weights = Some(header);
        self.compare()
    }

    /// Holds the weights against the configuration once both are there.
    fn compare(&mut self) -> Result<(), Defect> {
        if let (Some(config), Some(weights)) = (&self.config, &self.weights) {
            self.summary = Some(lora::check(weights, config, self.base.as_deref())?);
            // Its only further use would be to take memory.
            self.weights = None;
        }
        Ok(())
    }
}

/// One file that is being checked and hashed.
#[derive(Debug)]
pub struct FileVerifier<'v> {
    of: &'v mut Verifier,
    name: String,
    kind: FileKind,
    size: Option<u64>,
    seen: u64,
    hash: Sha256,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The configuration so far.
    Config(Vec<u8>),
    /// The length of a weights file's header so far.
    Length(Vec<u8>),
    /// The header so far, and how long it will be.
    Header(Vec<u8>, usize),
    /// The tensors, and what is needed to name one of them.
    Tensors(FiniteScan, Vec<Box<str>>, u64),
    /// Nothing of it is looked at.
    Opaque,
}

impl FileVerifier<'_> {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// What is wrong with them. The verifier is of no further use then.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Defect> {
        self.hash.update(bytes);
        self.seen += bytes.len() as u64;
        loop {
            match &mut self.state {
                State::Opaque => return Ok(()),
                State::Config(text) => {
                    if text.len() + bytes.len() > MAX_CONFIG {
                        return Err(Defect::ConfigInvalid { problem: format!("it is larger than {MAX_CONFIG} bytes") });
                    }
                    text.extend_from_slice(bytes);
                    return Ok(());
                }
                State::Length(length) => {
                    fill(length, LENGTH_BYTES, &mut bytes);
                    let Ok(length) = <[u8; LENGTH_BYTES]>::try_from(length.as_slice()) else { return Ok(()) };
                    let wanted = self.header_length(length)?;
                    // Not `with_capacity(wanted)`: a lie would then cost memory before it is found out.
                    self.state = State::Header(Vec::new(), wanted);
                }
                State::Header(text, wanted) => {
                    fill(text, *wanted, &mut bytes);
                    if text.len() < *wanted {
                        return Ok(());
                    }
                    let text = std::mem::take(text);
                    self.state = self.header(&text)?;
                }
                State::Tensors(scan, names, _) => {
                    let name = |index: usize| names.get(index).map(|name| shown(name)).unwrap_or_default();
                    let bad = |index| Defect::NotFinite { file: self.name.clone(), tensor: name(index) };
                    return scan.feed(bytes).map_err(bad);
                }
            }
        }
    }

    /// Hashes bytes that are not looked at.
    pub(crate) fn hash_only(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
    }

    /// The SHA-256 of everything until now.
    pub(crate) fn digest_so_far(&self) -> Digest {
        finish(self.hash.clone())
    }

    fn header_length(&self, bytes: [u8; LENGTH_BYTES]) -> Result<usize, Defect> {
        if bytes == LFS {
            return Err(Defect::LfsPointer { file: self.name.clone() });
        }
        let length = u64::from_le_bytes(bytes);
        let most = MAX_HEADER.min(self.size.map_or(u64::MAX, |size| size.saturating_sub(LENGTH_BYTES as u64)));
        match usize::try_from(length) {
            Ok(wanted) if length <= most => Ok(wanted),
            _ => Err(match bytes {
                // PyTorch's own format is a zip file with a pickle in it, and was a pickle before.
                [b'P', b'K', 3, 4, ..] | [0x80, 2..=5, ..] => Defect::PickleRefused { file: self.name.clone() },
                [b'<', ..] => {
                    self.invalid("it is a page of HTML or XML, as servers send in the place of a file".into())
                }
                _ => self.invalid(format!("its header would be {length} bytes long, which is more than {most}")),
            }),
        }
    }

    fn header(&mut self, text: &[u8]) -> Result<State, Defect> {
        let header = Header::parse(text).map_err(|problem| self.invalid(problem))?;
        let end = (LENGTH_BYTES as u64 + text.len() as u64).saturating_add(header.data_len());
        if let Some(size) = self.size.filter(|size| *size != end) {
            return Err(self.wrong_size(size, end));
        }
        let scan = FiniteScan::new(&header);
        let names = header.tensors.iter().map(|tensor| tensor.name.clone()).collect();
        if self.kind == FileKind::Weights {
            self.of.set_weights(header)?;
        }
        Ok(State::Tensors(scan, names, end))
    }

    /// The file is at its end.
    ///
    /// # Errors
    /// What is wrong with the file as a whole.
    pub fn finish(self) -> Result<(), Defect> {
        match &self.state {
            State::Opaque => {}
            State::Config(text) => self.of.set_config(text)?,
            State::Length(_) => return Err(self.cut_off("it ends before its header")),
            State::Header(..) => return Err(self.cut_off("it ends within its header")),
            State::Tensors(_, _, end) if *end != self.seen => return Err(self.wrong_size(self.seen, *end)),
            State::Tensors(..) => {}
        }
        self.of.files.push(KeptFile { name: self.name, size: self.seen, sha256: finish(self.hash) });
        Ok(())
    }

    fn invalid(&self, problem: String) -> Defect {
        Defect::WeightsInvalid { file: self.name.clone(), problem }
    }

    fn cut_off(&self, problem: &str) -> Defect {
        Defect::WeightsTruncated { file: self.name.clone(), problem: problem.into() }
    }

    fn wrong_size(&self, size: u64, end: u64) -> Defect {
        if size < end {
            self.cut_off(&format!("it has {size} of the {end} bytes that its header speaks of"))
        } else {
            self.invalid(format!("{} bytes follow its last tensor", size - end))
        }
    }
}

/// Whether PEFT gives this name to a part of weights that it splits.
fn is_shard(name: &str) -> bool {
    name.starts_with("adapter_model-") && name.contains("-of-")
}

/// Moves bytes from the front of `from` until `into` has `wanted`.
fn fill(into: &mut Vec<u8>, wanted: usize, from: &mut &[u8]) {
    let (front, back) = from.split_at(from.len().min(wanted - into.len()));
    into.extend_from_slice(front);
    *from = back;
}

/// Checks and hashes the adapter in the directory `path`, storing nothing.
///
/// # Errors
/// Why it cannot be read, or what is wrong with it.
pub fn verify_dir(path: &Path, base: Option<Arc<BaseShapes>>) -> Result<Verified, Error> {
    let listing = local::Listing::open(path)?;
    let mut verifier = Verifier::new(base);
    listing.announce(|name| verifier.passed_over(name));
    if let Some(hint) = listing.hint() {
        verifier.hint(hint);
    }
    for mut opened in listing.files {
        let mut file = verifier.file(&opened.name, Some(opened.size))?;
        opened.read(|bytes| Ok(file.feed(bytes)?))?;
        file.finish()?;
    }
    Ok(verifier.finish()?)
}

/// Checks an adapter whose bytes are known to be `files`, by its headers alone: for what is in the store already.
pub(crate) fn verify_headers(
    dir: &Path,
    files: Vec<KeptFile>,
    base: Option<Arc<BaseShapes>>,
) -> Result<Verified, Error> {
    let mut verifier = Verifier::new(base);
    for file in files {
        let path = dir.join(&file.name);
        let read = |most: u64, skip: u64| -> Result<Vec<u8>, Error> {
            let failed = |source| Error::store("read", &path, source);
            let mut opened = File::open(&path).map_err(failed)?;
            opened.seek(SeekFrom::Start(skip)).map_err(failed)?;
            let mut bytes = Vec::new();
            opened.take(most).read_to_end(&mut bytes).map_err(failed)?;
            Ok(bytes)
        };
        match FileKind::of(&file.name) {
            Some(FileKind::Config) => verifier.set_config(&read(MAX_CONFIG as u64, 0)?)?,
            Some(FileKind::Weights) => {
                let length = read(LENGTH_BYTES as u64, 0)?;
                let length = length.try_into().map(u64::from_le_bytes).unwrap_or(0);
                let header = Header::parse(&read(length.min(MAX_HEADER), LENGTH_BYTES as u64)?);
                let invalid = |problem| Defect::WeightsInvalid { file: file.name.clone(), problem };
                verifier.set_weights(header.map_err(invalid)?)?;
            }
            _ => {}
        }
        verifier.files.push(file);
    }
    Ok(verifier.finish()?)
}

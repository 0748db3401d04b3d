//! Ways in for the fuzz targets, to what only this crate can call.

use crate::archive;
use crate::error::{Defect, Error};
use crate::store::Store;
use crate::store::manifest;
use crate::verify::base::BaseShapes;
use crate::verify::pattern::{Fuel, Pattern, is_harmless};

/// Whether a module with these features is one of the base model's.
///
/// # Errors
/// Why it is not.
pub fn fits(base: &BaseShapes, module: &str, input: u64, output: u64) -> Result<(), Defect> {
    base.check(module, input, output)
}

/// Evaluates `pattern` in every way that PEFT's patterns are.
pub fn pattern(pattern: &str, name: &str) {
    let fuel = Fuel::default();
    let tail = Pattern::tail(pattern).matches(name, &fuel);
    let whole = Pattern::whole(pattern).matches(name, &fuel);
    // What matches a whole name also matches its end.
    assert!(whole != Some(true) || tail != Some(false));
    is_harmless(pattern);
}

/// Reads an entry's list of files, and says how many there are.
pub fn manifest(json: &[u8]) -> Option<usize> {
    manifest::parse(json).map(|files| files.len())
}

/// Takes an adapter out of `archive`, as a source does.
///
/// # Errors
/// What is wrong with the archive.
pub fn unpack(store: &Store, archive: &[u8]) -> Result<(), Error> {
    archive::unpack(archive, "the archive", &mut store.stage(None)?)
}

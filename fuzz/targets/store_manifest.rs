//! The list of files of an entry in the store: another process may have written it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_artifacts::fuzzing;

fuzz_target!(|json: &[u8]| {
    if let Some(files) = fuzzing::manifest(json) {
        assert!(files <= json.len());
    }
});

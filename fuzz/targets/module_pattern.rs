//! Regular expressions for the names of modules: soon evaluated, whatever they are.
//!
//! An input is a name, a NUL and the pattern.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_artifacts::fuzzing;
use longshore_fuzz::parts;

fuzz_target!(|data: &[u8]| {
    let [name, pattern] = parts(data);
    if let (Ok(name), Ok(pattern)) = (std::str::from_utf8(name), std::str::from_utf8(pattern)) {
        fuzzing::pattern(pattern, name);
    }
});

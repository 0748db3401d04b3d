//! A tar archive under zstd.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|archive: &[u8]| longshore_fuzz::unpack(archive));

//! Archives that end too early, at every byte, and archives with one bit turned.

use super::pack::{Behind, Zipped, gzip, members, tar, zip, zip_with, zstd};
use super::{Bench, adapter};

/// Every form, as small as it goes.
fn forms() -> Vec<(&'static str, Vec<u8>)> {
    let plain = tar(&members(&adapter(), "a/"));
    let streamed: Vec<_> =
        adapter().files().into_iter().map(|(name, bytes)| Zipped::streamed(name, bytes, Behind::Short(true))).collect();
    vec![
        ("tar.gz", gzip(&plain)),
        ("tar.zst", zstd(&plain)),
        ("zip", zip(&super::zipped(&adapter(), "a/"))),
        ("zip through a pipe", zip(&streamed)),
        ("zip64", zip_with(&streamed, true, 0)),
        ("tar", plain),
    ]
}

#[test]
fn an_archive_that_is_cut_at_any_byte_is_refused_as_incomplete() {
    let bench = Bench::in_memory();
    for (form, archive) in forms() {
        for cut in 1..archive.len() {
            let error = bench.unpack(&archive[..cut]).expect_err(&format!("{form} cut at {cut} was taken"));
            // The first bytes of a tar archive are a name, and so might be anything.
            let expected = if form == "tar" && cut < 100 { "NotAnArchive" } else { "ArchiveTruncated" };
            let tolerated = form == "tar" && cut < 100 && error.reason() == "ArchiveTruncated";
            assert!(error.reason() == expected || tolerated, "{form} cut at {cut}: {}: {error}", error.reason());
        }
    }
    assert_eq!(bench.store.entries().unwrap(), []);
    assert!(bench.left().is_empty());
}

#[test]
fn a_turned_bit_never_makes_another_adapter() {
    let bench = Bench::in_memory();
    for (form, archive) in forms() {
        let sound = bench.unpack(&archive[..]).unwrap().verified.digest;
        // Plain tar has no checksum over the files, which is why this one is left out.
        if form == "tar" {
            continue;
        }
        for bit in (0..archive.len() * 8).step_by(13) {
            let mut turned = archive.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            // Times and such may change.
            if let Ok(fetched) = bench.unpack(&turned[..]) {
                assert_eq!(fetched.verified.digest, sound, "{form}, bit {bit}");
            }
        }
    }
}

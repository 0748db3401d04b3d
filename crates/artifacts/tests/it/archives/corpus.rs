//! Bad archives, made here, and why each is refused.

use super::pack::{
    Behind, Entry, Listed, Zipped, gzip, members, open_tar, tar, zip, zip_with, zipped, zstd, zstd_with,
};
use super::{Bench, adapter};
use crate::adapter::{CONFIG, WEIGHTS};

/// A name, the archive, and the reason that it is refused for.
type Case = (&'static str, Vec<u8>, &'static str);

/// A sound archive with this in front of the adapter.
fn before(entries: Vec<Entry>) -> Vec<u8> {
    tar(&[entries, members(&adapter(), "")].concat())
}

/// A sound archive with this behind the adapter.
fn behind(entries: Vec<Entry>) -> Vec<u8> {
    tar(&[members(&adapter(), ""), entries].concat())
}

/// A sound zip archive with this in front of the adapter.
fn zip_before(member: Zipped) -> Vec<u8> {
    zip(&[vec![member], zipped(&adapter(), "")].concat())
}

fn sized(size: &[u8; 12]) -> Entry {
    Entry { size: Some(*size), ..Entry::file("README.md", "") }
}

fn names() -> Vec<Case> {
    let named = |name: &[u8]| before(vec![Entry::file(name, "x")]);
    let zip_named = |name: &[u8]| zip_before(Zipped::deflated(name, "x"));
    let long = "../".repeat(60) + "etc/passwd";
    vec![
        ("tar: a path upwards", named(b"../adapter_config.json"), "PathEscapes"),
        ("tar: a path upwards in the middle", named(b"a/../../b"), "PathEscapes"),
        ("tar: a path that is only upwards", named(b".."), "PathEscapes"),
        ("tar: a directory upwards", before(vec![Entry::directory("../x/")]), "PathEscapes"),
        ("tar: an absolute path", named(b"/etc/passwd"), "PathEscapes"),
        ("tar: an absolute path with two slashes", named(b"//etc/passwd"), "PathEscapes"),
        ("tar: a drive", named(b"C:/adapter_config.json"), "PathEscapes"),
        ("tar: backslashes", named(b"..\\adapter_config.json"), "PathEscapes"),
        (
            "tar: a pax path upwards",
            before(vec![Entry::pax(b'x', &[("path", &long)]), Entry::file("a", "")]),
            "PathEscapes",
        ),
        ("tar: a GNU path upwards", before(vec![Entry::long_name(&long), Entry::file("a", "")]), "PathEscapes"),
        (
            "tar: a prefix upwards",
            before(vec![Entry { prefix: b"..".to_vec(), ..Entry::file("a", "") }]),
            "PathEscapes",
        ),
        ("tar: a name that is not UTF-8", named(b"a\xff.json"), "FileName"),
        ("tar: a name with a line break", named(b"tokenizer\n.json"), "FileName"),
        ("tar: a name with an escape", named(b"a\x1b[2Jb"), "FileName"),
        ("tar: no name", named(b""), "FileName"),
        (
            "tar: a pax name with NUL",
            before(vec![Entry::pax(b'x', &[("path", "a\0b")]), Entry::file("a", "")]),
            "FileName",
        ),
        ("tar: an empty pax name", before(vec![Entry::pax(b'x', &[("path", "")]), Entry::file("a", "")]), "FileName"),
        ("tar: a GNU name with NUL", before(vec![Entry::long_name("a\0b"), Entry::file("a", "")]), "FileName"),
        (
            "tar: a name of 5,000 bytes",
            before(vec![Entry::long_name(&"a".repeat(5000)), Entry::file("a", "")]),
            "ArchiveInvalid",
        ),
        ("zip: a path upwards", zip_named(b"../adapter_config.json"), "PathEscapes"),
        ("zip: an absolute path", zip_named(b"/etc/passwd"), "PathEscapes"),
        ("zip: a drive", zip_named(b"c:\\windows"), "PathEscapes"),
        ("zip: backslashes", zip_named(b"adapter\\adapter_config.json"), "PathEscapes"),
        ("zip: a name that is not UTF-8", zip_named(b"t\xe9l\xe9.txt"), "FileName"),
        ("zip: a name with NUL", zip_named(b"adapter_config.json\0.txt"), "FileName"),
        ("zip: no name", zip_named(b""), "FileName"),
    ]
}

fn kinds() -> Vec<Case> {
    let other = |flag: u8, name: &str| behind(vec![Entry::other(flag, name)]);
    let moded = |mode: u16| zip_before(Zipped { mode, ..Zipped::stored("tokenizer_x", "../../secret") });
    vec![
        ("tar: a symbolic link", other(b'2', "tokenizer_x"), "LinkRefused"),
        ("tar: a symbolic link that is not kept", other(b'2', "latest"), "LinkRefused"),
        ("tar: a hard link", other(b'1', "tokenizer_x"), "LinkRefused"),
        (
            "tar: a long link",
            behind(vec![Entry { flag: b'K', ..Entry::file("l", "/etc") }, Entry::other(b'2', "x")]),
            "LinkRefused",
        ),
        ("tar: a character device", other(b'3', "tokenizer_x"), "SpecialFile"),
        ("tar: a block device", other(b'4', "tokenizer_x"), "SpecialFile"),
        ("tar: a pipe", other(b'6', "tokenizer_x"), "SpecialFile"),
        ("tar: a sparse file", other(b'S', "x"), "ArchiveUnsupported"),
        (
            "tar: a pax sparse file",
            behind(vec![Entry::pax(b'x', &[("GNU.sparse.major", "1")]), Entry::file("x", "")]),
            "ArchiveUnsupported",
        ),
        (
            "tar: a huge hole",
            behind(vec![Entry::pax(b'x', &[("GNU.sparse.realsize", "9000000000000000")]), Entry::file(WEIGHTS, "")]),
            "ArchiveUnsupported",
        ),
        ("tar: another volume", other(b'M', "x"), "ArchiveUnsupported"),
        ("tar: an incremental backup", other(b'D', "x"), "ArchiveUnsupported"),
        ("tar: a type that nobody knows", other(b'Z', "x"), "ArchiveUnsupported"),
        (
            "tar: a directory with a size",
            behind(vec![Entry { content: b"x".to_vec(), ..Entry::directory("x/") }]),
            "ArchiveInvalid",
        ),
        ("tar: a file with a directory's name", behind(vec![Entry::file("x/", "x")]), "ArchiveInvalid"),
        ("zip: a symbolic link", moded(0o120_777), "LinkRefused"),
        ("zip: a device", moded(0o020_666), "SpecialFile"),
        ("zip: a pipe", moded(0o010_666), "SpecialFile"),
        ("zip: a socket", moded(0o140_666), "SpecialFile"),
        ("zip: a directory with a size", zip_before(Zipped { mode: 0, ..Zipped::stored("x/", "x") }), "ArchiveInvalid"),
        ("zip: an encrypted member", zip_before(Zipped { flags: 1, ..Zipped::deflated("x", "x") }), "ArchiveEncrypted"),
        ("zip: an AES member", zip_before(Zipped { method: 99, ..Zipped::deflated("x", "x") }), "ArchiveEncrypted"),
        (
            "zip: masked headers",
            zip_before(Zipped { flags: 1 << 13, ..Zipped::deflated("x", "x") }),
            "ArchiveEncrypted",
        ),
        ("zip: LZMA", zip_before(Zipped { method: 14, ..Zipped::deflated("x", "x") }), "ArchiveUnsupported"),
        ("zip: a patch", zip_before(Zipped { flags: 1 << 5, ..Zipped::deflated("x", "x") }), "ArchiveUnsupported"),
        (
            "zip: stored with its size behind it",
            zip_before(Zipped { flags: 8, behind: Some(Behind::Short(true)), ..Zipped::stored("x", "x") }),
            "ArchiveUnsupported",
        ),
    ]
}

fn repeats() -> Vec<Case> {
    let again = |name: &str| behind(vec![Entry::file(name, "{}")]);
    vec![
        ("tar: a configuration twice", again(CONFIG), "MemberRepeated"),
        ("tar: a configuration twice, written otherwise", again("./adapter_config.json"), "MemberRepeated"),
        ("tar: weights in other letters", again("Adapter_Model.safetensors"), "MemberRepeated"),
        (
            "tar: a file that is not kept twice",
            before(vec![Entry::file("a", ""), Entry::file("A", "")]),
            "MemberRepeated",
        ),
        (
            "tar: folders in other letters",
            tar(&[members(&adapter(), "a/"), members(&adapter(), "A/")].concat()),
            "MemberRepeated",
        ),
        (
            "zip: a configuration twice",
            zip(&[zipped(&adapter(), ""), zipped(&adapter(), "")].concat()),
            "MemberRepeated",
        ),
        (
            "zip: weights in other letters",
            zip_before(Zipped::deflated("ADAPTER_MODEL.SAFETENSORS", "")),
            "MemberRepeated",
        ),
        (
            "tar: two adapters",
            tar(&[members(&adapter(), "a/"), members(&adapter(), "b/")].concat()),
            "ArchiveAmbiguous",
        ),
    ]
}

fn foreign() -> Vec<Case> {
    let plain = tar(&members(&adapter(), ""));
    let html = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>";
    let mut safetensors = 600_u64.to_le_bytes().to_vec();
    safetensors.extend(b"{\"a\":1}".repeat(100));
    let torch = [Zipped::stored("archive/data.pkl", "\x02"), Zipped::stored("archive/data/0", "")];
    let known = |magic: &[u8]| [magic, &[7; 600]].concat();
    vec![
        ("an HTML page", html.to_vec(), "ErrorPage"),
        ("a long HTML page", [&b"\n  <html>"[..], &[b'a'; 4000]].concat(), "ErrorPage"),
        ("an XML error", b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>".to_vec(), "ErrorPage"),
        ("a JSON error", b"{\"error\":\"not found\"}".to_vec(), "ErrorPage"),
        ("a JSON error with a mark", b"\xef\xbb\xbf [1]".to_vec(), "ErrorPage"),
        ("an HTML page in gzip", gzip(html), "ErrorPage"),
        ("nothing", Vec::new(), "NotAnArchive"),
        ("nothing in gzip", gzip(b""), "NotAnArchive"),
        ("nothing in zstd", zstd(b""), "NotAnArchive"),
        ("a text", b"Not Found\n".to_vec(), "NotAnArchive"),
        ("a long text", b"Not Found\n".repeat(100), "NotAnArchive"),
        ("a pickle", [&b"\x80\x02}q\x00"[..], &[1; 600]].concat(), "NotAnArchive"),
        ("a safetensors file", safetensors, "NotAnArchive"),
        ("a GGUF file", known(b"GGUF"), "NotAnArchive"),
        ("noise", known(&[0x99, 1, 2]), "NotAnArchive"),
        ("noise in gzip", gzip(&known(&[0x99, 1, 2])), "ArchiveInvalid"),
        (
            "a Git LFS pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec(),
            "LfsPointer",
        ),
        ("xz", known(b"\xfd7zXZ\0"), "ArchiveUnsupported"),
        ("bzip2", known(b"BZh9"), "ArchiveUnsupported"),
        ("7-Zip", known(b"7z\xbc\xaf\x27\x1c"), "ArchiveUnsupported"),
        ("RAR", known(b"Rar!\x1a\x07\x01"), "ArchiveUnsupported"),
        ("a split zip archive", known(b"PK\x07\x08"), "ArchiveUnsupported"),
        ("gzip twice", gzip(&gzip(&plain)), "ArchiveNested"),
        ("zip in zstd", zstd(&zip(&zipped(&adapter(), ""))), "ArchiveNested"),
        ("an archive in tar", tar(&[Entry::file("adapter.tar.gz", gzip(&plain))]), "ArchiveNested"),
        ("an archive in zip", zip(&[Zipped::stored("a/Adapter.ZIP", "")]), "ArchiveNested"),
        ("what PyTorch saves", zip(&torch), "PickleRefused"),
        (
            "an adapter that is pickled",
            tar(&[Entry::file(CONFIG, adapter().files()[0].1.clone()), Entry::file("adapter_model.bin", "")]),
            "PickleRefused",
        ),
    ]
}

fn broken_tars() -> Vec<Case> {
    let mut plain = tar(&members(&adapter(), ""));
    let mut first = plain.clone();
    first[0] ^= 1;
    let files = members(&adapter(), "");
    let start = files[0].bytes().len();
    plain[start] ^= 1;
    let lone = [open_tar(&files[..1]), vec![0; 512], open_tar(&files[1..]), vec![0; 1024]].concat();
    let raw = |records: &[u8]| behind(vec![Entry { flag: b'x', ..Entry::file("pax", records) }, Entry::file("a", "")]);
    let big = Entry { flag: b'x', ..Entry::file("pax", vec![b'1'; 300 << 10]) };
    vec![
        ("tar: a wrong checksum at first", first, "ArchiveDamaged"),
        ("tar: a wrong checksum later", plain, "ArchiveDamaged"),
        ("tar: a checksum off by one", behind(vec![Entry { off_by: 1, ..Entry::file("a", "") }]), "ArchiveDamaged"),
        (
            "tar: a negative size",
            before(vec![sized(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")]),
            "ArchiveInvalid",
        ),
        ("tar: a size of 2^63", before(vec![sized(b"\x80\0\0\0\x80\0\0\0\0\0\0\0")]), "ArchiveInvalid"),
        ("tar: a size of 2^88", before(vec![sized(b"\x80\x01\0\0\0\0\0\0\0\0\0\0")]), "ArchiveInvalid"),
        ("tar: a size that is no number", before(vec![sized(b"0000000009x\0")]), "ArchiveInvalid"),
        ("tar: a size of 8 GiB that is not there", before(vec![sized(b"77777777777\0")]), "ArchiveTruncated"),
        (
            "tar: weights of an exbibyte",
            tar(&[Entry { size: Some(*b"\x80\0\0\0\x10\0\0\0\0\0\0\0"), ..Entry::file(WEIGHTS, "") }]),
            "TooLarge",
        ),
        ("tar: a pax size that is negative", raw(b"11 size=-1\n"), "ArchiveInvalid"),
        ("tar: a pax size of 2^64", raw(b"29 size=18446744073709551616\n"), "ArchiveInvalid"),
        ("tar: a pax size twice", raw(b"9 size=0\n9 size=0\n"), "ArchiveInvalid"),
        ("tar: a pax record that is too long", raw(b"99 size=0\n"), "ArchiveInvalid"),
        ("tar: a pax record that is too short", raw(b"5 size=0\n"), "ArchiveInvalid"),
        ("tar: a pax record without a length", raw(b"size=0\n"), "ArchiveInvalid"),
        ("tar: a pax record without a value", raw(b"7 size\n"), "ArchiveInvalid"),
        ("tar: a pax header of 300 KiB", behind(vec![big]), "ArchiveInvalid"),
        ("tar: a pax header of 8 GiB", behind(vec![Entry { flag: b'x', ..sized(b"77777777777\0") }]), "ArchiveInvalid"),
        ("tar: a pax header at the end", behind(vec![Entry::pax(b'x', &[("path", "a")])]), "ArchiveInvalid"),
        ("tar: one path for all", before(vec![Entry::pax(b'g', &[("path", "a")])]), "ArchiveInvalid"),
        ("tar: one size for all", before(vec![Entry::pax(b'g', &[("size", "0")])]), "ArchiveInvalid"),
        (
            "tar: two long names",
            behind(vec![Entry::long_name("a"), Entry::long_name("b"), Entry::file("c", "")]),
            "ArchiveInvalid",
        ),
        (
            "tar: long names of both kinds",
            behind(vec![Entry::pax(b'x', &[("path", "a")]), Entry::long_name("b"), Entry::file("c", "")]),
            "ArchiveInvalid",
        ),
        ("tar: a block of zeros in the middle", lone, "ArchiveInvalid"),
        ("tar: something behind the end", [tar(&files), vec![7]].concat(), "ArchiveInvalid"),
        ("tar: another archive behind the end", [tar(&files), tar(&files)].concat(), "ArchiveInvalid"),
        ("tar: no end", open_tar(&files), "ArchiveTruncated"),
        ("tar: half an end", [open_tar(&files), vec![0; 512]].concat(), "ArchiveTruncated"),
        ("tar: no end, in gzip", gzip(&open_tar(&files)), "ArchiveTruncated"),
        (
            "tar: two megabytes of zeros behind the end",
            gzip(&[tar(&files), vec![0; 2 << 20]].concat()),
            "ArchiveInvalid",
        ),
    ]
}

fn broken_streams() -> Vec<Case> {
    let plain = tar(&members(&adapter(), ""));
    let turned = |mut bytes: Vec<u8>, from_end: usize| {
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    let set = |mut bytes: Vec<u8>, at: usize, value: u8| {
        bytes[at] = value;
        bytes
    };
    let window = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0xf8][..], &[0; 20]].concat();
    let dictionary = [&[0x28, 0xb5, 0x2f, 0xfd, 0x21, 9, 9][..], &[0; 20]].concat();
    let unnamed = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3][..], &vec![b'a'; 70 << 10]].concat();
    vec![
        ("gzip: a wrong checksum", turned(gzip(&plain), 8), "ArchiveDamaged"),
        ("gzip: a wrong length", turned(gzip(&plain), 4), "ArchiveDamaged"),
        ("gzip: data that make no sense", set(gzip(&plain), 10, 0xff), "ArchiveDamaged"),
        ("gzip: flags that nobody knows", set(gzip(&plain), 3, 0x20), "ArchiveInvalid"),
        ("gzip: a method that nobody knows", set(gzip(&plain), 2, 7), "ArchiveInvalid"),
        ("gzip: a name without an end", unnamed, "ArchiveInvalid"),
        ("gzip: something behind the end", [gzip(&plain), b"garbage".to_vec()].concat(), "ArchiveInvalid"),
        ("gzip: something behind zeros", [gzip(&plain), vec![0, 0, 7]].concat(), "ArchiveInvalid"),
        ("gzip: half a member behind the end", [gzip(&plain), vec![0x1f, 0x8b, 8]].concat(), "ArchiveTruncated"),
        ("gzip: another archive behind the end", [gzip(&plain), gzip(&plain)].concat(), "ArchiveInvalid"),
        ("zstd: a wrong checksum", turned(zstd(&plain), 1), "ArchiveDamaged"),
        ("zstd: a reserved block", set(zstd(&plain), 6, 0xff), "ArchiveDamaged"),
        ("zstd: a window of 2 GiB", window, "ArchiveUnsupported"),
        ("zstd: a window of 16 MiB", zstd_with(&plain, 3, 24), "ArchiveUnsupported"),
        ("zstd: a dictionary", dictionary, "ArchiveUnsupported"),
        ("zstd: something behind the end", [zstd(&plain), b"garbage".to_vec()].concat(), "ArchiveDamaged"),
        ("zstd: another archive behind the end", [zstd(&plain), zstd(&plain)].concat(), "ArchiveInvalid"),
    ]
}

fn broken_zips() -> Vec<Case> {
    let sound = zipped(&adapter(), "");
    let last = |listed: Listed| {
        let mut entries = sound.clone();
        entries.push(Zipped { listed, ..Zipped::deflated("README.md", "# A file") });
        zip(&entries)
    };
    let file = Zipped::deflated("README.md", "# A file");
    let mut cut_data = file.clone();
    cut_data.data.pop();
    let more_data = Zipped { data: [&file.data[..], b"more"].concat(), ..file.clone() };
    let mut prefixed = zip(&sound);
    prefixed.insert(0, b'#');
    let plain = zip(&sound);
    let turned = |from_end: usize| {
        let mut bytes = plain.clone();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        bytes
    };
    vec![
        ("zip: a wrong checksum", zip_before(Zipped { sum: 7, ..file.clone() }), "ArchiveDamaged"),
        (
            "zip: a wrong checksum of a stored member",
            zip_before(Zipped { sum: 7, ..Zipped::stored("a", "b") }),
            "ArchiveDamaged",
        ),
        (
            "zip: a wrong checksum behind",
            zip_before(Zipped { sum: 7, ..Zipped::streamed("a", "b", Behind::Short(true)) }),
            "ArchiveDamaged",
        ),
        ("zip: a wrong size", zip_before(Zipped { size: 7, ..file.clone() }), "ArchiveDamaged"),
        (
            "zip: a wrong size behind",
            zip_before(Zipped { size: 7, ..Zipped::streamed("a", "b", Behind::Long) }),
            "ArchiveDamaged",
        ),
        (
            "zip: a stored member with two sizes",
            zip_before(Zipped { size: 7, ..Zipped::stored("a", "b") }),
            "ArchiveInvalid",
        ),
        ("zip: data without an end", zip_before(cut_data), "ArchiveDamaged"),
        ("zip: data behind the data", zip_before(more_data), "ArchiveDamaged"),
        ("zip: data that make no sense", zip_before(Zipped { data: vec![0xff; 20], ..file.clone() }), "ArchiveDamaged"),
        ("zip: a member that is not listed", last(Listed::Not), "ArchiveInvalid"),
        ("zip: a member under another name", last(Listed::As(b"other.md".to_vec())), "ArchiveInvalid"),
        ("zip: a member listed as a kept one", last(Listed::As(b"tokenizer.json".to_vec())), "ArchiveInvalid"),
        ("zip: a member listed in another size", last(Listed::OfSize(7)), "ArchiveInvalid"),
        ("zip: a member listed elsewhere", last(Listed::At(0)), "ArchiveInvalid"),
        ("zip: a member that is not there", zip_with(&sound, false, 1), "ArchiveInvalid"),
        ("zip: a member that is not there, of many", zip_with(&sound, true, 1), "ArchiveInvalid"),
        ("zip: a directory of another size", turned(10), "ArchiveInvalid"),
        ("zip: a directory elsewhere", turned(6), "ArchiveInvalid"),
        ("zip: a comment that is not there", turned(2), "ArchiveTruncated"),
        ("zip: something behind the end", [plain.clone(), vec![0]].concat(), "ArchiveInvalid"),
        ("zip: no directory", plain[..zip(&sound).len() - 22].to_vec(), "ArchiveTruncated"),
        ("zip: something in front", prefixed, "NotAnArchive"),
        (
            "zip: something in the middle",
            [&plain[..0], &b"PK\x03\x04"[..], &[0; 26], b"PK\x09\x09"].concat(),
            "FileName",
        ),
    ]
}

fn bombs() -> Vec<Case> {
    let zeros = vec![0_u8; 1 << 20];
    let many = |count: usize| -> Vec<Entry> { (0..count).map(|i| Entry::file(format!("f{i}"), "")).collect() };
    let unkept = |size: usize| before(vec![Entry::file("README.md", vec![0; size])]);
    let zips: Vec<Zipped> = (0..11_000).map(|i| Zipped::stored(format!("f{i}"), "")).collect();
    // One member of gzip may stand in the place of many, so a thousand make a gibibyte of a megabyte.
    let header = Entry { size: Some(*b"10000000000\0"), ..Entry::file("README.md", "") }.bytes();
    let repeated = [gzip(&header), gzip(&zeros).repeat(1024)].concat();
    let squashed = [zstd(&header), zstd(&zeros).repeat(1024)].concat();
    let kept: Vec<Entry> = (0..70).map(|i| Entry::file(format!("tokenizer{i}"), "")).collect();
    let mut zip_bomb = Zipped::deflated("README.md", vec![0; 300 << 20]);
    zip_bomb.behind = None;
    vec![
        ("gzip: a gibibyte of zeros", repeated, "ArchiveBomb"),
        ("zstd: a gibibyte of zeros", squashed, "ArchiveBomb"),
        ("zip: 300 MiB of zeros", zip_before(zip_bomb), "ArchiveBomb"),
        ("gzip: 300 MiB of zeros that are not kept", gzip(&unkept(300 << 20)), "ArchiveBomb"),
        ("gzip: weights of zeros", gzip(&tar(&[Entry::file(WEIGHTS, vec![0; 64 << 20])])), "WeightsInvalid"),
        ("gzip: a configuration of zeros", gzip(&tar(&[Entry::file(CONFIG, vec![0; 64 << 20])])), "ConfigInvalid"),
        ("tar: many members", gzip(&before(many(11_000))), "TooLarge"),
        ("tar: many extended headers", gzip(&before(vec![Entry::pax(b'x', &[("mtime", "1")]); 11_000])), "TooLarge"),
        ("tar: many kept files", tar(&kept), "TooLarge"),
        ("zip: many members", zip(&zips), "TooLarge"),
        ("gzip in gzip in gzip", gzip(&gzip(&gzip(&zeros))), "ArchiveNested"),
    ]
}

#[test]
fn every_bad_archive_is_refused_for_its_own_reason_and_leaves_nothing_behind() {
    let groups = [names(), kinds(), repeats(), foreign(), broken_tars(), broken_streams(), broken_zips(), bombs()];
    let cases: Vec<Case> = groups.into_iter().flatten().collect();
    let mut wrong = Vec::new();
    let count = cases.len();
    for (name, archive, reason) in cases {
        let bench = Bench::in_memory();
        match bench.unpack(&archive[..]) {
            Ok(_) => wrong.push(format!("{name}: taken")),
            Err(error) if error.reason() != reason => {
                wrong.push(format!("{name}: {} instead of {reason}: {error}", error.reason()));
            }
            // None gets better by itself, and none says nothing.
            Err(error) if error.is_transient() => wrong.push(format!("{name}: transient: {error}")),
            Err(error) if error.to_string().len() > 400 => wrong.push(format!("{name}: says too much: {error}")),
            Err(_) => {}
        }
        if !bench.left().is_empty() || !bench.store.entries().unwrap().is_empty() {
            wrong.push(format!("{name}: left {:?}", bench.left()));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 120, "{count}");
}

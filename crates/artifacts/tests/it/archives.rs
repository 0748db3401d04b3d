//! Archives, sound and broken, through the public interface.

mod corpus;
mod cuts;
pub mod pack;

use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::Command;

use longshore_artifacts::{Error, Expect, Fetched, Store};
use proptest::prelude::*;

use crate::adapter::{Adapter, CONFIG, WEIGHTS};
use pack::{Behind, Entry, Zipped, gzip, members, tar, zip, zip_with, zipped, zstd, zstd_with};

/// A store, and what is put into it.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// Where bringing files to disk costs nothing, for tests that unpack thousands of archives.
    fn in_memory() -> Self {
        Self::within(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn within(dir: tempfile::TempDir) -> Self {
        let store = Store::open(dir.path().join("store")).unwrap();
        Self { dir, store }
    }

    fn unpack(&self, archive: impl Read + Send) -> Result<Fetched, Error> {
        let mut staging = self.store.stage(None)?;
        staging.unpack(archive, "the archive")?;
        self.store.commit(staging, &Expect::default())
    }

    /// Every file and directory below the bench, but for the store's own lock files.
    fn left(&self) -> Vec<String> {
        fn walk(dir: &Path, into: &mut Vec<String>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if fs::symlink_metadata(&path).unwrap().is_dir() {
                    walk(&path, into);
                } else {
                    into.push(path.display().to_string());
                }
            }
        }
        let mut left = Vec::new();
        walk(self.dir.path(), &mut left);
        left.retain(|path| !path.ends_with("lock"));
        left
    }
}

fn adapter() -> Adapter {
    let mut adapter = Adapter::tiny(1);
    adapter.others.push(("tokenizer.json", b"{}".to_vec()));
    adapter
}

/// Unpacks `archive` and finds in it what `adapter` is.
#[track_caller]
fn holds(archive: &[u8], adapter: &Adapter) {
    let bench = Bench::new();
    let fetched = bench.unpack(archive).unwrap();
    let kept: Vec<_> = adapter.files().into_iter().filter(|(name, _)| name != "README.md").collect();
    for (name, bytes) in &kept {
        assert_eq!(&fs::read(fetched.path.join(name)).unwrap(), bytes, "{name}");
    }
    assert_eq!(fetched.verified.files.len(), kept.len());
    bench.store.audit(&fetched.verified.digest).unwrap();
    // The adapter's files, and the list of them.
    assert_eq!(bench.left().len(), kept.len() + 1);
}

#[track_caller]
fn refused(archive: &[u8], reason: &str, says: &str) {
    let error = Bench::new().unpack(archive).expect_err("it was taken");
    assert_eq!(error.reason(), reason, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[test]
fn every_form_of_archive_gives_the_same_adapter() {
    let adapter = adapter();
    let plain = tar(&members(&adapter, ""));
    holds(&plain, &adapter);
    holds(&gzip(&plain), &adapter);
    holds(&zstd(&plain), &adapter);
    holds(&zip(&zipped(&adapter, "")), &adapter);
    let stored: Vec<_> = adapter.files().into_iter().map(|(name, bytes)| Zipped::stored(name, bytes)).collect();
    holds(&zip(&stored), &adapter);
}

#[test]
fn files_are_found_at_the_root_or_in_the_one_folder_that_has_them() {
    let adapter = adapter();
    for folder in ["", "./", "adapter/", "./a b/", "ä//"] {
        let mut entries = vec![Entry::directory("./"), Entry::file("README.md", "# Beside it")];
        entries.extend(members(&adapter, folder));
        entries.push(Entry::file("logs/events.log", "Elsewhere"));
        holds(&tar(&entries), &adapter);
        let mut entries = vec![
            Zipped { mode: 0o040_755, ..Zipped::stored("docs/", "") },
            Zipped::deflated("docs/README.md", "# Elsewhere"),
        ];
        entries.extend(zipped(&adapter, folder));
        holds(&zip(&entries), &adapter);
    }
}

#[test]
fn checkpoints_are_passed_over_in_whatever_order_they_come() {
    let (adapter, older) = (adapter(), Adapter::tiny(9));
    for (folder, checkpoint) in [("", "checkpoint-500/"), ("run/", "run/checkpoint-500/")] {
        let (mine, theirs) = (members(&adapter, folder), members(&older, checkpoint));
        holds(&tar(&[&mine[..], &theirs].concat()), &adapter);
        holds(&tar(&[&theirs[..], &mine].concat()), &adapter);
        holds(&tar(&[&mine[..1], &theirs, &mine[1..]].concat()), &adapter);
        holds(&tar(&[&theirs[..1], &mine, &theirs[1..]].concat()), &adapter);
    }
    // Two of them are no trouble either, where there is one at the root.
    let both = [members(&older, "checkpoint-1/"), members(&older, "checkpoint-2/"), members(&adapter, "")];
    holds(&tar(&both.concat()), &adapter);
}

#[test]
fn two_folders_with_an_adapter_are_refused_in_any_order() {
    let (a, b) = (members(&adapter(), "a/"), members(&Adapter::tiny(2), "b/"));
    refused(&tar(&[&a[..], &b].concat()), "ArchiveAmbiguous", "both a and b: pack those of one");
    refused(&tar(&[&b[..], &a].concat()), "ArchiveAmbiguous", "both b and a");
    let zipped = [zipped(&adapter(), "a/"), zipped(&Adapter::tiny(2), "b/")].concat();
    refused(&zip(&zipped), "ArchiveAmbiguous", "both a and b");
}

#[test]
fn what_is_missing_is_pointed_at_where_it_is() {
    refused(&tar(&members(&adapter(), "x/y/")), "ConfigMissing", "; there is one in x/y: pack the files of that");
    let mut beside = members(&adapter(), "adapter/");
    beside.push(Entry::file("tokenizer.json", "{}"));
    refused(&tar(&beside), "ConfigMissing", "; there is one in adapter: pack");
    beside.rotate_right(1);
    refused(&tar(&beside), "ConfigMissing", "; there is one in adapter: pack");
    refused(&tar(&[]), "ConfigMissing", "no adapter_config.json");
    refused(&zip(&[]), "ConfigMissing", "no adapter_config.json");
}

#[test]
fn what_macos_adds_is_passed_over() {
    let mut entries = vec![Entry::file("./._adapter_model.safetensors", "attributes")];
    entries.extend(members(&adapter(), "./"));
    holds(&tar(&entries), &adapter());
    let mut entries = zipped(&adapter(), "adapter/");
    entries.push(Zipped::stored("__MACOSX/adapter/._adapter_config.json", "attributes"));
    entries.push(Zipped::stored("__MACOSX/tokenizer.json", "attributes"));
    holds(&zip(&entries), &adapter());
}

#[test]
fn long_names_are_read_in_both_ways() {
    let adapter = adapter();
    let folder = format!("{}/", "long".repeat(50));
    let (mut pax, mut gnu, mut prefixed) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in adapter.files() {
        let path = format!("{folder}{name}");
        let times = [("mtime", "1700000000.5"), ("path", path.as_str()), ("LIBARCHIVE.xattr.user.a", "b=c")];
        pax.extend([Entry::pax(b'x', &times), Entry::file("cut", &bytes)]);
        gnu.extend([Entry::long_name(&path), Entry::file(&path[..100], &bytes)]);
        prefixed.push(Entry { prefix: folder[..150].into(), ..Entry::file(&name, &bytes) });
    }
    for entries in [pax, gnu, prefixed] {
        holds(&tar(&entries), &adapter);
        let comment = Entry::pax(b'g', &[("comment", "0123456789abcdef")]);
        holds(&tar(&[vec![comment], entries].concat()), &adapter);
    }
}

#[test]
fn a_size_of_the_pax_header_or_in_base_256_is_the_size() {
    let adapter = adapter();
    let mut entries = Vec::new();
    for (name, bytes) in adapter.files() {
        let mut base_256 = [0; 12];
        base_256[0] = 0x80;
        base_256[4..].copy_from_slice(&(bytes.len() as u64).to_be_bytes());
        if name == WEIGHTS {
            entries.push(Entry { size: Some(base_256), ..Entry::file(name, bytes) });
        } else {
            entries.push(Entry::pax(b'x', &[("size", &bytes.len().to_string())]));
            entries.push(Entry { size: Some(*b"00000000000\0"), ..Entry::file(name, bytes) });
        }
    }
    holds(&tar(&entries), &adapter);
}

#[test]
fn archives_from_before_the_standard_are_read() {
    let mut entries = vec![Entry { flag: 0, magic: [0; 8], ..Entry::file("adapter/", "") }];
    let old = |entry: Entry| Entry { flag: 0, magic: [0; 8], ..entry };
    entries.extend(members(&adapter(), "adapter/").into_iter().map(old));
    holds(&tar(&entries), &adapter());
}

#[test]
fn members_and_frames_one_behind_the_other_are_one_archive() {
    let plain = tar(&members(&adapter(), ""));
    let parts: Vec<&[u8]> = plain.chunks(700).collect();
    let gzipped: Vec<u8> = parts.iter().flat_map(|part| gzip(part)).collect();
    holds(&gzipped, &adapter());
    holds(&[&gzip(b"")[..], &gzipped, &gzip(b""), &[0; 512]].concat(), &adapter());
    let compressed: Vec<u8> = parts.iter().flat_map(|part| zstd(part)).collect();
    holds(&compressed, &adapter());
    // A frame to be skipped, as parallel compressors write them.
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    holds(&[&skipped[..], &compressed, &skipped].concat(), &adapter());
}

#[test]
fn everything_that_a_gzip_header_may_have_is_passed_over() {
    let gzipped = gzip(&tar(&members(&adapter(), "")));
    let mut header = [&gzipped[..3], &[0b1_1110], &gzipped[4..10], &[3, 0], b"xtr", b"a.tar\0", b"by hand\0"].concat();
    let mut sum = flate2::Crc::new();
    sum.update(&header);
    header.extend(&sum.sum().to_le_bytes()[..2]);
    holds(&[&header, &gzipped[10..]].concat(), &adapter());
    *header.last_mut().unwrap() ^= 1;
    refused(&[&header, &gzipped[10..]].concat(), "ArchiveDamaged", "checksum of a gzip header");
}

#[test]
fn zip_archives_that_were_written_into_a_pipe_are_read() {
    for behind in [Behind::Short(true), Behind::Short(false), Behind::Long] {
        let files = adapter().files().into_iter();
        let entries: Vec<_> = files.map(|(name, bytes)| Zipped::streamed(name, bytes, behind)).collect();
        holds(&zip(&entries), &adapter());
        holds(&zip_with(&entries, true, 0), &adapter());
    }
}

#[test]
fn what_shrinks_a_thousandfold_and_is_an_adapter_is_taken() {
    let mut adapter = Adapter::tiny(1);
    let zeros = |shape: [u64; 2]| ("F32", shape.to_vec(), vec![0; 4 * (shape[0] * shape[1]) as usize]);
    adapter.tensors.clear();
    for module in ["q_proj", "v_proj"] {
        let name = format!("base_model.model.model.layers.0.self_attn.{module}");
        adapter.tensors.insert(format!("{name}.lora_A.weight"), zeros([2, 4096]));
        adapter.tensors.insert(format!("{name}.lora_B.weight"), zeros([1 << 19, 2]));
    }
    let plain = tar(&members(&adapter, ""));
    let gzipped = gzip(&plain);
    assert!(plain.len() > 500 * gzipped.len());
    holds(&gzipped, &adapter);
    assert!(plain.len() > 500 * zstd(&plain).len());
    holds(&zstd_with(&plain, 19, 0), &adapter);
}

#[test]
fn archives_of_other_programs_are_read() {
    let bench = Bench::new();
    let from = bench.dir.path().join("adapter");
    adapter().write(&from);
    fs::write(from.join("README.md"), "# Not kept").unwrap();
    let script = "
        import io, sys, tarfile, zipfile
        class Pipe(io.RawIOBase):
            def __init__(self, to): self.to = open(to, 'wb')
            def writable(self): return True
            def write(self, b): return self.to.write(b)
        for name, mode, form in [('p.tar', 'w', tarfile.PAX_FORMAT), ('g.tgz', 'w:gz', tarfile.GNU_FORMAT),
                                 ('u.tgz', 'w:gz', tarfile.USTAR_FORMAT)]:
            with tarfile.open(name, mode, format=form) as t: t.add('adapter')
        for name, to in [('p.zip', 'p.zip'), ('s.zip', Pipe('s.zip'))]:
            with zipfile.ZipFile(to, 'w', zipfile.ZIP_DEFLATED) as z:
                z.writestr('adapter/', '')
                for f in ['adapter_config.json', 'adapter_model.safetensors', 'tokenizer.json']:
                    z.write('adapter/' + f)
    ";
    let script: Vec<&str> = script.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
    let mut tried = 0;
    for (archive, command) in [
        ("a.tar", "tar cf a.tar adapter"),
        ("b.tgz", "tar czf b.tgz -C adapter ."),
        ("c.tar", "tar --format=pax -cf c.tar adapter"),
        ("d.tar", "tar --format=v7 -cf d.tar adapter"),
        ("e.tar", "tar --format=ustar -cf e.tar adapter"),
        ("f.tar.zst", "tar --zstd -cf f.tar.zst adapter"),
        ("h.zip", "zip -qr h.zip adapter"),
        ("i.zip", "cd adapter && zip -qr ../i.zip ."),
        ("j.zip", "zip -qr - adapter > j.zip"),
        ("k.zip", "tar cf k.tar adapter && zip -q - adapter/* | cat > k.zip"),
        ("p.tar", &format!("python3 -c \"{}\"", script.join("\n"))),
        ("g.tgz", "test -f g.tgz"),
        ("u.tgz", "test -f u.tgz"),
        ("p.zip", "test -f p.zip"),
        ("s.zip", "test -f s.zip"),
    ] {
        // Where a program is missing, the others show enough.
        let status = Command::new("sh").arg("-c").arg(command).current_dir(bench.dir.path()).output().unwrap();
        if status.status.success() {
            let file = fs::File::open(bench.dir.path().join(archive)).unwrap();
            let fetched = bench.unpack(file).unwrap_or_else(|error| panic!("{archive}: {error}"));
            assert_eq!(fetched.verified.files.len(), 3, "{archive}");
            tried += 1;
        }
    }
    assert!(tried > 0, "there is not even tar");
    assert_eq!(bench.store.entries().unwrap().len(), 1);
}

/// Gives bytes in pieces, and then fails or is at its end.
struct Pieces<'b> {
    bytes: &'b [u8],
    size: usize,
    fails: bool,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(io::Error::other(Error::NotFound { what: "the rest".into() }));
        }
        let size = self.size.min(into.len()).min(self.bytes.len());
        self.bytes.read(&mut into[..size])
    }
}

#[test]
fn what_the_reader_fails_with_comes_out_as_it_was() {
    let plain = tar(&members(&adapter(), ""));
    for archive in [gzip(&plain), zstd(&plain), zip(&zipped(&adapter(), "")), plain] {
        for cut in [0, 1, 20, 200, archive.len() - 20] {
            let pieces = Pieces { bytes: &archive[..cut], size: 100, fails: true };
            assert_eq!(Bench::new().unpack(pieces).unwrap_err().reason(), "ArtifactNotFound", "{cut}");
        }
    }
    struct Foreign;
    impl Read for Foreign {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let error = Bench::new().unpack(Foreign).unwrap_err();
    assert_eq!((error.reason(), error.is_transient()), ("SourceFailed", true));
    assert_eq!(error.to_string(), "cannot read the archive");
}

#[test]
fn a_damaged_file_is_refused_before_the_rest_is_read() {
    let mut entries = members(&adapter(), "");
    entries[0] = Entry::file(CONFIG, "{}");
    let archive = tar(&entries);
    // The reader fails where anything behind the configuration is asked for.
    let pieces = Pieces { bytes: &archive[..1024], size: 512, fails: true };
    assert_eq!(Bench::new().unpack(pieces).unwrap_err().reason(), "RankInvalid");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn how_the_bytes_come_does_not_matter(size in 1_usize..2000, form in 0_usize..4) {
        let plain = tar(&members(&adapter(), "a/"));
        let archive = match form {
            0 => gzip(&plain),
            1 => zstd(&plain),
            2 => zip(&zipped(&adapter(), "a/")),
            _ => plain,
        };
        let fetched = Bench::new().unpack(Pieces { bytes: &archive, size, fails: false }).unwrap();
        prop_assert_eq!(fetched.verified.files.len(), 3);
    }
}

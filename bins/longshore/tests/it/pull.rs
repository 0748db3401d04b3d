//! `longshore pull`: into the store whole, or not at all.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use longshore_testkit::adapters::{AdapterRecipe, CONFIG, Flaw, WEIGHTS, write};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;

use crate::harness::*;

/// The directories that engines could be told to load.
fn entries(store: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(store) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("sha256-")).collect()
}

/// Whatever is on its way into the store.
fn staged(store: &Path) -> Vec<PathBuf> {
    let below = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    below(&store.join(".staging")).into_iter().filter(|path| path.is_dir()).collect()
}

#[test]
fn a_directory_is_brought_into_the_store_that_up_has() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let ran = Ran::of(dir.path(), &["pull", "./sql"]);
    println!("{}{}", ran.stderr, ran.stdout);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let store = dir.path().join("data/longshore/store");
    let [entry] = &entries(&store)[..] else { panic!("{:?}", entries(&store)) };
    assert!(ran.stdout.contains("is in the store") && ran.stdout.contains(entry.to_str().unwrap()), "{}", ran.stdout);
    assert!(ran.stderr.contains(" in ") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
    assert!(!ran.stderr.contains('\r') && !ran.stderr.contains('\u{1b}'), "no bar where there is no terminal");
    // Engines run under another user.
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(entry), mode(&entry.join(WEIGHTS))), (0o755, 0o444));
    assert_eq!(std::fs::read(entry.join(CONFIG)).unwrap(), std::fs::read(dir.path().join("sql").join(CONFIG)).unwrap());

    let again = Ran::of(dir.path(), &["pull", "-q", "sql"]);
    assert_eq!((again.code, again.stdout.trim_end(), again.stderr.as_str()), (Some(0), entry.to_str().unwrap(), ""));
    let file = format!("file://{}", dir.path().join("sql").display());
    let json = Ran::of(dir.path(), &["pull", &file, "-o", "json", "--store", "other"]).json();
    assert_eq!((&json["rank"], &json["reason"], &json["message"]), (&json!(8), &json!(null), &json!(null)));
    let other = PathBuf::from(json["path"].as_str().unwrap());
    assert_eq!(other, dir.path().canonicalize().unwrap().join("other").join(entry.file_name().unwrap()));
    assert_eq!(json["digest"].as_str().unwrap().replace(':', "-"), entry.file_name().unwrap().to_str().unwrap());
}

#[test]
fn what_is_refused_leaves_nothing_in_the_store() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "good", 1);
    write(&dir.path().join("nan"), &AdapterRecipe::seeded(1).with(Flaw::Nan)).unwrap();
    let other = format!("sha256:{}", "0".repeat(64));
    for (args, reason) in [
        (&["nan"][..], "NotFinite"),
        (&["nowhere"], "ArtifactNotFound"),
        (&["good", "--digest", &other], "DigestMismatch"),
        (&["http://169.254.169.254/x.tar.gz"], ""),
    ] {
        let ran = Ran::with(dir.path(), |command| command.args(["pull", "--store", "store", "-o", "json"]).args(args));
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let object = ran.json();
        assert!(object["path"].is_null() && object["reason"].as_str().unwrap().contains(reason), "{object}");
        let store = dir.path().join("store");
        assert!(entries(&store).is_empty() && staged(&store).is_empty(), "{reason}");
    }
}

#[test]
fn who_names_a_repository_like_a_path_is_told_how_to_write_it() {
    let dir = tempfile::tempdir().unwrap();
    let ran = Ran::of(dir.path(), &["pull", "org/name"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("write hf://org/name"), "{ran:?}");
}

#[test]
fn what_cannot_be_carried_out_makes_no_store() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "my sql", 1);
    make_adapter(dir.path(), "sql", 1);
    std::fs::write(dir.path().join("file"), "").unwrap();
    for (args, words) in [
        (&["pull", "my sql"][..], "make a link to it that has none"),
        (&["pull", "sql", "--store", "file"], "--store"),
        (&["pull", "sql", "--store", "file/store"], "--store"),
        (&["pull", "sql", "--store", "/proc/store"], "--store"),
        (&["pull", "sql", "--store", "/"], "--store"),
        (&["pull", "s3://bucket/a b"], "spaces"),
    ] {
        let ran = Ran::of(dir.path(), args);
        println!("{}", ran.stderr);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
    assert!(!dir.path().join("data").exists());
}

#[test]
fn trouble_that_may_pass_is_tried_again_and_said() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let config = dir.path().join("sql").join(CONFIG);
    std::fs::remove_file(&config).unwrap();
    // A regular file as far as anybody can see, and every read of it fails: nothing is mapped at address 0.
    symlink("/proc/self/mem", &config).unwrap();
    let ran = Ran::of(dir.path(), &["pull", "sql", "--retries", "1"]);
    println!("{}", ran.stderr);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(ran.stderr.matches("; trying again in 1 s (1 of 1)").count(), 1, "{}", ran.stderr);
    assert!(entries(&dir.path().join("data/longshore/store")).is_empty());
}

/// An adapter that takes a while: a gigabyte of zeros that takes no room.
fn make_large(dir: &Path) {
    const COLUMNS: u64 = 16 << 20;
    let name = "base_model.model.model.layers.0.self_attn.q_proj";
    let half = 8 * COLUMNS * 4;
    let header = json!({
        format!("{name}.lora_A.weight"): {"dtype": "F32", "shape": [8, COLUMNS], "data_offsets": [0, half]},
        format!("{name}.lora_B.weight"): {"dtype": "F32", "shape": [COLUMNS, 8], "data_offsets": [half, 2 * half]},
    })
    .to_string();
    write(dir, &AdapterRecipe { targets: vec!["q_proj".into()], ..AdapterRecipe::seeded(1) }).unwrap();
    let mut file = File::create(dir.join(WEIGHTS)).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + 2 * half).unwrap();
}

/// A pull of the large one that is under way.
fn pulling(dir: &Path) -> Process {
    let mut command = longshore();
    let process = Process::start(command.current_dir(dir).args(["pull", "large", "--store", "store"]));
    let weights = || staged(&dir.join("store")).iter().any(|session| session.join("0").join(WEIGHTS).is_file());
    until("the weights are being written", weights);
    process
}

#[test]
fn what_is_interrupted_removes_what_it_has_written() {
    let dir = tempfile::tempdir().unwrap();
    make_large(&dir.path().join("large"));
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut process = pulling(dir.path());
        assert_eq!(process.signal(signal), Some(code), "{}", process.output());
        process.line_with("stopped: what had been fetched is removed");
        let store = dir.path().join("store");
        assert!(entries(&store).is_empty() && staged(&store).is_empty(), "{:?}", staged(&store));
    }
}

#[test]
fn a_terminal_is_shown_how_far_it_has_come_and_is_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    make_large(&dir.path().join("large"));
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let theirs = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs = File::options().read(true).write(true).open(theirs).unwrap();
    let mut command = longshore();
    command.current_dir(dir.path()).args(["pull", "large", "--store", "store"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(theirs).spawn().unwrap();
    // What else holds the terminal's other end would keep it from ending.
    drop(command);
    let (mut ours, mut seen, mut stopped) = (File::from(ours), Vec::new(), false);
    let mut chunk = [0; 4096];
    // It ends with an error where nobody holds the other end any more.
    while let Ok(count @ 1..) = ours.read(&mut chunk) {
        seen.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&seen);
        if !stopped && text.contains("% ") && text.contains("B of 1.1 GB") {
            assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
            stopped = true;
        }
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let text = String::from_utf8(seen).unwrap();
    assert!(
        text.contains("\r\u{1b}[K[") && text.ends_with("\r\u{1b}[Kstopped: what had been fetched is removed\r\n"),
        "{text:?}"
    );
}

#[test]
fn what_is_killed_is_cleaned_up_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    make_large(&dir.path().join("large"));
    make_adapter(dir.path(), "sql", 1);
    pulling(dir.path()).kill9();
    let store = dir.path().join("store");
    assert!(entries(&store).is_empty() && staged(&store).len() == 1);
    let ran = Ran::of(dir.path(), &["pull", "sql", "--store", "store"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(entries(&store).len() == 1 && staged(&store).is_empty(), "{:?}", staged(&store));
}

#[test]
fn a_reader_that_has_gone_away_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let error = writer.try_clone().unwrap();
    let mut command: Command = longshore();
    command.current_dir(dir.path()).args(["pull", "sql", "--store", "store", "-o", "json"]);
    assert_eq!(command.stdout(writer).stderr(error).status().unwrap().code(), Some(0));
    assert_eq!(entries(&dir.path().join("store")).len(), 1);
}

#[test]
fn i8_credentials_are_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    std::fs::write(dir.path().join("secret"), "huggingface_token: marked-secret-7f3a\n").unwrap();
    for (place, code) in [("sql", 0), ("http://me:marked-secret-7f3a@127.0.0.1:9/x.tgz?token=marked-secret-7f3a", 1)] {
        let ran = Ran::with(dir.path(), |command| {
            command.args([
                "pull",
                place,
                "--credentials",
                "secret",
                "--log",
                "trace",
                "--store",
                "store",
                "--retries",
                "0",
            ])
        });
        assert!(!format!("{ran:?}").contains("marked-secret"), "{ran:?}");
        assert_eq!(ran.code, Some(code), "{ran:?}");
    }
}

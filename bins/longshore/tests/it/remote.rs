//! `pull` and `verify` from somewhere else: with credentials that stay unseen, through passing trouble, and given up cleanly.

use std::fs;
use std::path::Path;
use std::process::Command;

use longshore_testkit::adapters::{AdapterRecipe, CONFIG, Flaw, WEIGHTS, write};
use longshore_testkit::hub::{Access, At, FakeHub, Fault, Trouble};
use longshore_testkit::s3::{S3, S3Config, S3Key};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::harness::*;

/// The files of a small adapter, or of one with a flaw.
fn files(flaw: Flaw) -> [(&'static str, Vec<u8>); 2] {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &AdapterRecipe::seeded(1).with(flaw)).unwrap();
    [CONFIG, WEIGHTS].map(|name| (name, fs::read(dir.path().join(name)).unwrap()))
}

/// A hub with `org/sql` in it, which ends with the runtime.
fn hub() -> (Runtime, FakeHub) {
    let runtime = Runtime::new().unwrap();
    let hub = runtime.block_on(FakeHub::start()).unwrap();
    hub.push("org/sql", files(Flaw::None));
    (runtime, hub)
}

/// A command that asks that hub. Its links lead to another address, which nobody has configured.
fn asking<'c>(command: &'c mut Command, hub: &FakeHub) -> &'c mut Command {
    command.env_remove("HF_TOKEN").env("HF_ENDPOINT", hub.url()).env("LONGSHORE_ALLOW_PRIVATE_ADDRESSES", "true")
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

#[test]
fn an_adapter_comes_from_a_hub_and_its_digest_is_that_of_the_files() {
    let (_runtime, hub) = hub();
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let local = Ran::of(dir.path(), &["verify", "sql", "-o", "json"]).json();
    let ran = Ran::with(dir.path(), |command| asking(command, &hub).args(["pull", "hf://org/sql", "-o", "json"]));
    assert_eq!((ran.code, &ran.json()["digest"]), (Some(0), &local["digest"]), "{ran:?}");
    assert!(Path::new(ran.json()["path"].as_str().unwrap()).join(WEIGHTS).is_file(), "{ran:?}");
}

#[test]
fn a_private_repository_asks_for_a_token_from_the_environment_or_a_file_and_nobody_sees_it() {
    let (_runtime, hub) = hub();
    hub.restrict("org/sql", Access::Private);
    hub.admit("hf_marked-secret", "org/sql");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("token.yaml"), "huggingface_token: hf_marked-secret\n").unwrap();
    let run = |configure: fn(&mut Command) -> &mut Command| {
        let ran = Ran::with(dir.path(), |command| {
            asking(command, &hub).args(["pull", "hf://org/sql", "--store", "store", "--log", "trace"]);
            configure(command)
        });
        assert!(!format!("{ran:?}").contains("marked-secret"), "{ran:?}");
        ran.code
    };
    assert_eq!(run(|command| command), Some(1));
    assert_eq!(run(|command| command.env("HF_TOKEN", "hf_marked-secret")), Some(0));
    assert_eq!(run(|command| command.args(["--credentials", "token.yaml"])), Some(0));
    // A file that is named is what counts, whatever the environment holds.
    fs::write(dir.path().join("token.yaml"), "huggingface_token: hf_another\n").unwrap();
    let both = run(|command| command.env("HF_TOKEN", "hf_marked-secret").args(["--credentials", "token.yaml"]));
    assert_eq!(both, Some(1));
}

#[test]
fn objects_come_with_the_environments_keys_or_a_files() {
    let runtime = Runtime::new().unwrap();
    let key = S3Key::new("AKMARKED", "marked-secret");
    let s3 = runtime.block_on(S3::start(S3Config { keys: vec![key], ..S3Config::default() })).unwrap();
    for (name, bytes) in files(Flaw::None) {
        s3.put("models", &format!("sql/{name}"), bytes);
    }
    let dir = tempfile::tempdir().unwrap();
    let secret = "aws_access_key_id: AKMARKED\naws_secret_access_key: marked-secret\n";
    fs::write(dir.path().join("s3.yaml"), secret).unwrap();
    let run = |configure: fn(&mut Command) -> &mut Command| {
        let ran = Ran::with(dir.path(), |command| {
            command.env("AWS_ENDPOINT_URL", s3.url()).args([
                "verify",
                "s3://models/sql/",
                "-o",
                "json",
                "--log",
                "trace",
            ]);
            for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION"] {
                command.env_remove(name);
            }
            configure(command)
        });
        assert!(!format!("{ran:?}").contains("marked-secret"), "{ran:?}");
        (ran.code, ran.json()["reason"].as_str().unwrap_or_default().to_owned())
    };
    let good = (Some(0), String::new());
    let keys =
        run(|command| command.env("AWS_ACCESS_KEY_ID", "AKMARKED").env("AWS_SECRET_ACCESS_KEY", "marked-secret"));
    assert_eq!(keys, good);
    assert_eq!(run(|command| command.args(["--credentials", "s3.yaml"])), good);
    assert_eq!(run(|command| command), (Some(1), "AccessDenied".to_owned()));
}

#[test]
fn what_is_checked_from_a_url_is_refused_like_a_directory_and_not_kept() {
    let (_runtime, hub) = hub();
    hub.push("org/nan", files(Flaw::Nan));
    let (dir, temporary) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (repo, code, reason) in [
        ("hf://org/sql", 0, json!(null)),
        ("hf://org/nan", 1, json!("NotFinite")),
        ("hf://org/none", 1, json!("ArtifactNotFound")),
    ] {
        let ran = Ran::with(dir.path(), |command| {
            asking(command, &hub).env("TMPDIR", temporary.path()).args(["verify", repo, "-o", "json"])
        });
        assert_eq!((ran.code, &ran.json()["reason"]), (Some(code), &reason), "{ran:?}");
        assert!(is_empty(temporary.path()) && is_empty(dir.path()), "{repo}");
    }
}

#[test]
fn passing_trouble_is_waited_for_as_long_as_the_source_asks() {
    let (_runtime, hub) = hub();
    let dir = tempfile::tempdir().unwrap();
    let pull = |retries: &str| {
        Ran::with(dir.path(), |command| {
            asking(command, &hub).args(["pull", "hf://org/sql", "--store", "store", "--retries", retries])
        })
    };
    hub.fail(Fault::at(At::Revision, Trouble::TooMany(2)));
    assert_eq!(pull("1").code, Some(0));
    hub.fail(Fault::at(At::Revision, Trouble::TooMany(3600)));
    let ran = pull("3");
    assert!(ran.code == Some(3) && ran.stderr.contains("left alone for 1 h 0 min"), "{ran:?}");
}

#[test]
fn what_is_given_up_while_it_is_checked_is_removed() {
    // It accepts, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let mut command = longshore();
    command.env("HF_ENDPOINT", format!("http://{}", silent.local_addr().unwrap())).env("TMPDIR", temporary.path());
    let mut process = Process::start(command.args(["verify", "hf://org/sql"]));
    let _connection = silent.accept().unwrap();
    assert_eq!(process.signal("-INT"), Some(130), "{}", process.output());
    assert!(is_empty(temporary.path()));
}

//! `longshore verify`: what is wrong is named, with an exit code that scripts can go by, and nothing is kept.

use std::os::unix::fs::symlink;
use std::path::Path;

use longshore_testkit::adapters::{AdapterRecipe, CONFIG, Flaw, WEIGHTS, fixtures, write, write_fixtures};
use longshore_testkit::tiny::Shape;
use serde_json::{Value, json};

use crate::harness::*;

/// Writes the tiny base model's `config.json`.
fn make_base(dir: &Path) {
    let s = Shape::TINY;
    let config = json!({
        "model_type": "llama",
        "hidden_size": s.hidden,
        "intermediate_size": s.intermediate,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "head_dim": s.head_dim,
    });
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
}

/// The names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_sound_adapter_is_described_and_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "my adapter", 1);
    make_base(&dir.path().join("base"));
    let before = names(dir.path());
    let ran = Ran::of(dir.path(), &["verify", "my adapter", "--base", "base", "--max-rank", "8"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    println!("{}", ran.stdout);
    for text in
        ["my adapter is a LoRA adapter that engines can load", "rank        8", "q_proj", "fit --base base", WEIGHTS]
    {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.stdout);
    }
    let quiet = Ran::of(dir.path(), &["verify", "-q", "my adapter"]);
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(names(dir.path()), before, "nothing is written");
}

#[test]
fn each_kind_of_flaw_is_refused_by_its_name_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    write_fixtures(dir.path()).unwrap();
    make_base(&dir.path().join("base"));
    let reasons = [
        ("wrong-base", "ShapeMismatch", "another model"),
        ("smaller-base", "ShapeMismatch", "another model"),
        ("more-layers", "LayerMissing", "another model"),
        ("no-config", "ConfigMissing", "adapter_config.json"),
        ("no-weights", "WeightsMissing", "save_pretrained"),
        ("corrupt", "WeightsInvalid", "header"),
        ("truncated", "WeightsTruncated", "copy it again"),
        ("bad-config", "ConfigInvalid", "line 1"),
        ("dora", "", "DoRA"),
        ("bias-all", "", "bias=\"none\""),
        ("modules-to-save", "", "lm_head"),
        ("unknown-target", "TargetMismatch", "no_such_proj"),
        ("unknown-tensor", "ModuleMissing", "no_such_proj"),
        ("rank-lies", "RankMismatch", "set `r`"),
        ("nan", "NotFinite", "earlier checkpoint"),
    ];
    for (name, reason, words) in reasons {
        let ran = Ran::of(dir.path(), &["verify", name, "--base", "base"]);
        println!("{}", ran.stderr);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        let path = dir.path().join(name);
        let begin = format!("{}: refused: {reason}", path.display());
        assert!(ran.stderr.starts_with(&begin) && ran.stderr.contains(words), "{name}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        let ran = Ran::of(dir.path(), &["verify", name, "--base", "base/config.json", "-o", "json", "-q"]);
        assert!(
            ran.code == Some(1) && ran.stderr.is_empty() && ran.json()["reason"].as_str().unwrap().starts_with(reason)
        );
    }
    let sound = fixtures().into_iter().filter(|(name, _)| !reasons.iter().any(|(flawed, ..)| flawed == name));
    for (name, _) in sound {
        let ran = Ran::of(dir.path(), &["verify", name, "--base", "base"]);
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
    }
}

/// Changes one field of an adapter's configuration.
fn edit(dir: &Path, field: &str, value: Value) {
    let path = dir.join(CONFIG);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[field] = value;
    std::fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_configuration_that_was_edited_is_refused_by_the_field() {
    let dir = tempfile::tempdir().unwrap();
    for (field, value, words) in [
        ("r", json!(0), "`r` "),
        ("r", json!(-1), "`r` "),
        ("r", json!("8"), "`r` "),
        ("lora_alpha", json!("16"), "`lora_alpha` "),
        ("peft_type", json!("IA3"), "IA3"),
        ("target_modules", json!([]), "`target_modules` "),
        ("target_modules", json!(7), "`target_modules` "),
        ("target_modules", json!(["c_attn"]), "c_attn"),
        ("init_lora_weights", json!("pissa"), "pissa"),
        ("base_model_name_or_path", json!(["x"]), "`base_model_name_or_path` "),
    ] {
        let path = dir.path().join("edited");
        write(&path, &AdapterRecipe::seeded(1)).unwrap();
        edit(&path, field, value.clone());
        let ran = Ran::of(dir.path(), &["verify", "edited"]);
        println!("{field}={value}: {}", ran.stderr);
        assert!(ran.code == Some(1) && ran.stderr.contains("/edited: refused: "), "{ran:?}");
        assert!(ran.stderr.contains(words), "{}", ran.stderr);
    }
}

#[test]
fn files_that_are_no_weights_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let case = |name: &str, change: &dyn Fn(&Path)| {
        let path = dir.path().join(name);
        write(&path, &AdapterRecipe::seeded(1)).unwrap();
        change(&path);
        let ran = Ran::of(dir.path(), &["verify", name, "-o", "json"]);
        println!("{name}: {}", ran.json()["message"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        ran.json()["reason"].as_str().unwrap().to_owned()
    };
    let pickle = case("pickle", &|path| std::fs::rename(path.join(WEIGHTS), path.join("adapter_model.bin")).unwrap());
    assert_eq!(pickle, "PickleRefused");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n";
    assert_eq!(case("pointer", &|path| std::fs::write(path.join(WEIGHTS), pointer).unwrap()), "LfsPointer");
    let page = "<!doctype html><html><body>404 Not Found</body></html>";
    assert_eq!(case("page", &|path| std::fs::write(path.join(WEIGHTS), page).unwrap()), "WeightsInvalid");
    let device = |path: &Path| {
        std::fs::remove_file(path.join(WEIGHTS)).unwrap();
        symlink("/dev/zero", path.join(WEIGHTS)).unwrap();
    };
    assert_eq!(case("device", &device), "SpecialFile");
    let checkpoint = |path: &Path| {
        std::fs::create_dir(path.join("checkpoint-100")).unwrap();
        std::fs::rename(path.join(CONFIG), path.join("checkpoint-100").join(CONFIG)).unwrap();
    };
    assert_eq!(case("run", &checkpoint), "ConfigMissing");
    let ran = Ran::of(dir.path(), &["verify", "run"]);
    assert!(ran.stderr.contains("run/checkpoint-100: name that directory"), "{}", ran.stderr);
    let ran = Ran::of(dir.path(), &["verify", "run/checkpoint-100/adapter_config.json"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("ArtifactNotADirectory"), "{ran:?}");
}

#[test]
fn a_rank_above_the_engines_is_refused_and_still_told() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("high"), &AdapterRecipe { rank: 64, ..AdapterRecipe::seeded(1) }).unwrap();
    let ran = Ran::of(dir.path(), &["verify", "high", "--max-rank", "16", "-o", "json"]);
    assert_eq!((ran.code, &ran.json()["reason"], &ran.json()["rank"]), (Some(1), &json!("RankTooHigh"), &json!(64)));
    let ran = Ran::of(dir.path(), &["verify", "high", "--max-rank", "16"]);
    assert!(
        ran.stderr.contains(
            "the adapter has rank 64, but the engine takes 16 at most: start it with a larger --max-lora-rank"
        ),
        "{ran:?}"
    );
    assert_eq!(Ran::of(dir.path(), &["verify", "high", "--max-rank", "64"]).code, Some(0));
}

#[test]
fn a_digest_that_is_not_the_one_asked_for_is_refused_and_the_other_said() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let digest = Ran::of(dir.path(), &["verify", "sql", "-o", "json"]).json()["digest"].as_str().unwrap().to_owned();
    assert_eq!(Ran::of(dir.path(), &["verify", "sql", "--digest", &digest]).code, Some(0));
    let other = format!("sha256:{}", "0".repeat(64));
    let ran = Ran::of(dir.path(), &["verify", "sql", "--digest", &other, "-o", "json"]);
    assert_eq!(
        (ran.code, &ran.json()["reason"], &ran.json()["digest"]),
        (Some(1), &json!("DigestMismatch"), &json!(digest))
    );
}

#[test]
fn the_object_is_the_same_for_good_and_bad() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "good", 1);
    write(&dir.path().join("bad"), &AdapterRecipe::seeded(1).with(Flaw::Nan)).unwrap();
    for name in ["good", "bad", "nowhere"] {
        let ran = Ran::of(dir.path(), &["verify", name, "-o", "json"]);
        assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
        let object = ran.json();
        let fields: Vec<&String> = object.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["bytes", "digest", "message", "path", "rank", "reason", "url"], "{object}");
        assert_eq!(object["url"], json!(dir.path().join(name)));
        assert_eq!(object["reason"].is_null(), name == "good", "{object}");
        assert!(object["path"].is_null(), "{object}");
    }
}

#[test]
fn what_was_typed_wrongly_is_another_exit_code_and_never_a_result() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    std::fs::write(dir.path().join("list"), "[]").unwrap();
    for (args, words) in [
        (&["verify"][..], "PATH|URL"),
        (&["verify", "sql", "--nonsense"], "--nonsense"),
        (&["verify", "sql", "--digest", "sha256:12"], "--digest"),
        (&["verify", "sql", "--max-rank", "0"], "--max-rank"),
        (&["verify", "sql", "--base", "nowhere"], "--base nowhere"),
        (&["verify", "sql", "--base", "list"], "--base list"),
        (&["verify", "sql", "--base", "/dev/zero"], "--base /dev/zero"),
        (&["verify", ""], "name the adapter's directory or URL"),
        (&["verify", "ftp://example.com/x"], "hf://"),
        (&["verify", "s3://bucket/a b"], "spaces"),
        (&["verify", "file://sql"], "file:///path"),
        (&["verify", "s3://bucket/x", "--credentials", "nowhere"], "--credentials nowhere"),
        (&["verify", "s3://bucket/x", "--credentials", "list"], "name: value"),
    ] {
        let ran = Ran::with(dir.path(), |command| command.args(args).args(["-o", "json"]));
        println!("{}", ran.stderr);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{args:?}: {}", ran.stderr);
    }
    assert_eq!(names(dir.path()), ["list", "sql"]);
}

#[test]
fn trouble_that_may_pass_is_a_third_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let config = dir.path().join("sql").join(CONFIG);
    std::fs::remove_file(&config).unwrap();
    // A regular file as far as anybody can see, and every read of it fails: nothing is mapped at address 0.
    symlink("/proc/self/mem", &config).unwrap();
    let ran = Ran::of(dir.path(), &["verify", "sql"]);
    println!("{}", ran.stderr);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(
        ran.stderr.contains("not now: SourceFailed: ") && ran.stderr.ends_with("try again later\n"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_reader_that_has_gone_away_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "sql", 1);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = longshore().current_dir(dir.path()).args(["verify", "sql"]).stdout(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_was_fetched_to_be_looked_at_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    // Clouds give out a machine's own credentials there, so that nobody gets anything from it.
    let ran = Ran::of(dir.path(), &["verify", "http://169.254.169.254/adapter.tar.gz?sig=marked-secret"]);
    println!("{}", ran.stderr);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!ran.stderr.contains("marked-secret"), "{}", ran.stderr);
    assert!(names(dir.path()).is_empty(), "{:?}", names(dir.path()));
}

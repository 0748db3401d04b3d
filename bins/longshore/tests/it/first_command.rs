//! What a newcomer does first.

use crate::harness::*;

#[test]
fn the_first_command_serves_the_samples_and_prints_a_request_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    // Outside of a clone the samples come from the binary.
    let mut command = longshore();
    command.current_dir(dir.path()).env("XDG_DATA_HOME", &data);
    command.args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let mut process = Process::start(&mut command);
    process.line_with("ready; try:");
    let hint = process.line_with("curl -s http://");
    let address = hint.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let body = process.line_with("-d '{");
    let body = body.split('\'').nth(1).unwrap();
    let answer = post(&address, "/v1/completions", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let model = serde_json::from_str::<serde_json::Value>(body).unwrap()["model"].as_str().unwrap().to_owned();
    assert!(answer.is_by(&model), "{answer:?}");
    assert!(data.join("longshore/store").is_dir());
    assert_eq!(process.terminate(), Some(0), "{}", process.output());
}

#[test]
fn get_and_explain_tell_what_is() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    manifest(dir.path(), "lost", "./nowhere", "");
    let up = Up::start(dir.path(), &["--simulate", "2", "-f", "."]);
    up.until_ready("sql", 2);
    until("lost has failed", || up.adapter("lost")["phase"] == "Failed");
    let run = |args: &[&str]| {
        let output = longshore().args(args).args(["--server", &up.admin]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text)
    };
    let (good, text) = run(&["get", "adapters"]);
    assert!(good && text.contains("Running") && text.contains("2/2") && text.contains("ArtifactNotFound"), "{text}");
    let (good, text) = run(&["get", "engines", "-o", "wide"]);
    assert!(good && text.contains("sim-0") && text.contains("tiny-base") && text.contains("sql"), "{text}");
    let (good, text) = run(&["get", "adapters", "-o", "json"]);
    assert!(good && serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    let (good, text) = run(&["explain", "sql"]);
    assert!(good && text.contains("are answered by sim-0, sim-1"), "{text}");
    let (good, text) = run(&["explain", "lost"]);
    assert!(good && text.contains("nowhere") && text.contains("ArtifactNotFound"), "{text}");
    let (good, text) = run(&["explain", "nobody"]);
    assert!(!good && text.contains("no adapter or engine is named nobody"), "{text}");
    drop(up);
    let output = longshore().args(["get", "adapters", "--server", "127.0.0.1:1"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("longshore up") && text.contains("--server"), "{text}");
}

#[test]
fn i4_the_end_unloads_what_was_loaded_and_exits_with_0() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    let engine = Engine::start(&[]);
    let mut up = Up::start(dir.path(), &["--engine", &engine.url(), "-f", "."]);
    up.until_ready("sql", 1);
    assert_eq!(engine.lists(), ["sql"]);
    assert_eq!(up.process.terminate(), Some(0), "{}", up.process.output());
    assert!(engine.lists().is_empty());
    assert!(!up.process.output().contains("still holds"), "{}", up.process.output());
}

#[test]
fn what_is_left_loaded_is_taken_over_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    let engine = Engine::start(&[]);
    let url = engine.url();
    let args = ["--engine", &url, "-f", ".", "--leave-loaded"];
    let mut up = Up::start(dir.path(), &args);
    up.until_ready("sql", 1);
    assert_eq!(up.process.terminate(), Some(0));
    assert_eq!(engine.lists(), ["sql"]);
    let up = Up::start(dir.path(), &args);
    up.until_ready("sql", 1);
    assert!(up.ask("sql").is_by("sql"));
    assert_eq!(engine.loads().values().sum::<usize>(), 1);
}

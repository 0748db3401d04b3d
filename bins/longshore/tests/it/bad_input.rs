//! What people get wrong: each is named, and nothing else stops.

use longshore_testkit::adapters::{AdapterRecipe, Flaw, write};

use crate::harness::*;

#[test]
fn a_port_in_use_is_named_with_the_flag_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let store = dir.path().join("store");
        let mut command = longshore();
        command.current_dir(dir.path()).args([
            "up",
            flag,
            &address,
            other,
            "127.0.0.1:0",
            "--simulate",
            "1",
            "-f",
            ".",
            "--store",
        ]);
        let mut process = Process::start(command.arg(store));
        assert_eq!(process.wait(), Some(1));
        let output = process.output();
        assert!(output.contains(&address) && output.contains(flag), "{output}");
    }
}

#[test]
fn broken_manifests_are_named_with_file_and_line_and_stop_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "good", "./one", "");
    std::fs::write(dir.path().join("malformed.yaml"), "a: [1, 2\nb: }\n").unwrap();
    std::fs::write(dir.path().join("kind.yaml"), "apiVersion: v9\nkind: Nonsense\nmetadata: {name: x}\n").unwrap();
    manifest(dir.path(), "field", "./one", "  replica: 3\n");
    manifest(dir.path(), "url", "ftp://x/y", "");
    manifest(dir.path(), "policy", "./one", "  schedulerName: best\n  replicas: 1\n");
    let operator = "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata:\n  name: operator\nspec:\n  \
                    artifactURL: ./one\n  podSelector:\n    matchExpressions:\n    - {key: a, operator: Near, values: [b]}\n";
    std::fs::write(dir.path().join("operator.yaml"), operator).unwrap();
    let up = Up::start(dir.path(), &["--simulate", "1", "-f", ".", "-f", "nowhere"]);
    up.until_ready("good", 1);
    for (place, words) in [
        ("malformed.yaml:", ""),
        ("kind.yaml:", "Nonsense"),
        ("field.yaml:10", "replica"),
        ("url.yaml:", "artifactURL"),
        ("operator.yaml:9", "NotIn"),
        ("nowhere", ""),
    ] {
        let line = up.process.line_with(place);
        assert!(line.contains(words), "{line}");
    }
    until("the unknown policy is said", || {
        up.adapter("policy")["message"].as_str().unwrap_or("").contains("least-adapters")
    });
    assert_eq!(up.ask("policy").status, 503);
}

#[test]
fn broken_adapters_are_refused_with_their_reason_before_an_engine_sees_them() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "fine", 1);
    manifest(dir.path(), "fine", "./fine", "");
    let flaws = [
        ("no-config", Flaw::NoConfig),
        ("no-weights", Flaw::NoWeights),
        ("corrupt", Flaw::CorruptWeights),
        ("truncated", Flaw::TruncatedWeights),
        ("bad-config", Flaw::BadConfig),
        ("dora", Flaw::Dora),
        ("rank-lies", Flaw::RankLies),
        ("nan", Flaw::Nan),
    ];
    for (name, flaw) in flaws {
        write(&dir.path().join(name), &AdapterRecipe::seeded(3).with(flaw)).unwrap();
        manifest(dir.path(), name, &format!("./{name}"), "");
    }
    let engine = Engine::start(&[]);
    let up = Up::start(dir.path(), &["--engine", &engine.url(), "-f", "."]);
    up.until_ready("fine", 1);
    for (name, _) in flaws {
        until(&format!("{name} has failed"), || up.adapter(name)["phase"] == "Failed");
        let adapter = up.adapter(name);
        println!("{name}: {}: {}", adapter["reason"], adapter["message"]);
        assert!(!adapter["reason"].as_str().unwrap().is_empty());
        let answer = up.ask(name);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.body.contains(adapter["reason"].as_str().unwrap()) || answer.body.len() > 60, "{answer:?}");
    }
    assert_eq!(engine.loads().len(), 1, "the engine has seen the good one only");
}

#[test]
fn what_only_the_engine_can_tell_is_said_in_its_words() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("wide"), &AdapterRecipe::seeded(3).with(Flaw::WrongBase)).unwrap();
    write(&dir.path().join("high"), &AdapterRecipe { rank: 64, ..AdapterRecipe::seeded(4) }).unwrap();
    manifest(dir.path(), "wide", "./wide", "");
    manifest(dir.path(), "high", "./high", "");
    manifest(dir.path(), "known", "./high", "");
    for version in ["0.32.0", "0.11.0"] {
        let engine = Engine::start(&["--behaves-like", version, "--max-lora-rank", "16"]);
        let store = tempfile::tempdir().unwrap();
        let up =
            Up::start(dir.path(), &["--engine", &engine.url(), "-f", ".", "--store", store.path().to_str().unwrap()]);
        for name in ["wide", "high"] {
            until(&format!("{name} has failed"), || up.adapter(name)["phase"] == "Failed");
            assert_eq!(up.adapter(name)["reason"], "Incompatible", "{:#}", up.adapter(name));
        }
    }
    // Where the limit is known, the engine is not even asked.
    let engine = Engine::start(&["--max-lora-rank", "16"]);
    let named = format!("{},max-lora-rank=16", engine.url());
    let up = Up::start(dir.path(), &["--engine", &named, "-f", "known.yaml"]);
    until("the rank is said", || up.adapter("known")["message"].as_str().unwrap_or("").contains("rank 64 above"));
    assert!(engine.loads().is_empty());
}

#[test]
fn of_two_manifests_that_claim_one_name_the_first_keeps_it_and_the_second_says_so() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    make_adapter(dir.path(), "two", 2);
    manifest(dir.path(), "sql", "./one", "");
    let up = Up::start(dir.path(), &["--simulate", "1", "-f", "."]);
    up.until_ready("sql", 1);
    let digest = up.adapter("sql")["digest"].clone();
    let text = std::fs::read_to_string(dir.path().join("sql.yaml")).unwrap().replace("./one", "./two");
    std::fs::write(dir.path().join("zwei.yaml"), text).unwrap();
    let line = up.process.line_with("zwei.yaml:");
    assert!(line.contains("sql.yaml"), "{line}");
    assert_eq!(up.adapter("sql")["digest"], digest);
    assert!(up.ask("sql").is_by("sql"));
}

#[test]
fn an_unreachable_engine_is_named_and_the_others_serve() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    let up = Up::start(dir.path(), &["--simulate", "1", "--engine", "http://127.0.0.1:1", "-f", "."]);
    up.until_ready("sql", 1);
    let line = up.process.line_with("127.0.0.1:1");
    assert!(line.contains("refused") || line.contains("ConnectionRefused"), "{line}");
}

#[test]
fn i8_an_engines_key_is_used_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    make_adapter(dir.path(), "one", 1);
    manifest(dir.path(), "sql", "./one", "");
    std::fs::write(dir.path().join("key"), "marked-secret-7f3a\n").unwrap();
    let engine = Engine::start(&["--api-key", "marked-secret-7f3a"]);
    let up = Up::start(
        dir.path(),
        &["--engine", &engine.url(), "--engine-api-key-file", "key", "-f", ".", "--log", "debug"],
    );
    up.until_ready("sql", 1);
    let everything = [
        up.process.output(),
        get(&up.admin, "/v1/adapters").body,
        get(&up.admin, "/v1/engines").body,
        get(&up.admin, "/metrics").body,
        up.ask("sql").body,
    ];
    for text in everything {
        assert!(!text.contains("marked-secret"), "{text}");
    }
    assert_eq!(up.ask("sql").status, 401, "the client's own key is what counts");
}

//! The contract suite on real engines.
//!
//! They take a minute to install, half a minute to start and 3 GB of memory each, so they are run only when they are
//! asked for: `cargo xtask e2e vllm`, or
//!
//! ```text
//! LONGSHORE_VLLM=1 cargo test -p longshore-testkit --test real_vllm -- --nocapture
//! ```
//!
//! `LONGSHORE_VLLM` may also name one version. Where it is not set, the tests say that nothing was run.

use std::io::Write as _;
use std::path::Path;

use longshore_testkit::contract::{self, Setting, Target};
use longshore_testkit::real::{RealConfig, RealVllm, not_asked_for};
use longshore_testkit::{Version, adapters};

/// Two engines at a time would start more slowly than one after the other on a small machine.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Says it where it is seen: the test harness shows what is printed only of tests that fail.
fn say(text: &str) {
    // Without a place to say it, nobody listens.
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn suite(version: Version, setting: Setting, at_least: usize) {
    if let Some(why) = not_asked_for(version) {
        return say(&why);
    }
    let _turn = ONE_AT_A_TIME.lock().await;
    let dir = tempfile::tempdir().expect("a directory for the fixtures");
    adapters::write_fixtures(dir.path()).expect("fixtures can be written");
    let has_key = setting == Setting::Full;
    let config = RealConfig {
        no_lora: setting == Setting::NoLora,
        no_updating: setting == Setting::NoUpdating,
        arguments: if has_key { vec!["--api-key".into(), contract::KEY.into()] } else { Vec::new() },
    };
    let logs = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let engine = RealVllm::start(version, &config, logs).await.expect("the engine starts");
    let target = Target { setting, has_key, may_die: true, ..Target::new(engine.addr(), version) };
    let report = contract::run(&target, dir.path()).await;
    say(&report.to_string());
    assert_eq!(report.failures().count(), 0, "{report}\n\n{}", engine.last_words());
    assert!(report.passed() >= at_least, "only {} probes were run", report.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_0_32_0_answers_as_the_contract_says() {
    suite(Version::V0_32_0, Setting::Full, 160).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_0_11_0_answers_as_the_contract_says() {
    suite(Version::V0_11_0, Setting::Full, 160).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_engines_whose_adapters_are_fixed_answer_as_the_contract_says() {
    for version in Version::ALL {
        suite(version, Setting::NoUpdating, 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_engines_without_adapters_answer_as_the_contract_says() {
    for version in Version::ALL {
        suite(version, Setting::NoLora, 3).await;
    }
}

//! The contract suite on the simulated engine, in the words of both versions.

// The counts are what one looks for in the output.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use longshore_testkit::contract::{self, Report, Setting, Target};
use longshore_testkit::{SimConfig, SimEngine, Timing, Version, adapters};
use longshore_types::Secret;

async fn run(version: Version, setting: Setting, key: bool) -> Report {
    let dir = tempfile::tempdir().expect("a directory for the fixtures");
    adapters::write_fixtures(dir.path()).expect("fixtures can be written");
    let config = SimConfig {
        api_key: key.then(|| Secret::new(contract::KEY)),
        runtime_updating: setting != Setting::NoUpdating,
        enable_lora: setting != Setting::NoLora,
        // About as long as the real one takes, so that what runs can be seen running.
        timing: Timing { token: Duration::from_millis(4), ..Timing::default() },
        ..SimConfig::version(version)
    };
    let engine = SimEngine::start(config).await.expect("the engine starts");
    let target = Target { setting, has_key: key, may_die: true, ..Target::new(engine.addr(), version) };
    contract::run(&target, dir.path()).await
}

fn is_whole(report: &Report, at_least: usize) {
    println!("{report}");
    assert_eq!(report.failures().count(), 0, "{report}");
    assert!(report.passed() >= at_least, "only {} probes were run", report.passed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_0_32_0_answers_as_the_real_one() {
    is_whole(&run(Version::V0_32_0, Setting::Full, false).await, 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_simulated_0_11_0_answers_as_the_real_one() {
    is_whole(&run(Version::V0_11_0, Setting::Full, false).await, 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_guards_what_it_guards_in_the_real_one() {
    for version in Version::ALL {
        is_whole(&run(version, Setting::Full, true).await, 160);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_adapters_are_fixed_answers_as_the_real_one() {
    for version in Version::ALL {
        is_whole(&run(version, Setting::NoUpdating, false).await, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_without_adapters_answers_as_the_real_one() {
    for version in Version::ALL {
        is_whole(&run(version, Setting::NoLora, false).await, 3);
    }
}

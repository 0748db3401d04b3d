//! Every broken adapter that we could think of: each is refused for its reason, soon, and with little memory.
//!
//! A process of its own, so that the memory that is measured is that of the case.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

#[path = "../it/adapter.rs"]
mod adapter;
mod base;
mod config;
mod files;
mod header;
mod tensors;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adapter::Adapter;
use longshore_artifacts::{BaseShapes, verify_dir};

/// What a case may take above what the process has: a header of the largest size, and as much again for what is in it.
const MOST_MEMORY: u64 = 96 << 20;
/// What takes longer has no end, or one that nobody waits for. Machines that test are slow.
const MOST_TIME: Duration = Duration::from_secs(10);

/// One broken adapter.
struct Case {
    name: String,
    reason: &'static str,
    /// The base model's `config.json`, where the adapter is held against one.
    base: Option<String>,
    write: Box<dyn Fn(&Path)>,
}

impl Case {
    fn new(name: impl Into<String>, reason: &'static str, write: impl Fn(&Path) + 'static) -> Self {
        Self { name: name.into(), reason, base: None, write: Box::new(write) }
    }

    /// A sound adapter with one change.
    fn changed(name: impl Into<String>, reason: &'static str, change: impl Fn(&mut Adapter) + 'static) -> Self {
        Self::new(name, reason, move |dir| {
            let mut adapter = Adapter::tiny(1);
            change(&mut adapter);
            adapter.write(dir);
        })
    }

    /// A sound adapter with another file in the place of `file`.
    fn replaced(
        name: impl Into<String>,
        reason: &'static str,
        file: &'static str,
        bytes: impl Fn() -> Vec<u8> + 'static,
    ) -> Self {
        Self::new(name, reason, move |dir| {
            Adapter::tiny(1).write(dir);
            fs::write(dir.join(file), bytes()).unwrap();
        })
    }
}

#[test]
fn every_broken_adapter_is_refused_for_its_reason_soon_and_with_little_memory() {
    let cases: Vec<Case> = [header::cases(), tensors::cases(), config::cases(), files::cases(), base::cases()]
        .into_iter()
        .flatten()
        .collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| &*case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let (mut wrong, mut slowest, mut largest) = (Vec::new(), (Duration::ZERO, ""), (0, ""));
    for case in &cases {
        let dir = tempfile::tempdir().unwrap();
        (case.write)(dir.path());
        let base = case.base.as_ref().map(|json| BaseShapes::from_config_json(json.as_bytes()));
        let before = forget_peak();
        let start = Instant::now();
        let result = match base.transpose() {
            Ok(base) => verify_dir(dir.path(), base.map(Arc::new)).map(drop),
            Err(defect) => Err(defect.into()),
        };
        let (took, grown) = (start.elapsed(), peak().saturating_sub(before));
        let problem = match result {
            Ok(()) => Some("it was taken".to_owned()),
            Err(error) if error.reason() != case.reason => Some(format!("{}: {error}", error.reason())),
            Err(error) if error.is_transient() => Some(format!("it is tried again: {error}")),
            Err(error) if error.to_string().len() > 2000 || error.to_string().chars().any(char::is_control) => {
                Some(format!("nobody can read this: {error:.3000}"))
            }
            Err(_) if took > MOST_TIME => Some(format!("it took {took:?}")),
            Err(_) if grown > MOST_MEMORY => Some(format!("it took {} MiB", grown >> 20)),
            Err(_) => None,
        };
        wrong.extend(problem.map(|problem| format!("{} ({}): {problem}", case.name, case.reason)));
        slowest = slowest.max((took, &case.name));
        largest = largest.max((grown, &case.name));
    }
    let reasons: BTreeSet<&str> = cases.iter().map(|case| case.reason).collect();
    println!("{} cases, {} reasons: {reasons:?}", cases.len(), reasons.len());
    println!("slowest: {} ({:?}), largest: {} ({} MiB)", slowest.1, slowest.0, largest.1, largest.0 >> 20);
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(cases.len() >= 150 && reasons.len() >= 36, "cases were lost");
}

/// The memory that this process has now, in bytes. From here on, [`peak`] counts anew.
fn forget_peak() -> u64 {
    // Where the kernel has no such switch, the peak is that of all cases so far, which is stricter.
    let _ = fs::write("/proc/self/clear_refs", "5");
    memory("VmRSS:")
}

/// The most memory that this process has had.
fn peak() -> u64 {
    memory("VmHWM:")
}

fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) << 10
}

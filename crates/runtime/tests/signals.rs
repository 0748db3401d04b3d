//! Real signals, in a process of their own: this test starts itself again as the child.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should say where")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use longshore_runtime::{Readiness, Shutdown};
use rustix::process::{Pid, Signal, kill_process};

const CHILD: &str = "LONGSHORE_TEST_SIGNAL_CHILD";

/// Not a test by itself: what the test below starts.
#[tokio::test]
async fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let shutdown = Shutdown::new(Readiness::new(), Duration::ZERO);
    shutdown.listen_to_signals().unwrap();
    eprintln!("listening");
    shutdown.token().cancelled().await;
    eprintln!("draining");
    std::future::pending::<()>().await;
}

#[test]
fn the_first_signal_drains_and_the_second_ends_the_process() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut wait_for = |wanted: &str| assert!(lines.any(|line| line == wanted), "the child ended without {wanted:?}");
    wait_for("listening");
    kill_process(pid, Signal::TERM).unwrap();
    wait_for("draining");
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

//! Running other programs: shown before they start, and cargo's test counts read as they pass by.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// What test runners said at their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that were not run: ignored ones.
    pub skipped: u64,
}

impl Counts {
    /// Reads the closing line of a Rust test binary, as in `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub fn parse(line: &str) -> Option<Self> {
        let (_verdict, numbers) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let number =
            |word: &str| numbers.split("; ").find_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok());
        Some(Self { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// `3 passed, 0 failed, 1 skipped`.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Shows the command, runs it to its end with this process's output, and fails where it fails.
pub fn run(command: &mut Command) -> Result<()> {
    show(command);
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", name(command));
    }
    Ok(())
}

/// Like [`run`] for a `cargo test`: passes its output on line by line and adds its counts to `counts`, also where it
/// fails. It fails too where no test ran at all, because a filter that matches nothing must not look like success.
pub fn run_tests(command: &mut Command, counts: &mut Counts) -> Result<Counts> {
    show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", name(command)))?;
    let stdout = child.stdout.take().expect("stdout is piped three lines above");
    let mut own = Counts::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("cannot read the output of the tests")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(seen) = Counts::parse(&line) {
            own += seen;
        }
    }
    *counts += own;
    let status = child.wait().context("cannot wait for the tests")?;
    if !status.success() {
        bail!("{} ended with {status} ({own})", name(command));
    }
    if own.passed == 0 {
        bail!("{} ran no test", name(command));
    }
    Ok(own)
}

/// Whether a program can be started and says that all is well; its output is dropped.
pub fn succeeds(program: &str, args: &[&str]) -> bool {
    quiet(Command::new(program).args(args))
}

/// Whether a command succeeds; its output is dropped.
pub fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// `1.2 s`, and above a minute `3 min 04 s`.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole < 60 { format!("{:.1} s", time.as_secs_f64()) } else { format!("{} min {:02} s", whole / 60, whole % 60) }
}

fn show(command: &Command) {
    let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
    println!("$ {} {}", program(command), args.join(" "));
}

fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What errors call it: `cargo clippy` rather than the whole path and every argument.
fn name(command: &Command) -> String {
    let program = program(command);
    match command.get_args().next() {
        Some(subcommand) if program == "cargo" => format!("cargo {}", subcommand.to_string_lossy()),
        _ => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_binary_is_read() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 4 filtered out; finished in 0.10s";
        assert_eq!(Counts::parse(line), Some(Counts { passed: 12, failed: 1, skipped: 3 }));
        assert_eq!(Counts::parse("test result: none"), None);
        assert_eq!(Counts::parse("12 passed; 1 failed"), None);
    }

    #[test]
    fn counts_are_kept_where_the_run_fails() {
        let mut counts = Counts::default();
        let script = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out'; exit 101";
        let error = run_tests(Command::new("sh").args(["-c", script]), &mut counts).unwrap_err().to_string();
        assert_eq!(counts, Counts { passed: 2, failed: 1, skipped: 0 });
        assert!(error.contains("2 passed, 1 failed"), "{error}");
    }

    #[test]
    fn a_run_without_a_test_is_a_failure() {
        let script = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out'";
        let error = run_tests(Command::new("sh").args(["-c", script]), &mut Counts::default()).unwrap_err();
        assert!(error.to_string().contains("ran no test"), "{error}");
    }

    #[test]
    fn times_are_shown_for_people() {
        assert_eq!(seconds(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(184)), "3 min 04 s");
    }
}

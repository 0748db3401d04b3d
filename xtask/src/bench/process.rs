//! Processes that are measured: built, started with their output in a file, read through `/proc`, and never left behind.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cargo_metadata::Message;

use crate::Workspace;

/// The kernel shows CPU time in ticks of this length: USER_HZ is 100 on every Linux that Rust's tier 1 and 2 cover.
const TICK: Duration = Duration::from_millis(10);

/// How often something that has no event is asked for again.
const POLL: Duration = Duration::from_millis(10);

/// Builds a package's program with the release profile and returns where it lies. Cargo's progress goes to standard
/// error. Fails where the package has not exactly one program.
pub fn build_release(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let mut cargo = workspace.cargo("build");
    let output = cargo
        .args(["--release", "--package", package, "--bins", "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo build")?;
    if !output.status.success() {
        bail!("cargo build --release of {package} ended with {}", output.status);
    }
    let mut programs = Vec::new();
    for message in Message::parse_stream(output.stdout.as_slice()) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo build answers something else than JSON")? {
            programs.extend(artifact.executable);
        }
    }
    match programs.as_slice() {
        [program] => Ok(program.clone().into()),
        _ => bail!("{package} has {} programs, not one", programs.len()),
    }
}

/// A running child whose output goes to a file. It is killed, by its own pid, when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// Memory of a process at one moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident: pages shared with other processes counted in full (`VmRSS`).
    pub rss: u64,
    /// Proportional: shared pages divided among those that share them (`Pss`). The honest one for a sum.
    pub pss: u64,
}

impl Process {
    /// Starts `command` with standard output and standard error in the file `log`, which is emptied first.
    pub fn spawn(command: &mut Command, log: impl Into<PathBuf>) -> Result<Self> {
        let log = log.into();
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let again = file.try_clone().context("cannot share the log between two streams")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .with_context(|| format!("cannot start {}", Path::new(command.get_program()).display()))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until a line of the log contains `text`, and returns that line. Fails, with the log's end, where the
    /// process ends first or `bound` passes.
    pub fn wait_for_log(&mut self, text: &str, bound: Duration) -> Result<String> {
        let deadline = Instant::now() + bound;
        loop {
            // Asked before the log is read, so that the last words of a process that has ended are seen.
            let ended = self.child.try_wait().context("cannot ask for the process")?;
            let log = self.log()?;
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            let problem = match ended {
                Some(status) => format!("ended with {status}"),
                None if Instant::now() >= deadline => format!("took more than {bound:?}"),
                None => {
                    thread::sleep(POLL);
                    continue;
                }
            };
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            bail!("process {} {problem} and never said {text:?}:\n{}", self.pid(), tail.join("\n"));
        }
    }

    /// Its memory now.
    pub fn memory(&self) -> Result<Memory> {
        let rss = kibibytes(&proc(self.pid(), "status")?, "VmRSS:")?;
        let pss = kibibytes(&proc(self.pid(), "smaps_rollup")?, "Pss:")?;
        Ok(Memory { rss, pss })
    }

    /// The CPU time that it has used so far, its own and the kernel's for it, all threads together, in steps of 10 ms.
    /// Children are not counted.
    pub fn cpu_time(&self) -> Result<Duration> {
        ticks(&proc(self.pid(), "stat")?).map(|ticks| TICK * ticks)
    }

    /// Asks it to end (SIGTERM) and waits; after `bound` it is killed, which is an error.
    pub fn stop(mut self, bound: Duration) -> Result<ExitStatus> {
        let pid = self.pid().to_string();
        // The shell's own `kill`: a slim system has no other.
        if !crate::shell::succeeds("sh", &["-c", "kill -TERM \"$1\"", "sh", &pid]) {
            bail!("cannot send SIGTERM to process {pid}");
        }
        let deadline = Instant::now() + bound;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().context("cannot ask for the process")? {
                return Ok(status);
            }
            thread::sleep(POLL);
        }
        bail!("process {pid} was still there {bound:?} after SIGTERM")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only where it has ended already, which is what is wanted.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn proc(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("no {file} of process {pid} in /proc"))
}

/// Reads a line like `VmRSS:     1234 kB`, which proc(5) documents to be in units of 1024 bytes.
fn kibibytes(text: &str, key: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)).and_then(|rest| rest.split_whitespace().next());
    let value = value.with_context(|| format!("no {key} line"))?;
    Ok(value.parse::<u64>().with_context(|| format!("{key} is not a number"))? * 1024)
}

/// utime and stime: fields 14 and 15 of `/proc/PID/stat`. Field 2, the name, may hold spaces and brackets itself, so the
/// fields are counted from its last bracket.
fn ticks(stat: &str) -> Result<u32> {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = |number: usize| after_name.split_whitespace().nth(number - 3).and_then(|text| text.parse::<u32>().ok());
    match (field(14), field(15)) {
        (Some(user), Some(system)) => Ok(user + system),
        _ => bail!("no CPU times in {stat:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, log: &Path) -> Process {
        Process::spawn(Command::new("sh").args(["-c", script]), log).unwrap()
    }

    #[test]
    fn cpu_time_is_read_also_where_the_name_has_brackets() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat).unwrap(), 300);
        assert!(ticks("7 (a) S 1").is_err());
    }

    #[test]
    fn sizes_are_read_in_bytes() {
        assert_eq!(kibibytes("Name:\tx\nVmRSS:\t   12 kB\n", "VmRSS:").unwrap(), 12 * 1024);
        assert!(kibibytes("Name:\tx\n", "VmRSS:").is_err());
    }

    #[test]
    fn a_program_is_built_as_users_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("src")).unwrap();
        fs::write(root.join("Cargo.toml"), "[workspace]\n[package]\nname = \"tiny\"\nedition = \"2024\"\n").unwrap();
        fs::write(root.join("src/main.rs"), "fn main() { println!(\"{}\", cfg!(debug_assertions)); }\n").unwrap();
        let workspace = Workspace::at(root, root.join("out"));
        let program = build_release(&workspace, "tiny").unwrap();
        assert!(program.starts_with(root.join("out")), "{}", program.display());
        assert_eq!(Command::new(program).output().unwrap().stdout, b"false\n");
        assert!(build_release(&workspace, "huge").is_err());
    }

    #[test]
    fn a_process_is_watched_measured_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo up on 1234; echo error >&2; exec sleep 600", &folder.path().join("log"));
        assert_eq!(process.wait_for_log("up on", LONG).unwrap(), "up on 1234");
        process.wait_for_log("error", LONG).unwrap();
        let memory = process.memory().unwrap();
        assert!(memory.rss > 0 && memory.pss > 0, "{memory:?}");
        process.cpu_time().unwrap();
        assert!(!process.stop(LONG).unwrap().success());
    }

    #[test]
    fn a_process_that_ends_early_is_said_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo no port is free; exit 3", &folder.path().join("log"));
        let error = process.wait_for_log("up on", LONG).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no port is free"), "{error}");
    }

    #[test]
    fn a_process_does_not_outlive_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let process = shell("exec sleep 600", &folder.path().join("log"));
        let pid = process.pid();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

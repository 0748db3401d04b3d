//! A test's two halves: the outer one runs under cargo and starts a cluster in which the inner one, the same test in a
//! new process, does the work.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use longshore_testkit::real;

use crate::{Cluster, Kit, images};

/// Turns these tests on; without it they say that they were not run.
const ASKED: &str = "LONGSHORE_KUBE";
/// Set for the inner half by the outer one.
const INSIDE: &str = "LONGSHORE_KUBE_INSIDE";
/// The kit sets it for what it runs: the cluster's folder.
pub(crate) const DIR: &str = "LONGSHORE_KUBE_DIR";
/// A cluster that somebody else runs.
const KUBECONFIG: &str = "KUBECONFIG";
/// A folder for the audit logs of tests that pass, for who wants to see them all together.
const AUDIT: &str = "LONGSHORE_KUBE_AUDIT";
/// Written by the inner half, to tell a test that ran from a filter that matched none.
const RAN: &str = "ran";
/// Clusters at once on this machine, whoever runs the tests. Each keeps about one processor busy while it starts.
const CLUSTERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(20);
/// How much of a log is shown when a test fails.
const LINES: usize = 40;

/// What a test needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// What stands for which image.
    pub images: images::Table,
    /// Flags of `kit run`, such as `--status-delay 1s` or `--reuse-addresses`.
    pub flags: Vec<String>,
    /// Probes are asked often until they first pass, whatever their delay and period.
    pub eager_probes: bool,
    /// The test is ended when it takes longer. It is a guard against hanging, not a measurement.
    pub within: Duration,
    /// It keeps to namespaces that it makes and needs nothing of the kit, so a cluster of `KUBECONFIG` will do.
    pub any_cluster: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            images: images::Table::default(),
            flags: Vec::new(),
            eager_probes: true,
            within: Duration::from_secs(300),
            any_cluster: false,
        }
    }
}

impl Options {
    /// The same with more flags of `kit run`.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }
}

/// Runs the body of the test that calls it in a fresh cluster, and everything of that is gone afterwards. To be called
/// once, from the test function itself: the body's type tells the test's name.
///
/// Without `LONGSHORE_KUBE=1` it only says that the test was not run. When the body fails, the cluster's folder with all
/// logs is kept and named.
///
/// # Panics
/// When the body panics or takes too long, or when there is no cluster to be had.
pub fn inside<B: AsyncFnOnce(Cluster)>(options: Options, body: B) {
    let name = test_name::<B>();
    if std::env::var_os(INSIDE).is_some() {
        run_body(body, Cluster::of_the_kit);
        return;
    }
    if not_asked_for(&name) {
        return;
    }
    if has_kubeconfig() && options.any_cluster {
        run_body(body, Cluster::of_kubeconfig);
    } else if let Some(kit) = kit_for(&name) {
        outer(&kit, &name, &options);
    }
}

/// The kit for a test that starts it by itself; nothing, once it has been said why, where the test is not to be run.
///
/// # Panics
/// Where it is to be run and cannot be, with what to do about it.
pub fn kit_for(test: &str) -> Option<Kit> {
    static KIT: OnceLock<Result<Kit, String>> = OnceLock::new();
    if not_asked_for(test) {
        return None;
    }
    if has_kubeconfig() {
        say(&format!("NOT RUN: {test} needs the kit, and {KUBECONFIG} names another cluster; unset it"));
        return None;
    }
    match KIT.get_or_init(|| Kit::find().map_err(|error| error.to_string())) {
        Ok(kit) => Some(kit.clone()),
        Err(error) => panic!("{test} cannot run: {error}; with {KUBECONFIG}, some tests run on another cluster"),
    }
}

fn not_asked_for(test: &str) -> bool {
    let asked = std::env::var(ASKED).is_ok_and(|value| value == "1");
    if !asked {
        say(&format!("NOT RUN: {test} needs a cluster, which is started only with {ASKED}=1"));
    }
    !asked
}

fn has_kubeconfig() -> bool {
    std::env::var_os(KUBECONFIG).is_some_and(|value| !value.is_empty())
}

/// `module::test` of the closure `crate::module::test::{{closure}}`: what the test program calls the test.
fn test_name<B>() -> String {
    let path = std::any::type_name::<B>();
    let path = path.split_once("::").map_or(path, |(_crate, rest)| rest);
    path.split("::{{closure}}").next().unwrap_or(path).to_owned()
}

fn run_body<B: AsyncFnOnce(Cluster)>(body: B, connect: impl AsyncFnOnce() -> Cluster) {
    // Another test of the same process may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("no runtime: {error}"),
    };
    runtime.block_on(async {
        let cluster = connect().await;
        if let Some(dir) = cluster.kit_dir()
            && let Err(error) = fs::write(dir.join(RAN), "")
        {
            panic!("{}: {error}", dir.display());
        }
        body(cluster).await;
    });
}

fn outer(kit: &Kit, name: &str, options: &Options) {
    if let Some(version) = options.images.real_vllm
        && let Err(error) = real::install(version)
    {
        panic!("{name}: {error}");
    }
    let _slot = slot();
    let folder = match tempfile::Builder::new().prefix("longshore-kube-").tempdir() {
        Ok(folder) => folder,
        Err(error) => panic!("no folder for the cluster: {error}"),
    };
    let dir = folder.path();
    let begun = Instant::now();
    let ended = start(kit, name, options, dir).and_then(|mut child| wait(&mut child, options.within));
    let log = fs::read_to_string(dir.join("test.log")).unwrap_or_default();
    say(&log);
    let problem = match ended {
        Ok(Some(status)) if !status.success() => format!("{status}"),
        Ok(Some(_)) if !dir.join(RAN).exists() => {
            "the test program found no test of this name: call `inside` from the test function itself".to_owned()
        }
        Ok(Some(_)) => return keep_audit_log(dir, name),
        Ok(None) => format!("not done after {} s", begun.elapsed().as_secs()),
        Err(error) => error.to_string(),
    };
    let kept = folder.keep();
    show_logs(&kept);
    panic!("{name}: {problem}; the cluster's files and all logs are kept in {}", kept.display());
}

fn keep_audit_log(dir: &Path, name: &str) {
    let Some(folder) = std::env::var_os(AUDIT).map(PathBuf::from) else { return };
    let to = folder.join(format!("{}.log", name.replace("::", ".")));
    if let Err(error) = fs::copy(dir.join("logs/audit.log"), &to) {
        panic!("{}: {error}", to.display());
    }
}

/// Starts the cluster and in it this program again for the one test. The output of both goes into `test.log`.
fn start(kit: &Kit, name: &str, options: &Options, dir: &Path) -> io::Result<Child> {
    let log = File::create(dir.join("test.log"))?;
    let mut command = kit.run(dir, &options.images)?;
    if options.eager_probes {
        command.arg("--eager-probes");
    }
    command.args(&options.flags).arg("--").arg(std::env::current_exe()?);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    // A backtrace shows this harness from inside; a failure has its own words.
    command
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    command.spawn()
}

/// The status, or nothing where it took too long; then all of it has been ended.
fn wait(child: &mut Child, within: Duration) -> io::Result<Option<ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() > within {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits for one of the places for clusters on this machine; it is given back when the file is closed.
fn slot() -> File {
    let folder = std::env::temp_dir();
    let files: io::Result<Vec<File>> =
        (0..CLUSTERS).map(|number| File::create(folder.join(format!("longshore-kube-{number}.lock")))).collect();
    let mut files = match files {
        Ok(files) => files,
        Err(error) => panic!("{}: {error}", folder.display()),
    };
    loop {
        for index in 0..files.len() {
            match files[index].try_lock() {
                Ok(()) => return files.swap_remove(index),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => panic!("{}: {error}", folder.display()),
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// The ends of our own programs' logs and of the kit's, which say most about a failure.
fn show_logs(dir: &Path) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir.join("logs")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !["longshore-", "kit.log"].iter().any(|part| name.contains(part)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(LINES)..].join("\n");
        if !shown.is_empty() {
            say(&format!("--- the end of {name}\n{shown}"));
        }
    }
}

/// Where the test program catches it and shows it for a test that fails, or for all with `--nocapture`.
#[allow(clippy::print_stdout, reason = "what a test prints is shown with it")]
fn say(text: &str) {
    if !text.is_empty() {
        println!("{}", text.trim_end());
        // Nothing more can be done where the output is gone.
        let _ = io::stdout().flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of<B: AsyncFnOnce()>(_body: B) -> String {
        test_name::<B>()
    }

    #[test]
    fn the_body_tells_the_name_of_its_test() {
        let name = name_of(async || {});
        assert_eq!(name, "inside::tests::the_body_tells_the_name_of_its_test");
    }
}

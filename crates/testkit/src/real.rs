//! A real vLLM, started by the scripts in `tests/vllm`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fmt, io};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::Version;

/// A start takes 25 to 45 s on two idle cores; this is for busy ones.
const STARTED_WITHIN: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(200);

/// How a real engine is started, besides its version.
#[derive(Clone, Debug, Default)]
pub struct RealConfig {
    /// Without `--enable-lora`.
    pub no_lora: bool,
    /// Without leave to change adapters over HTTP.
    pub no_updating: bool,
    /// More arguments of `vllm serve`.
    pub arguments: Vec<String>,
}

/// A real engine that serves the tiny model. Its processes end when the value is dropped.
pub struct RealVllm {
    version: Version,
    addr: SocketAddr,
    child: Child,
    log: PathBuf,
}

/// Why there is no real engine.
#[derive(Debug)]
pub struct NotStarted(String);

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotStarted {}

impl From<io::Error> for NotStarted {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Why tests on a real engine of this version are not to be run, unless `LONGSHORE_VLLM` is `1` or names it.
pub fn not_asked_for(version: Version) -> Option<String> {
    let asked = std::env::var("LONGSHORE_VLLM").unwrap_or_default();
    let run = asked == "1" || asked.split(',').any(|part| part == version.as_str());
    (!run).then(|| {
        format!("NOT RUN: a real vLLM {version} is started only with LONGSHORE_VLLM=1 or LONGSHORE_VLLM={version}")
    })
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vllm")
}

/// Installs the version where it is not installed yet, which takes minutes and gigabytes.
///
/// # Errors
/// Where the script fails, with what it said.
pub fn install(version: Version) -> Result<(), NotStarted> {
    let setup = Command::new(scripts().join("setup.sh")).arg(version.as_str()).stdin(Stdio::null()).output()?;
    if !setup.status.success() {
        return Err(NotStarted(format!("setup.sh {version}: {}", String::from_utf8_lossy(&setup.stderr))));
    }
    Ok(())
}

impl RealVllm {
    /// Installs the version where it is not installed yet, starts it on a free port and waits until it answers. Its
    /// output goes into a file in `logs`.
    ///
    /// # Errors
    /// Where the scripts fail, with the end of what they said.
    pub async fn start(version: Version, config: &RealConfig, logs: &Path) -> Result<Self, NotStarted> {
        // Another process could take the port in between; then this engine says so and the test is run again.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        Self::start_on(version, config, logs, addr).await
    }

    /// The same on the address of an engine that has ended.
    ///
    /// # Errors
    /// As for [`RealVllm::start`].
    pub async fn start_on(
        version: Version,
        config: &RealConfig,
        logs: &Path,
        addr: SocketAddr,
    ) -> Result<Self, NotStarted> {
        let installed = tokio::task::spawn_blocking(move || install(version)).await;
        installed.map_err(|error| NotStarted(error.to_string()))??;
        let port = addr.port();
        fs::create_dir_all(logs)?;
        let log = logs.join(format!("vllm-{version}-{port}.log"));
        let output = File::create(&log)?;
        let child = Command::new(scripts().join("serve.sh"))
            .arg(version.as_str())
            .arg(port.to_string())
            .args(&config.arguments)
            .env("LORA", if config.no_lora { "0" } else { "1" })
            .env("UPDATING", if config.no_updating { "0" } else { "1" })
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // The engine starts processes of its own; a group of theirs can be ended as a whole.
            .process_group(0)
            .spawn()?;
        let mut engine = Self { version, addr, child, log };
        engine.wait_ready().await?;
        Ok(engine)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://` and where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Waits until `/health` says 200.
    ///
    /// # Errors
    /// When the process ends, or takes longer than five minutes.
    pub async fn wait_ready(&mut self) -> Result<(), NotStarted> {
        let begun = Instant::now();
        while !healthy(self.addr).await {
            if let Some(status) = self.child.try_wait()? {
                return Err(NotStarted(format!("vLLM {} ended with {status}:\n{}", self.version, self.last_words())));
            }
            if begun.elapsed() > STARTED_WITHIN {
                return Err(NotStarted(format!("vLLM {} did not get ready:\n{}", self.version, self.last_words())));
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The end of its output.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Ends all its processes at once, as `kill -9` does. It does nothing where they have ended.
    pub fn kill9(&mut self) {
        // The group's number is that of its first process, which is ours to wait for: until then nobody else has it.
        if matches!(self.child.try_wait(), Ok(None)) || self.group_is_left() {
            self.signal_group("-KILL");
        }
        // It has ended, or just been told to.
        let _ = self.child.wait();
    }

    /// Whether workers have outlived the first process.
    fn group_is_left(&self) -> bool {
        self.signal_group("-0")
    }

    /// Without a system call of our own: this workspace forbids unsafe code.
    fn signal_group(&self, signal: &str) -> bool {
        let group = format!("-{}", self.child.id());
        let kill = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
        kill.is_ok_and(|status| status.success())
    }
}

impl Drop for RealVllm {
    fn drop(&mut self) {
        self.kill9();
    }
}

async fn healthy(addr: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    timeout(Duration::from_secs(2), ask).await.is_ok_and(|asked| asked.unwrap_or(false))
}

//! A controller's process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::api_server::ApiServer;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program, with nothing of this process's environment that it would go by.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore-controller"));
    command.env_clear();
    command
}

/// Ends with the test.
pub struct Replica {
    process: Child,
    pub address: String,
    lines: Arc<Mutex<Vec<String>>>,
    _kubeconfig: tempfile::NamedTempFile,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Replica {
    /// One that contends for the Lease, and looks at it often.
    pub fn start(server: &ApiServer, pod: &str, listen: &str, args: &[&str]) -> Self {
        let kubeconfig = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(kubeconfig.path(), server.kubeconfig()).unwrap();
        let mut process = command()
            .arg("--kubeconfig")
            .arg(kubeconfig.path())
            .args(["--leader-elect", "--pod-name", pod, "--pod-namespace=longshore-system"])
            .args(["--leader-election-retry-period=200ms", "--log-format=json"])
            .arg(format!("--health-probe-bind-address={listen}"))
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn({
            let lines = lines.clone();
            move || stderr.lines().map_while(Result::ok).for_each(|line| lines.lock().unwrap().push(line))
        });
        let mut replica = Self { process, address: String::new(), lines, _kubeconfig: kubeconfig };
        replica.address = replica.line_with("Admin server listening");
        replica
    }

    /// The address in the line of the log that has this text.
    pub fn line_with(&self, text: &str) -> String {
        let mut address = None;
        until(&format!("a line with {text:?}"), || {
            let lines = self.lines.lock().unwrap();
            address = lines.iter().find(|line| line.contains(text)).map(|line| {
                let line: Value = serde_json::from_str(line).unwrap();
                line["address"].as_str().unwrap().to_owned()
            });
            address.is_some()
        });
        address.unwrap()
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    pub fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        get(&self.address, path, token)
    }

    pub fn until_ready(&self) {
        until("ready", || self.get("/readyz", None).0 == 200);
    }

    pub fn terminate(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the process has ended", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

/// Status and text of an answer; 0 where there is none.
pub fn get(address: &str, path: &str, token: Option<&str>) -> (u16, String) {
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}connection: close\r\n\r\n");
    let mut answer = String::new();
    let outcome = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(request.as_bytes())?;
        stream.read_to_string(&mut answer)
    });
    if outcome.is_err() {
        return (0, String::new());
    }
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    // What is passed on comes in chunks, here always in a single one.
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { body.lines().nth(1).unwrap_or_default() } else { body };
    (status, body.to_owned())
}

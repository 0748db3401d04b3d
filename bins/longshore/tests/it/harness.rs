//! Processes that end with the test, and requests to them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use longshore_testkit::adapters::{AdapterRecipe, write};
use serde_json::Value;

/// For anything that is waited for. Only a failure takes that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process of ours and what it writes.
pub struct Process {
    child: Child,
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        for output in
            [Box::new(child.stdout.take().unwrap()) as Box<dyn Read + Send>, Box::new(child.stderr.take().unwrap())]
        {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    lines.0.lock().unwrap().push(line);
                    lines.1.notify_all();
                }
            });
        }
        Self { child, lines }
    }

    /// The first line that holds `text`, which may come later.
    pub fn line_with(&self, text: &str) -> String {
        let begin = Instant::now();
        let mut lines = self.lines.0.lock().unwrap();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(begin.elapsed() < PATIENCE, "no line with {text:?} in:\n{}", lines.join("\n"));
            lines = self.lines.1.wait_timeout(lines, Duration::from_millis(200)).unwrap().0;
        }
    }

    pub fn output(&self) -> String {
        self.lines.0.lock().unwrap().join("\n")
    }

    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM")
    }

    /// Sends a signal and waits; the exit code.
    pub fn signal(&mut self, signal: &str) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.wait()
    }

    pub fn wait(&mut self) -> Option<i32> {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begin.elapsed() < PATIENCE, "still running:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

pub fn longshore() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.env_remove("LONGSHORE_LOG").env("NO_COLOR", "1");
    command
}

/// A command that comes to an end by itself.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Runs it in `dir`, where everything that it writes by default is too.
    pub fn of(dir: &Path, args: &[&str]) -> Self {
        Self::with(dir, |command| command.args(args))
    }

    pub fn with(dir: &Path, configure: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        let mut command = longshore();
        command.current_dir(dir).env("XDG_DATA_HOME", dir.join("data")).env("TMPDIR", dir).stdin(Stdio::null());
        for name in ["LONGSHORE_STORE", "LONGSHORE_CREDENTIALS", "LONGSHORE_RETRIES"] {
            command.env_remove(name);
        }
        let output = configure(&mut command).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// `longshore up`, and where it answers.
pub struct Up {
    pub process: Process,
    pub router: String,
    pub admin: String,
}

impl Up {
    /// With these further arguments, on free ports.
    pub fn start(dir: &Path, args: &[&str]) -> Self {
        let store = if args.contains(&"--store") { Vec::new() } else { vec!["--store", "store"] };
        let mut command = longshore();
        command.current_dir(dir).arg("up").args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(store).args(args);
        let process = Process::start(&mut command);
        let head = process.line_with("requests on http://");
        let after = |mark: &str| {
            let rest = &head[head.find(mark).unwrap() + mark.len()..];
            rest.split([',', ' ']).next().unwrap().to_owned()
        };
        Self { router: after("requests on http://"), admin: after("fleet API on http://"), process }
    }

    /// A completion; status, headers and text.
    pub fn ask(&self, model: &str) -> Answer {
        let body = format!(r#"{{"model": "{model}", "prompt": "Hello", "max_tokens": 4, "temperature": 0}}"#);
        post(&self.router, "/v1/completions", &body)
    }

    pub fn fleet(&self, path: &str) -> Value {
        let answer = get(&self.admin, path);
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    /// The adapter as the fleet API shows it; null where there is none.
    pub fn adapter(&self, name: &str) -> Value {
        let list = self.fleet("/v1/adapters");
        list["adapters"].as_array().into_iter().flatten().find(|a| a["name"] == name).cloned().unwrap_or(Value::Null)
    }

    pub fn ready(&self, name: &str) -> u64 {
        self.adapter(name)["readyReplicas"].as_u64().unwrap_or(0)
    }

    pub fn until_ready(&self, name: &str, replicas: u64) {
        until(&format!("{name} on {replicas} engines:\n{:#}", self.adapter(name)), || self.ready(name) == replicas);
    }

    /// Where an adapter is served from now.
    pub fn holders(&self, name: &str) -> Vec<String> {
        let adapter = self.adapter(name);
        let endpoints = adapter["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().map(|endpoint| endpoint["pod"].as_str().unwrap().to_owned()).collect()
    }
}

/// A `longshore sim-engine` process.
pub struct Engine {
    pub process: Process,
    pub address: String,
    args: Vec<String>,
}

impl Engine {
    pub fn start(args: &[&str]) -> Self {
        Self::on("0", args)
    }

    fn on(port: &str, args: &[&str]) -> Self {
        let process = Process::start(longshore().args(["sim-engine", "--port", port]).args(args));
        let line = process.line_with("simulated engine on http://");
        let address = line.rsplit("http://").next().unwrap().trim().to_owned();
        Self { process, address, args: args.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new process on the same port.
    pub fn restart(&mut self) {
        self.process.kill9();
        let port = self.address.rsplit(':').next().unwrap().to_owned();
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        *self = Self::on(&port, &args);
    }

    pub fn faults(&self, json: &str) {
        let answer = post(&self.address, "/sim/faults", json);
        assert!(answer.status < 300, "{answer:?}");
    }

    /// Names that it lists, but for its base.
    pub fn lists(&self) -> Vec<String> {
        let answer = get(&self.address, "/v1/models");
        let value: Value = serde_json::from_str(&answer.body).unwrap();
        let adapters = value["data"].as_array().unwrap().iter().filter(|model| !model["parent"].is_null());
        adapters.map(|model| model["id"].as_str().unwrap().to_owned()).collect()
    }

    /// How often each name was loaded with success, by boot.
    pub fn loads(&self) -> BTreeMap<(u64, String), usize> {
        let answer = get(&self.address, "/sim/log");
        let value: Value = serde_json::from_str(&answer.body).unwrap();
        let mut loads = BTreeMap::new();
        let entries = value["entries"].as_array().unwrap();
        for entry in entries.iter().filter(|entry| entry["what"] == "load" && entry["status"] == 200) {
            let key = (entry["boot"].as_u64().unwrap(), entry["name"].as_str().unwrap().to_owned());
            *loads.entry(key).or_default() += 1;
        }
        loads
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        self.json()["choices"][0]["text"].as_str().unwrap_or_default().to_owned()
    }

    pub fn served_by(&self) -> &str {
        self.headers.get("x-longshore-adapter").map_or("", String::as_str)
    }

    /// I1: an answer by an adapter is by the one and the bytes that the header says.
    pub fn is_by(&self, name: &str) -> bool {
        let Some((served, digest)) = self.served_by().split_once('@') else { return false };
        self.status == 200 && served == name && self.text().starts_with(digest)
    }
}

pub fn get(address: &str, path: &str) -> Answer {
    request(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))
}

pub fn post(address: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    request(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{body}"
        ),
    )
}

/// One request on one connection. Where there is no answer, the status is 0.
fn request(address: &str, text: &str) -> Answer {
    let nothing = |why: String| Answer { status: 0, headers: BTreeMap::new(), body: why };
    let mut answer = Vec::new();
    let outcome = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(text.as_bytes())?;
        stream.read_to_end(&mut answer)
    });
    if let Err(error) = outcome {
        return nothing(error.to_string());
    }
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return nothing("no answer".to_owned()) };
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Answer { status, headers, body }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes an adapter of rank 8 at `dir/name`.
pub fn make_adapter(dir: &Path, name: &str, seed: u64) {
    write(&dir.join(name), &AdapterRecipe::seeded(seed)).unwrap();
}

/// Writes a manifest `dir/<name>.yaml` for engines of the tiny base.
pub fn manifest(dir: &Path, name: &str, artifact: &str, more: &str) {
    let text = format!(
        "apiVersion: model.aibrix.ai/v1alpha1\nkind: ModelAdapter\nmetadata:\n  name: {name}\nspec:\n  podSelector:\n    \
         matchLabels:\n      model.aibrix.ai/name: tiny-base\n  artifactURL: {artifact}\n{more}"
    );
    // Written aside and renamed, as editors do.
    let aside = dir.join(format!(".{name}.tmp"));
    std::fs::write(&aside, text).unwrap();
    std::fs::rename(aside, dir.join(format!("{name}.yaml"))).unwrap();
}

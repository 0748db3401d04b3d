//! An API server that hangs or is away.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use rustix::process::{Pid, Signal, kill_process};

use super::Cluster;
use super::processes::read_pid;

/// An outage of the API server, which ends when this is dropped.
#[must_use = "the outage ends when this is dropped"]
pub struct Outage {
    kind: Kind,
    client: Client,
}

enum Kind {
    /// The process is stopped: connections are taken by the kernel and nothing is answered.
    Hangs(Pid),
    /// There is no process: connections are refused. The kit starts it again when the file is gone.
    Away(PathBuf),
}

impl Cluster {
    /// From now on the API server takes connections and answers nothing.
    pub fn api_server_hangs(&self) -> Outage {
        let pid = self.api_server();
        send(pid, Signal::STOP);
        Outage { kind: Kind::Hangs(pid), client: self.client.clone() }
    }

    /// The API server is killed, and connections are refused from now on.
    pub fn api_server_away(&self) -> Outage {
        let hold = self.dir().join("apiserver.hold");
        if let Err(error) = fs::write(&hold, "") {
            panic!("{}: {error}", hold.display());
        }
        send(self.api_server(), Signal::KILL);
        Outage { kind: Kind::Away(hold), client: self.client.clone() }
    }

    fn api_server(&self) -> Pid {
        read_pid(self.dir().join("apiserver.pid")).unwrap_or_else(|| panic!("the API server does not run"))
    }
}

impl Outage {
    /// Ends the outage and waits until the API server answers again.
    pub async fn over(self, cluster: &Cluster) {
        let client = self.client.clone();
        drop(self);
        cluster
            .wait_for("the API server's return", Duration::from_secs(120), async || {
                let request = http::Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
                client.request_text(request).await.map(drop).map_err(|error| error.to_string())
            })
            .await;
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        match &self.kind {
            Kind::Hangs(pid) => send(*pid, Signal::CONT),
            // Where it is gone already, so is the outage.
            Kind::Away(hold) => drop(fs::remove_file(hold)),
        }
    }
}

fn send(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        panic!("the API server: {error}");
    }
}

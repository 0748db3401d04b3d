//! The processes of containers.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Cluster;

impl Cluster {
    /// The first process of a container that runs; the others of the container end with it.
    pub fn process(&self, namespace: &str, pod: &str, container: &str) -> Option<Pid> {
        let prefix = format!("{namespace}_{pod}_");
        let pods = std::fs::read_dir(self.dir().join("pods")).ok()?;
        // Names of pods have no `_`, so the prefix is one pod's; one of that name that is gone has no such file.
        let folders = pods.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        folders.map(|entry| entry.path().join(format!("{container}.pid"))).find_map(read_pid)
    }

    /// Sends a signal to the first process of a container. `Signal::STOP` and `Signal::CONT` freeze and thaw it,
    /// though not processes that it has started.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn signal(&self, namespace: &str, pod: &str, container: &str, signal: Signal) {
        let Some(pid) = self.process(namespace, pod, container) else {
            panic!("{namespace}/{pod}: {container} does not run");
        };
        if let Err(error) = kill_process(pid, signal) {
            panic!("{namespace}/{pod}: {container}: {error}");
        }
    }

    /// `kill -9`: the container ends without a word, and the kubelet starts it again.
    pub fn kill_container(&self, namespace: &str, pod: &str, container: &str) {
        self.signal(namespace, pod, container, Signal::KILL);
    }

    /// Waits until a container runs that is not `before`.
    pub async fn process_after(&self, namespace: &str, pod: &str, container: &str, before: Pid) -> Pid {
        let what = format!("another process of {namespace}/{pod}: {container}");
        self.wait_for(&what, Duration::from_secs(60), async || {
            let present = self.process(namespace, pod, container);
            present.filter(|pid| *pid != before).ok_or_else(|| format!("{present:?}"))
        })
        .await
    }
}

pub(super) fn read_pid(path: PathBuf) -> Option<Pid> {
    Pid::from_raw(std::fs::read_to_string(path).ok()?.trim().parse().ok()?)
}

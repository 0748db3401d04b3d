//! The controller's process, as the kernel counts it.

use std::fs;
use std::time::Duration;

use crate::Cluster;
use crate::scene::{CONTROLLER, SOON, SYSTEM};

/// The kernel shows CPU time in ticks of this length: USER_HZ is 100 on every Linux that Rust's tier 1 and 2 cover.
const TICK: Duration = Duration::from_millis(10);

/// The one controller that runs.
pub(super) struct Controller {
    pid: i32,
    /// The name of its pod.
    pub pod: String,
}

impl Controller {
    pub(super) async fn of(cluster: &Cluster) -> Self {
        let labels = format!("app.kubernetes.io/name={CONTROLLER}");
        cluster
            .wait_for("one controller", SOON, async || {
                let pods = cluster.pod_names(SYSTEM, &labels).await;
                let [pod] = pods.as_slice() else { return Err(format!("{pods:?}")) };
                let pid = cluster.process(SYSTEM, pod, "controller").ok_or("it does not run")?;
                Ok(Self { pid: pid.as_raw_nonzero().get(), pod: pod.clone() })
            })
            .await
    }

    /// The CPU time that it has used so far, its own and the kernel's for it, in steps of 10 ms.
    pub(super) fn cpu_time(&self) -> Duration {
        let stat = self.read("stat");
        // The name may hold spaces and brackets itself, so the fields are counted from its last bracket: utime and stime
        // are the fields 14 and 15 of proc(5), the first one behind the name is 3.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<u32> = after_name.split_whitespace().skip(11).take(2).map_while(|f| f.parse().ok()).collect();
        assert_eq!(fields.len(), 2, "no CPU times in {stat:?}");
        TICK * fields.iter().sum()
    }

    /// Its resident memory in MiB: now, or the most that it ever was.
    pub(super) fn resident(&self, most: bool) -> f64 {
        let (status, key) = (self.read("status"), if most { "VmHWM:" } else { "VmRSS:" });
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let kibibytes: Option<f64> = line.split_whitespace().next().and_then(|value| value.parse().ok());
        kibibytes.unwrap_or_else(|| panic!("no {key} in {status:?}")) / 1024.0
    }

    fn read(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

//! Metrics about the process itself, by the names that Prometheus' own client libraries give them.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads `/proc/self` at each scrape. Where there is none, as on macOS, it shows nothing.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn EncodeDyn| {
            metric.put(encoder.encode_descriptor(name, help, unit, metric.kind())?)
        };
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            // The kernel counts in ticks of the clock that it shows to user space, not in those that it runs by.
            let tick = 1.0 / rustix::param::clock_ticks_per_second() as f64;
            let cpu = ConstCounter::new(stat.cpu_ticks as f64 * tick);
            put("process_cpu", "User and system CPU time spent", Some(&Unit::Seconds), &cpu)?;
            if let Some(boot) = read("/proc/stat").as_deref().and_then(boot_time) {
                let start = ConstGauge::new(boot as f64 + stat.start_ticks as f64 * tick);
                put("process_start_time", "Start time since the Unix epoch", Some(&Unit::Seconds), &start)?;
            }
            let page = rustix::param::page_size() as u64;
            let resident = ConstGauge::new((stat.resident_pages.saturating_mul(page)) as f64);
            put("process_resident_memory", "Resident memory size", Some(&Unit::Bytes), &resident)?;
            let virtual_memory = ConstGauge::new(stat.virtual_bytes as f64);
            put("process_virtual_memory", "Virtual memory size", Some(&Unit::Bytes), &virtual_memory)?;
            put("process_threads", "Threads", None, &ConstGauge::new(stat.threads as f64))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The directory that is being read is one of them.
            let open = ConstGauge::new(open.count().saturating_sub(1) as f64);
            put("process_open_fds", "Open file descriptors", None, &open)?;
        }
        if let Some(most) = read("/proc/self/limits").as_deref().and_then(max_open_files) {
            put("process_max_fds", "Most file descriptors that may be open", None, &ConstGauge::new(most as f64))?;
        }
        Ok(())
    }
}

/// `EncodeMetric` takes its encoder by value and so cannot be a trait object; this can.
trait EncodeDyn {
    fn kind(&self) -> prometheus_client::metrics::MetricType;
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result;
}

impl<M: EncodeMetric> EncodeDyn for M {
    fn kind(&self) -> prometheus_client::metrics::MetricType {
        self.metric_type()
    }
    fn put(&self, encoder: prometheus_client::encoding::MetricEncoder<'_>) -> fmt::Result {
        self.encode(encoder)
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// What we take from `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the command in parentheses and may itself hold spaces and parentheses.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The manual counts from 1, and the first field after the command is number 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

/// When the machine started, in seconds since the epoch.
fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit; none where it is unlimited.
fn max_open_files(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 700 30 13 14 15 16 9 18 5000 4096000 77 20 21";
        let expected =
            Stat { cpu_ticks: 730, threads: 9, start_ticks: 5000, virtual_bytes: 4_096_000, resident_pages: 77 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (a) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn limits_and_boot_time_are_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(max_open_files(limits), Some(1024));
        assert_eq!(max_open_files("Max open files            unlimited unlimited files\n"), None);
        assert_eq!(boot_time("cpu  1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000));
    }
}

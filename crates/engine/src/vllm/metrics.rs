//! The few of vLLM's metrics that matter, read line by line as they arrive.
//!
//! The text format is Prometheus's, of which exactly as much is understood as vLLM writes: `name{label="value",…} value`,
//! perhaps with a time behind it. Whatever else a line says, it is passed over.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_types::{Boot, LoadSignals};

use crate::error::Error;
use crate::port::Signals;

/// The longest line that is looked at. The longest of interest names every active adapter twice: this is room for
/// 4,000 names of 128 characters.
const LONGEST_LINE: usize = 1 << 20;

/// A scrape under way.
#[derive(Debug, Default)]
pub(super) struct Scrape {
    /// The line that has begun and not ended yet.
    line: Vec<u8>,
    /// Whether that line is too long to be looked at.
    passing_over: bool,
    seen: Seen,
}

/// What the lines so far have said.
#[derive(Debug, Default)]
struct Seen {
    started: Option<f64>,
    running: Option<f64>,
    waiting: Option<f64>,
    deferred: f64,
    kv: Mean,
    kv_by_old_name: Mean,
    adapters: Option<Adapters>,
}

/// The newest `vllm:lora_requests_info`.
#[derive(Debug)]
struct Adapters {
    at: f64,
    active: BTreeSet<Arc<str>>,
    max: Option<u32>,
}

#[derive(Debug, Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.sum += value;
            self.count += 1;
        }
    }

    fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

impl Scrape {
    /// The next piece of the text, cut anywhere.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.append(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.passing_over |= self.line.len() + bytes.len() > LONGEST_LINE;
        if !self.passing_over {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self) {
        if !self.passing_over
            && let Ok(line) = std::str::from_utf8(&self.line)
        {
            self.seen.line(line);
        }
        self.line.clear();
        self.passing_over = false;
    }

    /// What it comes down to. The engine's life is its process's start in milliseconds since the epoch: its clock ticks
    /// in hundredths of a second.
    pub(super) fn finish(mut self) -> Result<Signals, Error> {
        self.end_line();
        let Seen { started, running, waiting, deferred, kv, kv_by_old_name, adapters } = self.seen;
        let Some(started) = started else { return Err(Error::Metric { name: "process_start_time_seconds" }) };
        let (active, max_loras) = adapters.map_or_else(Default::default, |seen| (seen.active, seen.max));
        Ok(Signals {
            boot: Boot::new(format!("{:.0}", started * 1000.0)),
            load: LoadSignals {
                // Without statistics (--disable-log-stats) the engine must not pass for idle: its adapters' files would
                // go too early (I5).
                running: running.map_or(1, count),
                waiting: waiting.map_or(0, count),
                deferred: count(deferred),
                kv_usage: kv.get().or(kv_by_old_name.get()).unwrap_or_default().clamp(0.0, 1.0),
                active,
                max_loras,
            },
        })
    }
}

impl Seen {
    /// Counts of several engine cores behind one API server add up; their caches are of one size, so use is the mean.
    fn line(&mut self, line: &str) {
        let line = line.trim();
        let name = line.split(['{', ' ', '\t']).next().unwrap_or_default();
        let is_wanted = matches!(
            name,
            "process_start_time_seconds"
                | "vllm:num_requests_running"
                | "vllm:num_requests_waiting"
                | "vllm:num_requests_waiting_by_reason"
                | "vllm:kv_cache_usage_perc"
                | "vllm:gpu_cache_usage_perc"
                | "vllm:lora_requests_info"
        );
        if !is_wanted {
            return;
        }
        let Some((labels, value)) = sample(&line[name.len()..]) else { return };
        let label = |name: &str| labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str());
        match name {
            "process_start_time_seconds" if value.is_finite() && value > 0.0 => self.started = Some(value),
            "vllm:num_requests_running" => add(&mut self.running, value),
            "vllm:num_requests_waiting" => add(&mut self.waiting, value),
            "vllm:num_requests_waiting_by_reason" if label("reason") == Some("deferred") && value.is_finite() => {
                self.deferred += value;
            }
            "vllm:kv_cache_usage_perc" => self.kv.add(value),
            // Its name in older versions.
            "vllm:gpu_cache_usage_perc" => self.kv_by_old_name.add(value),
            "vllm:lora_requests_info" if value.is_finite() => self.adapters(value, label),
            _ => {}
        }
    }

    /// One series for each combination ever seen, its value the time when that was last so: the newest is how it is now.
    /// What runs and what waits cannot be told apart: vLLM puts the same names into both.
    fn adapters<'a>(&mut self, at: f64, label: impl Fn(&str) -> Option<&'a str>) {
        if self.adapters.as_ref().is_some_and(|newest| newest.at > at) {
            return;
        }
        let mut active: BTreeSet<Arc<str>> = BTreeSet::new();
        for names in [label("running_lora_adapters"), label("waiting_lora_adapters")].into_iter().flatten() {
            active.extend(names.split(',').filter(|name| !name.is_empty()).map(Arc::from));
        }
        // Of two of the same time neither is newer.
        if let Some(other) = self.adapters.take_if(|newest| newest.at == at) {
            active.extend(other.active);
        }
        self.adapters = Some(Adapters { at, active, max: label("max_lora").and_then(|max| max.parse().ok()) });
    }
}

fn add(sum: &mut Option<f64>, value: f64) {
    if value.is_finite() {
        *sum = Some(sum.unwrap_or_default() + value);
    }
}

/// A gauge as a number of requests; the conversion keeps within `u32`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, which is what is wanted")]
fn count(value: f64) -> u32 {
    value.round() as u32
}

type Labels = Vec<(String, String)>;

/// `{label="value",…} value` or ` value`, with or without a time behind it.
fn sample(text: &str) -> Option<(Labels, f64)> {
    let (labels, rest) = match text.strip_prefix('{') {
        Some(text) => labels(text)?,
        None => (Labels::new(), text),
    };
    Some((labels, rest.split_whitespace().next()?.parse().ok()?))
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start())?;
        labels.push((name.trim().to_owned(), value));
        text = rest;
    }
}

/// A quoted value with `\\`, `\"` and `\n` resolved, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c => value.push(c),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE: &str = include_str!("../../tests/fixtures/metrics-idle.txt");
    const BUSY: &str = include_str!("../../tests/fixtures/metrics-busy.txt");
    const STARTED: &str = "process_start_time_seconds 1.79525190152e+09\n";

    fn read(text: &str) -> Signals {
        let mut scrape = Scrape::default();
        scrape.feed(text.as_bytes());
        scrape.finish().unwrap()
    }

    fn names(signals: &Signals) -> Vec<&str> {
        signals.load.active.iter().map(|name| &**name).collect()
    }

    #[test]
    fn an_engine_that_has_just_started_is_idle() {
        let signals = read(IDLE);
        assert_eq!(signals, Signals { boot: Boot::new("1795251901520"), load: LoadSignals::default() });
        assert!(signals.load.is_idle());
    }

    #[test]
    fn a_busy_engine_says_how_busy() {
        let signals = read(BUSY);
        assert_eq!((signals.load.running, signals.load.waiting, signals.load.deferred), (6, 18, 17));
        assert!((signals.load.kv_usage - 0.000_732_511_292_882_431_8).abs() < 1e-15);
        assert_eq!(signals.load.max_loras, Some(2));
        assert_eq!(names(&signals), ["r8-a", "r8-c"]);
    }

    #[test]
    fn the_boot_is_the_start_time_however_it_is_written() {
        let boot = |text: &str| read(text).boot;
        assert_eq!(boot("process_start_time_seconds 1795251901.52"), boot(STARTED));
        assert_ne!(boot("process_start_time_seconds 1795251901.53"), boot(STARTED));
    }

    #[test]
    fn without_a_start_time_there_is_no_answer() {
        for text in ["", "process_start_time_seconds NaN\n", "process_start_time_seconds 0\n", "<html>\n"] {
            let mut scrape = Scrape::default();
            scrape.feed(text.as_bytes());
            assert_eq!(scrape.finish().unwrap_err().reason(), "InvalidAnswer", "{text:?}");
        }
    }

    #[test]
    fn i5_an_engine_without_statistics_does_not_pass_for_idle() {
        assert!(!read(STARTED).load.is_idle());
    }

    #[test]
    fn engine_cores_add_up_and_the_caches_use_is_the_mean() {
        let signals = read(&format!(
            "{STARTED}vllm:num_requests_running{{engine=\"0\"}} 1.0\nvllm:num_requests_running{{engine=\"1\"}} 2e0\n\
             vllm:num_requests_waiting{{engine=\"0\"}} NaN\nvllm:num_requests_waiting{{engine=\"1\"}} 3 1795251901000\n\
             vllm:kv_cache_usage_perc{{engine=\"0\"}} 0.5\nvllm:kv_cache_usage_perc{{engine=\"1\"}} 0.1\n\
             vllm:gpu_cache_usage_perc{{engine=\"0\"}} 0.9\n"
        ));
        assert_eq!((signals.load.running, signals.load.waiting), (3, 3));
        assert!((signals.load.kv_usage - 0.3).abs() < 1e-12);
        let old = read(&format!("{STARTED}vllm:gpu_cache_usage_perc{{engine=\"0\"}} 0.9\n"));
        assert!((old.load.kv_usage - 0.9).abs() < 1e-12);
    }

    #[test]
    fn the_newest_series_tells_which_adapters_are_active() {
        let info = |names: &str, at: &str| {
            format!(
                "vllm:lora_requests_info{{max_lora=\"2\",running_lora_adapters=\"{names}\",waiting_lora_adapters=\"\"}} {at}\n"
            )
        };
        let old = info("a", "1.795274654253293e+09");
        let newer = info("b,c", "1.7952747001059716e+09");
        let empty = info("", "1.795274700111007e+09");
        assert_eq!(names(&read(&format!("{STARTED}{newer}{old}"))), ["b", "c"]);
        assert_eq!(names(&read(&format!("{STARTED}{old}{newer}"))), ["b", "c"]);
        assert!(names(&read(&format!("{STARTED}{empty}{newer}{old}"))).is_empty());
        let same = info("d", "1.7952747001059716e+09");
        assert_eq!(names(&read(&format!("{STARTED}{newer}{same}"))), ["b", "c", "d"]);
    }

    #[test]
    fn names_of_any_kind_are_read() {
        let line = r#"vllm:lora_requests_info{max_lora="x", running_lora_adapters="q\"1\n2\\,адаптер-🚀,a} b",waiting_lora_adapters="w",} 1.5e9 7"#;
        let signals = read(&format!("{STARTED}{line}"));
        assert_eq!(names(&signals), ["a} b", "q\"1\n2\\", "w", "адаптер-🚀"]);
        assert_eq!(signals.load.max_loras, None);
    }

    #[test]
    fn numbers_out_of_range_stay_within_it() {
        let signals = read(&format!(
            "{STARTED}vllm:num_requests_running -4\nvllm:num_requests_waiting 1e300\nvllm:kv_cache_usage_perc 7\n"
        ));
        assert_eq!((signals.load.running, signals.load.waiting), (0, u32::MAX));
        assert!((signals.load.kv_usage - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        let long = format!("vllm:num_requests_running{{engine=\"{}\"}} 9", "x".repeat(LONGEST_LINE));
        let text = format!(
            "vllm:num_requests_running{{engine=\"0\n vllm:num_requests_running{{engine=\"0\"}}\nvllm:num_requests_running{{e}} 1\n\
             vllm:num_requests_running x\n{long}\n# vllm:num_requests_running 5\nvllm:num_requests_running_total 5\n\
             {STARTED}vllm:num_requests_running 2\r\n# EOF"
        );
        assert_eq!(read(&text).load.running, 2);
        let mut scrape = Scrape::default();
        scrape.feed(b"vllm:num_requests_running{engine=\"\xff\"} 9\n");
        scrape.feed(text.as_bytes());
        assert_eq!(scrape.finish().unwrap().load.running, 2);
    }

    proptest! {
        #[test]
        fn where_the_text_is_cut_does_not_matter(cuts in prop::collection::vec(0..BUSY.len(), 0..8)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut scrape = Scrape::default();
            let mut from = 0;
            for cut in cuts {
                scrape.feed(&BUSY.as_bytes()[from..cut]);
                from = cut;
            }
            scrape.feed(&BUSY.as_bytes()[from..]);
            prop_assert_eq!(scrape.finish().unwrap(), read(BUSY));
        }

        #[test]
        fn no_text_is_too_odd(tail in r#"[{}=", \\\n0-9eE.+naNIf:_-]{0,80}"#, name in 0..3_usize) {
            let name = ["vllm:lora_requests_info", "vllm:num_requests_running", "process_start_time_seconds"][name];
            let signals = read(&format!("{STARTED}{name}{tail}"));
            prop_assert!((0.0..=1.0).contains(&signals.load.kv_usage));
        }
    }
}

//! `GET /metrics`: the names of the real engine's series, with the figures that the simulated one has.

use std::fmt::Write as _;

use http::StatusCode;

use super::config::Version;
use super::http::{Reply, text_reply};
use super::life::Life;

/// Histograms of both versions, without their prefix.
const HISTOGRAMS: [&str; 14] = [
    "request_prompt_tokens",
    "request_generation_tokens",
    "iteration_tokens_total",
    "request_max_num_generation_tokens",
    "request_params_n",
    "request_params_max_tokens",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "request_time_per_output_token_seconds",
    "e2e_request_latency_seconds",
    "request_queue_time_seconds",
    "request_inference_time_seconds",
    "request_prefill_time_seconds",
    "request_decode_time_seconds",
];

/// Renders them.
pub(super) fn metrics(life: &Life) -> Reply {
    let figures = life.gauges.snapshot();
    let newer = life.config.version == Version::V0_32_0;
    let mut page = Page { text: String::new(), base: label(&life.config.base_name) };
    page.start("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.");
    page.line(format!("process_start_time_seconds {}", float(life.started)));
    page.gauge(
        "num_requests_running",
        "Number of requests in model execution batches.",
        &[("", figures.running as f64)],
    );
    let waiting = figures.capacity + figures.deferred;
    page.gauge("num_requests_waiting", "Number of requests waiting to be processed.", &[("", waiting as f64)]);
    if newer {
        let reasons =
            [(",reason=\"capacity\"", figures.capacity as f64), (",reason=\"deferred\"", figures.deferred as f64)];
        page.gauge("num_requests_waiting_by_reason", "Number of waiting requests by reason.", &reasons);
        let states = [
            (",sleep_state=\"awake\"", 1.0),
            (",sleep_state=\"weights_offloaded\"", 0.0),
            (",sleep_state=\"discard_all\"", 0.0),
        ];
        page.gauge("engine_sleep_state", "Engine sleep state.", &states);
    }
    page.gauge("kv_cache_usage_perc", "KV-cache usage. 1 means 100 percent usage.", &[("", figures.kv_usage)]);
    let (prompt, generated) = (figures.prompt_tokens as f64, figures.generated_tokens as f64);
    page.counter("prefix_cache_queries", &[("", 0.0)]);
    page.counter("prefix_cache_hits", &[("", 0.0)]);
    page.counter("num_preemptions", &[("", 0.0)]);
    page.counter("prompt_tokens", &[("", prompt)]);
    page.counter("generation_tokens", &[("", generated)]);
    let reasons = [
        (",finished_reason=\"stop\"", 0.0),
        (",finished_reason=\"length\"", figures.requests as f64),
        (",finished_reason=\"abort\"", 0.0),
    ];
    page.counter("request_success", &reasons);
    if newer {
        page.counter("admission_rejections", &[(",reason=\"max_num_queued_reqs\"", 0.0)]);
    }
    let more: &[&str] = match life.config.version {
        Version::V0_32_0 => &["request_num_preemptions", "request_prefill_kv_computed_tokens"],
        Version::V0_11_0 => &["time_per_output_token_seconds"],
    };
    for name in HISTOGRAMS.iter().chain(more) {
        page.histogram(name, figures.requests as f64);
    }
    page.start("vllm:lora_requests_info", "gauge", "Running stats on lora requests.");
    let slots = life.config.max_loras;
    for ((running, waiting), when) in figures.adapters.iter().filter(|_| life.config.enable_lora) {
        let (running, waiting) = (label(running), label(waiting));
        let labels =
            format!("max_lora=\"{slots}\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"{waiting}\"");
        page.line(format!("vllm:lora_requests_info{{{labels}}} {}", float(*when)));
    }
    page.start("vllm:cache_config_info", "gauge", "Information of the LLMEngine CacheConfig");
    page.line("vllm:cache_config_info{block_size=\"128\",engine=\"0\",num_gpu_blocks=\"8192\"} 1.0".into());
    text_reply(StatusCode::OK, Some("text/plain; version=1.0.0; charset=utf-8"), page.text)
}

struct Page {
    text: String,
    base: String,
}

impl Page {
    fn line(&mut self, line: String) {
        self.text.push_str(&line);
        self.text.push('\n');
    }

    fn start(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, series: &[(&str, f64)]) {
        let name = format!("vllm:{name}");
        self.start(&name, "gauge", help);
        self.series(&name, series);
    }

    fn counter(&mut self, name: &str, series: &[(&str, f64)]) {
        let name = format!("vllm:{name}_total");
        self.start(&name, "counter", "A count of the engine.");
        self.series(&name, series);
    }

    fn histogram(&mut self, name: &str, count: f64) {
        let name = format!("vllm:{name}");
        self.start(&name, "histogram", "A histogram of the engine.");
        self.series(&format!("{name}_bucket"), &[(",le=\"+Inf\"", count)]);
        self.series(&format!("{name}_count"), &[("", count)]);
        self.series(&format!("{name}_sum"), &[("", 0.0)]);
    }

    fn series(&mut self, name: &str, series: &[(&str, f64)]) {
        for (more, value) in series {
            let line = format!("{name}{{engine=\"0\",model_name=\"{}\"{more}}} {}", self.base, float(*value));
            self.line(line);
        }
    }
}

/// A number as Python writes it: with a point, and from 10^16 or where the client library says so with an exponent. The
/// library writes times as `1.79531375118e+09`.
fn float(value: f64) -> String {
    if value.abs() < 1e6 {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{mantissa}e+{exponent:0>2}")
}

/// A label's value with what the format escapes.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_real_engine_writes_them() {
        for (value, text) in [(0.0, "0.0"), (3.0, "3.0"), (0.25, "0.25"), (1_795_313_751.18, "1.79531375118e+09")] {
            assert_eq!(float(value), text);
        }
    }
}

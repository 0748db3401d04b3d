//! The flags and the environment of AIBrix's `aibrix_runtime` (0.8.0), for manifests that know no other.

use std::ffi::OsString;
use std::path::Path;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use longshore_agent::Secret;

use super::Args;

/// Where AIBrix mounts what all containers of a pod share.
const STORE: &str = "/tmp/aibrix/adapters";
/// Where AIBrix mounts Secrets.
const SECRETS: &str = "/var/run/secrets/aibrix";

/// Settings of its environment that have no meaning here.
const WITHOUT_MEANING: [&str; 5] = [
    "DOWNLOADER_LOCAL_DIR",
    "DOWNLOADER_NUM_THREADS",
    "METRIC_SCRAPE_PATH",
    "METRICS_ENABLE_TRANSFORMATION",
    "PROMETHEUS_MULTIPROC_DIR",
];

/// AIBrix's runtime, as this sidecar understands it.
#[derive(Clone, Debug, Parser)]
#[command(name = "aibrix_runtime", version, max_term_width = 100)]
struct Flags {
    /// Host to listen on
    #[arg(long, default_value = "0.0.0.0")]
    host: String,
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Taken, and of no effect
    #[arg(long)]
    enable_fastapi_docs: bool,
}

/// Whether the program is called by AIBrix's name.
pub(super) fn is_meant(program: Option<&OsString>) -> bool {
    let name = program.and_then(|program| Path::new(program).file_name()).and_then(|name| name.to_str());
    matches!(name, Some("aibrix_runtime"))
}

/// The same in our own words.
pub(super) fn args(args: Vec<OsString>, env: impl Fn(&str) -> Option<String>) -> Result<Args, clap::Error> {
    let Flags { host, port, enable_fastapi_docs } = Flags::try_parse_from(args)?;
    let fail = |text: String| Flags::command().error(ErrorKind::ValueValidation, text);
    if let Some(engine) = env("INFERENCE_ENGINE").filter(|engine| !engine.eq_ignore_ascii_case("vllm")) {
        return Err(fail(format!("INFERENCE_ENGINE is {engine:?}, and only vllm is spoken")));
    }
    let endpoint = env("INFERENCE_ENGINE_ENDPOINT").unwrap_or_else(|| "http://localhost:8000".to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    // Everything else, log levels and hubs among it, is taken from our own environment variables.
    let listen = format!("{host}:{port}");
    let mut ours = vec!["longshore-sidecar", "--listen", &listen, "--open"];
    for (name, flag, value) in [("LONGSHORE_STORE", "--store", STORE), ("LONGSHORE_SECRETS", "--secrets", SECRETS)] {
        if env(name).is_none() {
            ours.extend([flag, value]);
        }
    }
    let mut args = Args::try_parse_from(ours).map_err(|error| fail(error.to_string()))?;
    args.engine = endpoint.parse().map_err(|error| fail(format!("INFERENCE_ENGINE_ENDPOINT: {error}")))?;
    args.api_key = env("INFERENCE_ENGINE_API_KEY").filter(|key| !key.is_empty()).map(Secret::new);
    let ignored = WITHOUT_MEANING.iter().filter(|name| env(name).is_some());
    args.remarks.extend(ignored.map(|name| format!("{name} is set, and has no meaning to this sidecar")));
    if enable_fastapi_docs {
        args.remarks.push("--enable-fastapi-docs is of no effect".to_owned());
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], env: &[(&str, &str)]) -> Result<Args, clap::Error> {
        let words = words.iter().map(Into::into).collect();
        args(words, |name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn it_is_told_by_the_programs_name() {
        for (path, meant) in
            [("aibrix_runtime", true), ("/usr/local/bin/aibrix_runtime", true), ("longshore-sidecar", false)]
        {
            assert_eq!(is_meant(Some(&path.into())), meant, "{path}");
        }
        assert!(!is_meant(None));
    }

    #[test]
    fn its_flags_and_environment_mean_what_they_mean_there() {
        let plain = parse(&["aibrix_runtime"], &[]).unwrap();
        assert_eq!(plain.listen.to_string(), "0.0.0.0:8080");
        assert_eq!((plain.store.as_path(), plain.secrets.as_path()), (Path::new(STORE), Path::new(SECRETS)));
        assert_eq!(plain.engine().unwrap().address.authority(), "localhost:8000");
        assert!(plain.open && plain.remarks().is_empty());
        let env = [
            ("INFERENCE_ENGINE", "vllm"),
            ("INFERENCE_ENGINE_ENDPOINT", "http://127.0.0.1:9000"),
            ("INFERENCE_ENGINE_API_KEY", "sk-hunter2"),
            ("METRIC_SCRAPE_PATH", "/metrics"),
        ];
        let full = parse(&["aibrix_runtime", "--host", "::", "--port", "9090", "--enable-fastapi-docs"], &env).unwrap();
        assert_eq!(full.listen.to_string(), "[::]:9090");
        let engine = full.engine().unwrap();
        assert_eq!((engine.address.port, engine.api_key), (9000, Some(Secret::new("sk-hunter2"))));
        assert_eq!(full.remarks().len(), 2);
        assert!(!format!("{full:?}").contains("hunter2"), "I8");
    }

    #[test]
    fn an_engine_that_is_not_spoken_and_an_endpoint_that_is_none_are_refused() {
        let sglang = parse(&["aibrix_runtime"], &[("INFERENCE_ENGINE", "sglang")]).unwrap_err();
        assert!(sglang.to_string().contains("only vllm"), "{sglang}");
        assert!(parse(&["aibrix_runtime"], &[("INFERENCE_ENGINE_ENDPOINT", "not a url")]).is_err());
        assert!(parse(&["aibrix_runtime", "--unknown"], &[]).is_err());
    }
}

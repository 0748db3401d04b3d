//! `longshore explain`: in plain words, what is and why it is not ready.

use anyhow::{Result, bail};
use longshore_api::fleet::{Adapter, AdapterEngine, Engine};

use crate::args::ExplainArgs;
use crate::fleet::Fleet;
use crate::say;
use crate::table::short_digest;

/// Engines that are listed where none was chosen.
const SHOWN: usize = 8;

/// Explains every adapter and engine of the name.
pub async fn run(args: ExplainArgs) -> Result<()> {
    let fleet = Fleet::new(&args.server)?;
    let (adapters, engines) = (fleet.adapters().await?.adapters, fleet.engines().await?.engines);
    let (namespace, name) = match args.name.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, args.name.as_str()),
    };
    let meant = |has: (&str, &str)| has.1 == name && namespace.is_none_or(|namespace| namespace == has.0);
    let mut found = Vec::new();
    for adapter in adapters.iter().filter(|adapter| meant((&adapter.namespace, &adapter.name))) {
        found.push(explain_adapter(adapter, &engines));
    }
    for engine in engines.iter().filter(|engine| meant((&engine.namespace, &engine.engine))) {
        found.push(explain_engine(engine, &adapters));
    }
    if found.is_empty() {
        let names = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        bail!(
            "no adapter or engine is named {}; adapters: {}; engines: {}",
            args.name,
            names(adapters.iter().map(|adapter| adapter.name.as_str()).collect()),
            names(engines.iter().map(|engine| engine.engine.as_str()).collect()),
        );
    }
    for (position, lines) in found.into_iter().enumerate() {
        if position > 0 {
            say("");
        }
        for line in lines {
            say(&line);
        }
    }
    Ok(())
}

/// An adapter in plain words.
pub fn explain_adapter(adapter: &Adapter, engines: &[Engine]) -> Vec<String> {
    let mut lines = vec![format!("{}/{} is {}.", adapter.namespace, adapter.name, state(adapter))];
    if adapter.reason.is_empty() {
        let on: Vec<&str> = adapter.endpoints.iter().map(|endpoint| endpoint.pod.as_str()).collect();
        lines.push(format!("Requests that name {:?} as model are answered by {}.", adapter.name, on.join(", ")));
    } else if adapter.phase == "Running" {
        lines.push(format!("The last change did not go through: {} ({}).", adapter.message, adapter.reason));
    } else {
        lines.push(format!("It is not ready: {} ({}).", adapter.message, adapter.reason));
    }
    if let Some(fetching) = &adapter.fetching {
        lines.push(format!("Its files are being fetched: {fetching}."));
    }
    lines.push(format!(
        "It is declared by {} {} and comes from {}.",
        adapter.kind, adapter.object, adapter.artifact_url
    ));
    match (&adapter.digest, adapter.rank, adapter.bytes) {
        (Some(digest), rank, bytes) => {
            let rank = rank.map(|rank| format!(", rank {rank}")).unwrap_or_default();
            let bytes = bytes.map(|bytes| format!(", {bytes} bytes")).unwrap_or_default();
            lines.push(format!("Its files have the digest {digest}{rank}{bytes}."));
        }
        (None, ..) => lines.push("Its files have not been seen yet.".to_owned()),
    }
    if adapter.ready_replicas < adapter.desired_replicas {
        lines.push(format!("{} of {} replicas answer.", adapter.ready_replicas, adapter.desired_replicas));
    }
    for engine in &adapter.engines {
        lines.push(format!("  {}", on_engine(engine, adapter)));
    }
    let chosen = u32::try_from(adapter.engines.len()).unwrap_or(u32::MAX);
    if chosen < adapter.desired_replicas.max(1) {
        lines.extend(candidates(adapter, engines));
    }
    lines
}

/// The engines that it could have and has not.
fn candidates(adapter: &Adapter, engines: &[Engine]) -> Vec<String> {
    let chosen = |engine: &Engine| adapter.engines.iter().any(|on| on.engine == engine.engine);
    let others: Vec<&Engine> =
        engines.iter().filter(|engine| engine.namespace == adapter.namespace && !chosen(engine)).collect();
    let other = if adapter.engines.is_empty() { "engine" } else { "other engine" };
    if others.is_empty() {
        return vec![format!("Namespace {} has no {other}.", adapter.namespace)];
    }
    let mut lines = vec![format!("No {other} has been chosen. Namespace {} has:", adapter.namespace)];
    for engine in others.iter().take(SHOWN) {
        let labels: Vec<String> = engine.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels = if labels.is_empty() { "no labels".to_owned() } else { labels.join(", ") };
        let away = if engine.ready { String::new() } else { format!("; {} ({})", engine.message, engine.reason) };
        lines.push(format!("  {}: {labels}{away}", engine.engine));
    }
    if others.len() > SHOWN {
        lines.push(format!("  … and {} more: longshore get engines -o wide", others.len() - SHOWN));
    }
    lines
}

fn state(adapter: &Adapter) -> &'static str {
    match adapter.phase.as_str() {
        "Running" if adapter.ready_replicas < adapter.desired_replicas => {
            "running, but not on every engine that it should be on"
        }
        "Running" => "running",
        "Bound" => "loaded; its endpoints are being published",
        "Loading" => "being fetched or loaded",
        "Scheduled" => "waiting for its engines",
        "Failed" => "not served, because something about it is wrong",
        _ => "waiting for a place",
    }
}

fn on_engine(engine: &AdapterEngine, adapter: &Adapter) -> String {
    let old = engine.digest.is_some() && engine.digest != adapter.digest;
    let what = match engine.state.as_str() {
        "loaded" if old => format!("holds the version before ({})", short_digest(engine.digest.as_deref())),
        "loaded" if !engine.reason.is_empty() => "held it when it last answered".to_owned(),
        "loaded" => "holds it".to_owned(),
        "loading" => format!("is loading it, attempt {}", engine.attempt.max(1)),
        "backing-off" => format!("failed {} times and is tried again soon", engine.attempt),
        "refused" => "refuses it".to_owned(),
        "draining" => "is letting requests finish before it unloads".to_owned(),
        "unloading" => "is unloading it".to_owned(),
        _ if adapter.phase == "Failed" => "is not asked to load it".to_owned(),
        _ => "should load it and has not begun".to_owned(),
    };
    let why = if engine.message.is_empty() { String::new() } else { format!(": {}", engine.message) };
    format!("{} {what}, since {}{why}", engine.engine, engine.since)
}

/// An engine in plain words.
pub fn explain_engine(engine: &Engine, adapters: &[Adapter]) -> Vec<String> {
    let mut lines = Vec::new();
    let base = engine.base_model.as_deref().unwrap_or("a base model that is not known yet");
    lines.push(format!(
        "Engine {}/{} at {} ({}) serves {base}.",
        engine.namespace, engine.engine, engine.url, engine.kind
    ));
    if engine.ready {
        lines.push(format!("It answers; {} requests run and {} wait.", engine.load.running, engine.load.waiting));
    } else {
        lines.push(format!("It takes no requests: {} ({}).", engine.message, engine.reason));
    }
    let slots = match (engine.max_cpu_loras, engine.max_loras) {
        (Some(hard), _) => format!(" of at most {hard}"),
        (None, Some(batch)) => format!("; {batch} fit into one batch"),
        (None, None) => String::new(),
    };
    let count = engine.resident.len();
    let adapters_held = if count == 1 { "adapter" } else { "adapters" };
    lines.push(format!("It holds {count} {adapters_held}{slots}."));
    for resident in &engine.resident {
        let whose = if resident.ours { "ours" } else { "loaded by somebody else, never touched" };
        lines.push(format!("  {} ({whose}, {})", resident.name, short_digest(resident.digest.as_deref())));
    }
    let wanted = adapters.iter().filter(|adapter| adapter.namespace == engine.namespace);
    for adapter in wanted {
        let here = adapter.engines.iter().find(|on| on.engine == engine.engine && on.state != "loaded");
        if let Some(on) = here {
            lines.push(format!("  {}: {}", adapter.name, on_engine(on, adapter)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use longshore_api::fleet::Placement;

    use super::*;

    fn adapter() -> Adapter {
        Adapter {
            namespace: "default".into(),
            name: "sql".into(),
            kind: "ModelAdapter".into(),
            object: "sql".into(),
            artifact_url: "/adapters/sql".into(),
            digest: Some(format!("sha256:{}", "ab".repeat(32))),
            bytes: Some(1234),
            rank: Some(8),
            phase: "Running".into(),
            desired_replicas: 2,
            ready_replicas: 1,
            engines: vec![
                AdapterEngine {
                    engine: "e1".into(),
                    state: "backing-off".into(),
                    attempt: 2,
                    reason: "ConnectionRefused".into(),
                    message: "connection refused".into(),
                    since: "2027-01-15T08:00:00Z".into(),
                    digest: None,
                },
                AdapterEngine {
                    engine: "e0".into(),
                    state: "loaded".into(),
                    since: "2027-01-15T08:00:00Z".into(),
                    digest: Some(format!("sha256:{}", "cd".repeat(32))),
                    ..AdapterEngine::default()
                },
            ],
            endpoints: vec![Placement { pod: "e0".into(), ..Placement::default() }],
            ..Adapter::default()
        }
    }

    #[test]
    fn an_adapter_is_explained_in_plain_words() {
        insta::assert_snapshot!(explain_adapter(&adapter(), &[]).join("\n"));
    }

    #[test]
    fn one_that_no_engine_was_chosen_for_shows_what_there_is() {
        let engine = |name: &str, ready: bool| Engine {
            engine: name.into(),
            namespace: "default".into(),
            ready,
            reason: if ready { String::new() } else { "Unauthorized".into() },
            message: if ready { String::new() } else { "GET /v1/models: status 401".into() },
            labels: [("model.aibrix.ai/name".to_owned(), "tiny-base".to_owned())]
                .into_iter()
                .filter(|_| ready)
                .collect(),
            ..Engine::default()
        };
        let pending = Adapter {
            phase: "Pending".into(),
            reason: "NoMatchingPods".into(),
            message: "no engine matches spec.podSelector".into(),
            engines: Vec::new(),
            endpoints: Vec::new(),
            ready_replicas: 0,
            desired_replicas: 1,
            ..adapter()
        };
        let elsewhere = Engine { namespace: "team".into(), ..engine("e9", true) };
        let engines = [engine("e0", true), engine("e1", false), elsewhere];
        insta::assert_snapshot!(explain_adapter(&pending, &engines).join("\n"));
        let alone = explain_adapter(&pending, &engines[2..]).join("\n");
        assert!(alone.ends_with("Namespace default has no engine."), "{alone}");
        let many: Vec<Engine> = (0..20).map(|n| engine(&format!("e{n}"), true)).collect();
        assert!(explain_adapter(&pending, &many).join("\n").contains("and 12 more"));
    }

    #[test]
    fn one_that_has_fewer_engines_than_it_wants_shows_the_others() {
        let other = Engine { engine: "e2".into(), namespace: "default".into(), ready: true, ..Engine::default() };
        let short = Adapter { desired_replicas: 3, ..adapter() };
        let text = explain_adapter(&short, &[other]).join("\n");
        assert!(text.contains("No other engine has been chosen") && text.contains("e2: no labels"), "{text}");
    }

    #[test]
    fn an_engine_is_explained_in_plain_words() {
        let engine = Engine {
            engine: "e1".into(),
            namespace: "default".into(),
            url: "http://127.0.0.1:8001".into(),
            kind: "vllm".into(),
            reason: "ConnectionRefused".into(),
            message: "connection refused".into(),
            max_cpu_loras: Some(4),
            resident: vec![longshore_api::fleet::Resident { name: "theirs".into(), digest: None, ours: false }],
            ..Engine::default()
        };
        insta::assert_snapshot!(explain_engine(&engine, &[adapter()]).join("\n"));
    }
}

//! `longshore explain`: in plain words, what is and why it is not ready.

use anyhow::{Result, bail};
use longshore_api::fleet::{Adapter, AdapterEngine, Engine};

use crate::args::ExplainArgs;
use crate::fleet::Fleet;
use crate::say;
use crate::table::short_digest;

/// Explains every adapter and engine of the name.
pub async fn run(args: ExplainArgs) -> Result<()> {
    let fleet = Fleet::new(&args.server)?;
    let (adapters, engines) = (fleet.adapters().await?.adapters, fleet.engines().await?.engines);
    let mut found = Vec::new();
    found.extend(
        adapters.iter().filter(|adapter| adapter.name == args.name).map(|adapter| explain_adapter(adapter, &engines)),
    );
    found.extend(
        engines.iter().filter(|engine| engine.engine == args.name).map(|engine| explain_engine(engine, &adapters)),
    );
    if found.is_empty() {
        let names: Vec<&str> = adapters.iter().map(|adapter| adapter.name.as_str()).collect();
        let known = if names.is_empty() {
            "no adapter is declared".to_owned()
        } else {
            format!("declared are: {}", names.join(", "))
        };
        bail!("no adapter or engine is named {}; {known}", args.name);
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
    } else {
        lines.push(format!("It is not ready: {} ({}).", adapter.message, adapter.reason));
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
    if adapter.engines.is_empty() {
        let same: Vec<&Engine> = engines.iter().filter(|engine| engine.namespace == adapter.namespace).collect();
        lines.push(format!("No engine has been chosen; {} are known in namespace {}.", same.len(), adapter.namespace));
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
        "loaded" => "holds it".to_owned(),
        "loading" => format!("is loading it, attempt {}", engine.attempt.max(1)),
        "backing-off" => format!("failed {} times and is tried again soon", engine.attempt),
        "refused" => "refuses it".to_owned(),
        "draining" => "is letting requests finish before it unloads".to_owned(),
        "unloading" => "is unloading it".to_owned(),
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
    lines.push(format!("It holds {} adapters{slots}.", engine.resident.len()));
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

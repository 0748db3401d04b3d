//! `longshore get`: what there is.

use std::borrow::Borrow;

use anyhow::Result;
use longshore_api::fleet::{Adapter, Engine};

use crate::args::{GetArgs, Output, What};
use crate::fleet::Fleet;
use crate::say;
use crate::table::{cut, narrow_table, or_dash, short_digest, table};

/// Columns that a narrow terminal can do without, the first to go first. What is wrong stays.
const SPARE: [&str; 8] = ["DIGEST", "NAMESPACE", "WAITING", "RUNNING", "BASE MODEL", "KIND", "ADAPTERS", "READY"];

/// Lists what was asked for.
pub async fn run(args: GetArgs) -> Result<()> {
    let fleet = Fleet::new(&args.server)?;
    let lines = match (args.what, args.output) {
        (What::Adapters, Output::Json) => vec![serde_json::to_string_pretty(&fleet.adapters().await?)?],
        (What::Engines, Output::Json) => vec![serde_json::to_string_pretty(&fleet.engines().await?)?],
        (What::Adapters, output) => adapters(&fleet.adapters().await?.adapters, output == Output::Wide),
        (What::Engines, output) => engines(&fleet.engines().await?.engines, output == Output::Wide),
    };
    for line in lines {
        say(&line);
    }
    Ok(())
}

/// Adapters as a table.
pub fn adapters(adapters: &[impl Borrow<Adapter>], wide: bool) -> Vec<String> {
    if adapters.is_empty() {
        return vec!["no adapters are declared".to_owned()];
    }
    let (heading, rows) = adapter_rows(adapters, wide);
    table(&heading, &rows)
}

/// Adapters as a table for a terminal of that width.
pub fn adapters_within(adapters: &[impl Borrow<Adapter>], width: usize) -> Vec<String> {
    let (heading, rows) = adapter_rows(adapters, false);
    narrow_table(&heading, &rows, width, &SPARE)
}

fn adapter_rows(adapters: &[impl Borrow<Adapter>], wide: bool) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut heading = vec!["NAMESPACE", "NAME", "PHASE", "READY", "BASE MODEL", "DIGEST", "REASON"];
    if wide {
        heading.extend(["RANK", "BYTES", "ENGINES", "ARTIFACT", "MESSAGE"]);
    }
    let rows = adapters.iter().map(Borrow::borrow).map(|adapter: &Adapter| {
        let mut row = vec![
            adapter.namespace.clone(),
            adapter.name.clone(),
            adapter.phase.clone(),
            format!("{}/{}", adapter.ready_replicas, adapter.desired_replicas),
            or_dash(adapter.base_model.as_deref().unwrap_or_default()),
            short_digest(adapter.digest.as_deref()),
            or_dash(&adapter.reason),
        ];
        if wide {
            let on: Vec<&str> = adapter.endpoints.iter().map(|endpoint| endpoint.pod.as_str()).collect();
            row.extend([
                adapter.rank.map_or_else(|| "-".to_owned(), |rank| rank.to_string()),
                adapter.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
                or_dash(&on.join(",")),
                adapter.artifact_url.clone(),
                or_dash(&cut(&adapter.news(), 120)),
            ]);
        }
        row
    });
    let rows = rows.collect();
    (heading, rows)
}

/// Engines as a table.
pub fn engines(engines: &[impl Borrow<Engine>], wide: bool) -> Vec<String> {
    if engines.is_empty() {
        return vec!["no engines are known".to_owned()];
    }
    let (heading, rows) = engine_rows(engines, wide);
    table(&heading, &rows)
}

/// Engines as a table for a terminal of that width.
pub fn engines_within(engines: &[impl Borrow<Engine>], width: usize) -> Vec<String> {
    let (heading, rows) = engine_rows(engines, false);
    narrow_table(&heading, &rows, width, &SPARE)
}

fn engine_rows(engines: &[impl Borrow<Engine>], wide: bool) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let mut heading =
        vec!["NAMESPACE", "ENGINE", "KIND", "BASE MODEL", "READY", "ADAPTERS", "RUNNING", "WAITING", "REASON"];
    if wide {
        heading.extend(["MAX LORAS", "MAX CPU LORAS", "MAX RANK", "URL", "HOLDS", "MESSAGE"]);
    }
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let rows = engines.iter().map(Borrow::borrow).map(|engine: &Engine| {
        let mut row = vec![
            engine.namespace.clone(),
            engine.engine.clone(),
            engine.kind.clone(),
            or_dash(engine.base_model.as_deref().unwrap_or_default()),
            if engine.ready { "yes" } else { "no" }.to_owned(),
            engine.resident.len().to_string(),
            engine.load.running.to_string(),
            engine.load.waiting.to_string(),
            or_dash(&engine.reason),
        ];
        if wide {
            let holds: Vec<&str> = engine.resident.iter().map(|resident| resident.name.as_str()).collect();
            row.extend([
                number(engine.max_loras),
                number(engine.max_cpu_loras),
                number(engine.max_lora_rank),
                engine.url.clone(),
                or_dash(&cut(&holds.join(","), 80)),
                or_dash(&cut(&engine.message, 120)),
            ]);
        }
        row
    });
    let rows = rows.collect();
    (heading, rows)
}

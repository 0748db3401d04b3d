//! `--engine URL[,key=value…]`.

use longshore_cluster::local::{EngineConfig, InvalidEngine};

/// What may follow an engine's URL, as [`EngineConfig`] reads it.
const PROPERTIES: [&str; 8] =
    ["name", "namespace", "kind", "store", "api-key-file", "max-loras", "max-cpu-loras", "max-lora-rank"];

/// The engine that a flag names. Keys that are not properties of the engine are labels.
pub fn parse(text: &str) -> Result<EngineConfig, String> {
    let mut spelt = Vec::new();
    for (position, part) in text.split(',').enumerate() {
        let key = part.split_once('=').map(|(key, _)| key).filter(|_| position > 0);
        match key.filter(|key| !PROPERTIES.contains(key) && !key.starts_with("label.")) {
            Some(key) => {
                label(key)?;
                spelt.push(format!("label.{part}"));
            }
            None => spelt.push(part.to_owned()),
        }
    }
    spelt.join(",").parse().map_err(|error: InvalidEngine| error.to_string())
}

/// Refuses a label that is most likely a property with a typo: taken for a label, it would do nothing, and nobody would
/// notice; a key in the clear would even be shown to everybody. A label that is really called so is `label.<key>`.
fn label(key: &str) -> Result<(), String> {
    let plain = key.to_ascii_lowercase().replace('_', "-");
    if ["api-key", "apikey", "key", "token", "password"].contains(&plain.as_str()) {
        return Err(format!("{key}: a key is read from a file: api-key-file=PATH"));
    }
    let near = PROPERTIES.into_iter().map(|property| (distance(&plain, property), property)).min();
    let meant = match near {
        // In a short word one other letter makes another word: `stage` is no `store`.
        Some((typos, property)) if typos <= if property.len() < 6 { 1 } else { 2 } => property,
        _ if plain.starts_with("max-") || plain == "rank" => "max-loras, max-cpu-loras or max-lora-rank",
        _ => return Ok(()),
    };
    Err(format!("{key}: is {meant} meant? If it is a label, write label.{key}=…"))
}

/// How many letters must be added, left out or changed to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_takes_labels_by_their_bare_names() {
        let engine = parse("http://127.0.0.1:8000,tier=gold,model.aibrix.ai/name=qwen,max-loras=4").unwrap();
        assert_eq!(engine.labels["tier"], "gold");
        assert_eq!(engine.labels["model.aibrix.ai/name"], "qwen");
        assert_eq!(engine.max_loras, Some(4));
        for bad in ["http://127.0.0.1:8000,tier", "ftp://x", "http://127.0.0.1:8000,=x", "http://127.0.0.1:8000,tier="]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_property_with_a_typo_is_not_taken_for_a_label() {
        let with = |pair: &str| parse(&format!("http://127.0.0.1:8000,{pair}"));
        for (pair, meant) in [
            ("max-lora=4", "max-loras"),
            ("max_loras=4", "max-loras"),
            ("MAX-LORAS=4", "max-loras"),
            ("max-cpu-lora=4", "max-cpu-loras"),
            ("max-rank=4", "max-loras, max-cpu-loras or max-lora-rank"),
            ("max-adapters=4", "max-loras, max-cpu-loras or max-lora-rank"),
            ("Name=x", "name"),
            ("namespaces=x", "namespace"),
            ("stor=/x", "store"),
            ("api-key-fil=/x", "api-key-file"),
        ] {
            let error = with(pair).unwrap_err();
            assert!(error.contains(&format!("is {meant}")) && error.contains("label."), "{pair}: {error}");
        }
        assert_eq!(with("label.max-lora=4").unwrap().labels["max-lora"], "4", "unless it is said to be one");
        for fine in
            ["tier", "zone", "node", "gpu", "pool", "region", "team", "model", "stage", "app.kubernetes.io/name"]
        {
            assert!(with(&format!("{fine}=x")).is_ok(), "{fine}");
        }
    }

    #[test]
    fn i8_a_key_in_the_clear_does_not_become_a_label_that_everybody_reads() {
        for key in ["api-key", "api_key", "apikey", "token"] {
            let error = parse(&format!("http://127.0.0.1:8000,{key}=hunter2")).unwrap_err();
            assert!(error.contains("api-key-file=PATH") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_distance_counts_letters() {
        for (a, b, typos) in
            [("", "abc", 3), ("abc", "", 3), ("abc", "abc", 0), ("abc", "xabc", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), typos, "{a} {b}");
        }
    }
}

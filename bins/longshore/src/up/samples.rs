//! What is served where nothing is named: the samples, with small real adapters made on first use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use longshore_testkit::adapters::{AdapterRecipe, CONFIG, write};

use super::store::data_dir;

/// Where the samples are in a clone.
const IN_A_CLONE: &str = "samples/standalone";

/// The samples as they are in a clone, for a binary that runs elsewhere: file name and content.
const MANIFESTS: [(&str, &str); 3] = [
    ("legal.yaml", include_str!("../../../../samples/standalone/legal.yaml")),
    ("sql.yaml", include_str!("../../../../samples/standalone/sql.yaml")),
    ("support.yaml", include_str!("../../../../samples/standalone/support.yaml")),
];

/// The adapters that they name, and what tells their weights apart.
const ADAPTERS: [(&str, u64); 3] = [("legal-lora", 1), ("sql-lora", 2), ("support-lora", 3)];

/// The directory of samples, complete.
pub fn prepare() -> Result<PathBuf> {
    let in_a_clone = Path::new(IN_A_CLONE);
    let dir = if in_a_clone.join(MANIFESTS[0].0).is_file() { in_a_clone.to_owned() } else { unpack()? };
    for (name, seed) in ADAPTERS {
        let adapter = dir.join("adapters").join(name);
        if !adapter.join(CONFIG).is_file() {
            write(&adapter, &AdapterRecipe::seeded(seed)).with_context(|| {
                format!("cannot make the sample adapter {}: name manifests with -f", adapter.display())
            })?;
        }
    }
    Ok(dir)
}

/// The samples outside of a clone. What is there already may have been edited, and stays.
fn unpack() -> Result<PathBuf> {
    let dir = data_dir()?.join("samples");
    let failed = || format!("cannot write the samples to {}: name manifests with -f", dir.display());
    fs::create_dir_all(&dir).with_context(failed)?;
    for (name, content) in MANIFESTS {
        let path = dir.join(name);
        if !path.exists() {
            fs::write(&path, content).with_context(failed)?;
        }
    }
    Ok(dir)
}

//! Makes small adapters for the tiny base model, laid out as a simulated engine's `--hub` wants them:
//! `cargo run -p longshore-testkit --example hub -- DIR` writes `DIR/demo/sql-lora` and its siblings.

use std::path::PathBuf;

use longshore_testkit::adapters::{AdapterRecipe, write};

/// Names, and what tells their weights apart.
const ADAPTERS: [(&str, u64); 3] = [("legal-lora", 1), ("sql-lora", 2), ("support-lora", 3)];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("name the directory to write to")?);
    for (name, seed) in ADAPTERS {
        write(&dir.join("demo").join(name), &AdapterRecipe::seeded(seed))?;
    }
    Ok(())
}

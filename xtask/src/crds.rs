//! `crds`: the custom resource definitions of `deploy/crds/`, written from the types that the code reads objects with.

use anyhow::{Context, Result};

use crate::Workspace;
use crate::deploy::{Generated, settle};

/// Write deploy/crds/ from the types of longshore-api
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; fail where a file is not what would be written
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn main(workspace: &Workspace, args: &Args) -> Result<()> {
    settle(workspace, &files()?, args.check)
}

/// The definitions as they should be.
pub fn files() -> Result<Vec<Generated>> {
    let crd = longshore_api::crd();
    let name = crd.metadata.name.clone().context("a definition has a name")?;
    let yaml = serde_saphyr::to_string(&crd).with_context(|| format!("{name} cannot be written as YAML"))?;
    let text = format!(
        "# Generated from longshore-api by `cargo xtask crds`. Edit crates/api/src/model_adapter.rs instead.\n{yaml}"
    );
    let text = format!("{}\n", text.trim_end());
    Ok(vec![Generated { path: format!("deploy/crds/{name}.yaml").into(), text, task: "crds" }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definitions_are_those_of_the_code() {
        let workspace = Workspace::find().unwrap();
        for file in files().unwrap() {
            assert_eq!(file.stale(&workspace).unwrap(), None);
        }
    }

    #[test]
    fn a_definition_reads_back_as_what_was_written() {
        let [file] = files().unwrap().try_into().unwrap_or_else(|_| panic!("one definition"));
        let read: serde_json::Value = serde_saphyr::from_str(&file.text).unwrap();
        assert_eq!(read, serde_json::to_value(longshore_api::crd()).unwrap());
    }
}

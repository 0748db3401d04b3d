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
    make_adapters(&dir)?;
    Ok(dir)
}

/// Makes the adapters that the samples of a clone name, where it is those that `path` leads to.
pub fn complete(path: &Path) -> Result<()> {
    let ours = |path: &Path| path.ends_with(IN_A_CLONE) && path.join(MANIFESTS[0].0).is_file();
    match path.canonicalize() {
        Ok(path) if ours(&path) => make_adapters(&path),
        // What is wrong with any other is said by whoever reads it.
        _ => Ok(()),
    }
}

fn make_adapters(dir: &Path) -> Result<()> {
    for (name, seed) in ADAPTERS {
        let adapter = dir.join("adapters").join(name);
        if !adapter.join(CONFIG).is_file() {
            write(&adapter, &AdapterRecipe::seeded(seed)).with_context(|| {
                format!("cannot make the sample adapter {}: name manifests with -f", adapter.display())
            })?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use longshore_api::RelativePaths;
    use longshore_api::manifest::{Manifest, parse};

    use super::*;

    #[test]
    fn the_samples_of_a_clone_get_their_adapters_and_no_other_directory_does() {
        let dir = tempfile::tempdir().unwrap();
        let samples = dir.path().join(IN_A_CLONE);
        fs::create_dir_all(&samples).unwrap();
        for place in [&samples, &dir.path().join("nowhere"), &dir.path().to_path_buf()] {
            complete(place).unwrap();
        }
        assert_eq!(fs::read_dir(&samples).unwrap().count(), 0, "no samples, only their name");
        for (name, content) in MANIFESTS {
            fs::write(samples.join(name), content).unwrap();
        }
        complete(&samples).unwrap();
        for (name, _) in ADAPTERS {
            assert!(samples.join("adapters").join(name).join(CONFIG).is_file(), "{name}");
        }
    }

    #[test]
    fn every_sample_is_valid_and_names_an_adapter_that_is_made() {
        let samples = Path::new("/samples");
        for (file, content) in MANIFESTS {
            let documents = parse(file, content);
            let [Ok(Manifest::Adapter(document))] = documents.as_slice() else { panic!("{file}: {documents:?}") };
            let specs = longshore_api::lower(&document.object, RelativePaths::From(samples)).unwrap();
            let made = |name: &str| specs[0].artifact.to_string() == format!("/samples/adapters/{name}");
            assert!(ADAPTERS.iter().any(|(name, _)| made(name)), "{file}: {}", specs[0].artifact);
        }
    }
}

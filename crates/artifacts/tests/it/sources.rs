//! The behaviour that every source shares. A new source is a new `World` and one call.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_artifacts::{Artifacts, Local, Origin, Source, Store};
use longshore_types::{ArtifactUrl, Digest, Scheme, Scope};

use crate::adapter::{Adapter, CONFIG, WEIGHTS};

/// A place that one source reads from, and a hand that changes it.
pub trait World {
    /// The source.
    fn source(&self) -> Arc<dyn Source>;
    /// Puts an adapter's files in a place of their own and says where.
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl;
    /// Replaces one file, without caring for times.
    fn replace(&self, url: &ArtifactUrl, name: &str, bytes: &[u8]);
    /// Removes one file.
    fn remove(&self, url: &ArtifactUrl, name: &str);
    /// A place where there is nothing.
    fn nothing(&self) -> ArtifactUrl;
}

/// Everything that every source has to do.
pub async fn behaves(world: &dyn World) {
    let store_dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(Store::open(store_dir.path()).unwrap()).with_source(world.source());
    let store = artifacts.store();
    let mut adapter = Adapter::tiny(1);
    adapter.others.push(("tokenizer.json", b"{}".to_vec()));
    adapter.others.push(("README.md", b"# Not kept".to_vec()));
    let url = world.put(&adapter.files());

    // It takes what it says that it takes, and says so.
    let source = world.source();
    assert!(source.schemes().contains(&url.scheme()));
    assert!(!source.takes().is_empty());

    // Kept files arrive byte by byte, others stay away.
    let fetched = artifacts.fetch(&url, None).await.unwrap();
    assert_eq!(fetched.path, store.path_of(&fetched.verified.digest));
    for (name, bytes) in adapter.files() {
        let stored = fs::read(fetched.path.join(&name));
        if name == "README.md" {
            assert!(stored.is_err());
        } else {
            assert_eq!(stored.unwrap(), bytes, "{name}");
        }
    }
    store.audit(&fetched.verified.digest).unwrap();

    // Again gives the same, at once and side by side.
    let many = futures::future::join_all((0..4).map(|_| artifacts.fetch(&url, None))).await;
    assert!(many.into_iter().all(|again| again.unwrap() == fetched));
    assert_eq!(store.entries().unwrap(), [fetched.verified.digest]);

    // A pinned digest is held against what is there.
    let digest = fetched.verified.digest;
    assert_eq!(artifacts.fetch(&url, Some(&digest)).await.unwrap(), fetched);
    let mismatch = artifacts.fetch(&url, Some(&Digest::from_bytes([7; 32]))).await.unwrap_err();
    assert_eq!(mismatch.reason(), "DigestMismatch");
    assert!(mismatch.to_string().contains(&digest.to_string()), "{mismatch}");

    // A change shows in the fingerprint, and the next fetch is of the new bytes. The old entry stays as it was.
    let before = artifacts.fingerprint(&Origin::public(url.clone())).await.unwrap();
    world.replace(&url, WEIGHTS, &Adapter::tiny(2).weights());
    let after = artifacts.fingerprint(&Origin::public(url.clone())).await.unwrap();
    assert!(!before.proves_same(&after));
    let changed = artifacts.fetch(&url, None).await.unwrap();
    assert_ne!(changed.verified.digest, digest);
    assert_eq!(store.entries().unwrap().len(), 2);
    store.audit(&digest).unwrap();

    // What is broken is refused and leaves nothing behind.
    world.replace(&url, WEIGHTS, b"version https://git-lfs.github.com/spec/v1\n");
    assert_eq!(artifacts.fetch(&url, None).await.unwrap_err().reason(), "LfsPointer");
    world.remove(&url, WEIGHTS);
    assert_eq!(artifacts.fetch(&url, None).await.unwrap_err().reason(), "WeightsMissing");
    world.replace(&url, "adapter_model.bin", b"a pickle");
    assert_eq!(artifacts.fetch(&url, None).await.unwrap_err().reason(), "PickleRefused");
    world.remove(&url, CONFIG);
    assert_eq!(artifacts.fetch(&url, None).await.unwrap_err().reason(), "ConfigMissing");
    assert_eq!(store.entries().unwrap().len(), 2);

    // Where there is nothing, that is the artifact's fault.
    let nothing = artifacts.fetch(&world.nothing(), None).await.unwrap_err();
    assert_eq!((nothing.reason(), nothing.fault().scope), ("ArtifactNotFound", Scope::Artifact));
}

struct Directories(tempfile::TempDir);

impl Directories {
    fn path(&self, url: &ArtifactUrl, name: &str) -> PathBuf {
        PathBuf::from(url.path().unwrap()).join(name)
    }
}

impl World for Directories {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(Local)
    }
    fn put(&self, files: &[(String, Vec<u8>)]) -> ArtifactUrl {
        let dir = self.0.path().join("adapter");
        fs::create_dir(&dir).unwrap();
        for (name, bytes) in files {
            fs::write(dir.join(name), bytes).unwrap();
        }
        ArtifactUrl::new(dir.to_str().unwrap()).unwrap()
    }
    fn replace(&self, url: &ArtifactUrl, name: &str, bytes: &[u8]) {
        fs::write(self.path(url, name), bytes).unwrap();
    }
    fn remove(&self, url: &ArtifactUrl, name: &str) {
        fs::remove_file(self.path(url, name)).unwrap();
    }
    fn nothing(&self) -> ArtifactUrl {
        ArtifactUrl::new(format!("file://{}/none", self.0.path().display())).unwrap()
    }
}

#[tokio::test]
async fn directories_behave() {
    behaves(&Directories(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn what_no_source_takes_is_refused_with_what_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(Store::open(dir.path()).unwrap());
    for url in ["hf://org/repo", "s3://bucket/prefix/", "https://example.com/a.tgz", "adapters/a"] {
        let url: ArtifactUrl = url.parse().unwrap();
        assert_ne!(url.scheme(), Scheme::File);
        let error = artifacts.fetch(&url, None).await.unwrap_err();
        assert_eq!(error.reason(), "UnsupportedScheme");
        assert!(error.to_string().ends_with("what is supported is absolute paths and file:// references"), "{error}");
    }
}

#[tokio::test]
async fn an_adapter_that_was_edited_at_once_is_not_taken_for_the_old_one() {
    // Both writes may fall into one tick of the file system's clock, and the size is the same.
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(Store::open(dir.path().join("store")).unwrap());
    let source = dir.path().join("a");
    let url = ArtifactUrl::new(source.to_str().unwrap()).unwrap();
    for seed in 1..20 {
        let adapter = Adapter::tiny(seed);
        adapter.write(&source);
        let fetched = artifacts.fetch(&url, None).await.unwrap();
        assert_eq!(fs::read(fetched.path.join(WEIGHTS)).unwrap(), adapter.weights(), "seed {seed}");
    }
}

//! Artifacts whose layers are archives.

use longshore_testkit::registry::{Faults, Layer, TAR};

use crate::adapter::{Adapter, CONFIG, WEIGHTS};
use crate::archives::pack::tar_of as tar;
use crate::oci::pair;

/// The files under another directory.
fn below(folder: &str, files: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    files.into_iter().map(|(name, bytes)| (format!("{folder}{name}"), bytes)).collect()
}

#[tokio::test]
async fn an_archive_is_unpacked_however_the_manifest_says_that_it_is_one() {
    let pair = pair().await;
    let files = Adapter::tiny(1).files();
    let whole = tar(&files);
    let unpacked = Layer::archive("application/x", tar(&below("lora/", files.clone())));
    let per_file = |(name, bytes): &(String, Vec<u8>)| {
        let archive = tar(&[(name.clone(), bytes.clone())]);
        Layer::archive("application/vnd.cncf.model.weight.v1.tar", archive).with("org.cncf.model.filepath", name)
    };
    let mixed = vec![Layer::file(CONFIG, files[0].1.clone()), Layer::archive(TAR, tar(&files[1..]))];
    let mut digests = Vec::new();
    for (tag, layers) in [
        ("media-type", vec![Layer::archive(TAR, whole.clone())]),
        ("alone", vec![Layer::archive("application/x", whole.clone())]),
        ("name", vec![Layer::file("adapter.tar", whole.clone())]),
        ("folder", vec![Layer::archive(TAR, tar(&below("./models/", files.clone())))]),
        (
            "unpack",
            vec![unpacked.with("io.deis.oras.content.unpack", "true").with("org.opencontainers.image.title", "lora")],
        ),
        ("per-file", files.iter().map(per_file).collect()),
        ("mixed", mixed),
    ] {
        pair.registry.push("lora", tag, &layers);
        let fetched = pair.fetch(&format!("lora:{tag}")).await;
        digests.push(fetched.unwrap_or_else(|error| panic!("{tag}: {error}")).verified.digest);
    }
    assert!(digests.iter().all(|digest| *digest == digests[0]));
}

#[tokio::test]
async fn layers_that_take_back_what_others_have_are_refused() {
    let pair = pair().await;
    let files = Adapter::tiny(1).files();
    let again = tar(&[(CONFIG.to_owned(), b"{}".to_vec())]);
    let whiteout = tar(&[(format!(".wh.{CONFIG}"), Vec::new())]);
    let first_in_a_folder = tar(&[("x/tokenizer.json".into(), b"{}".to_vec()), files[1].clone()]);
    for (what, problem, layers) in [
        (
            "twice in archives",
            "more than one layer with adapter_config.json",
            vec![Layer::archive(TAR, tar(&files)), Layer::archive(TAR, again.clone())],
        ),
        (
            "a file and an archive",
            "more than one layer with adapter_config.json",
            vec![Layer::archive(TAR, tar(&files)), Layer::file(CONFIG, files[0].1.clone())],
        ),
        (
            "a whiteout",
            "takes files away (.wh.adapter_config.json)",
            vec![Layer::archive(TAR, tar(&files)), Layer::archive(TAR, whiteout)],
        ),
        (
            "another folder",
            "different folders",
            vec![Layer::file(CONFIG, files[0].1.clone()), Layer::archive(TAR, first_in_a_folder)],
        ),
    ] {
        pair.registry.push("lora", "v1", &layers);
        let error = pair.fetch("lora:v1").await.map(drop).unwrap_err();
        assert_eq!(error.reason(), "ManifestInvalid", "{what}: {error}");
        assert!(error.to_string().contains(problem), "{what}: {error}");
        assert!(pair.is_untouched(), "{what}");
    }
}

#[tokio::test]
async fn an_archive_is_held_against_its_digest_to_its_last_byte() {
    let pair = pair().await;
    let mut archive = tar(&Adapter::tiny(1).files());
    // Behind the end of the archive, which readers need not look at.
    archive.extend([0; 8192]);
    pair.registry.push("lora", "v1", &[Layer::archive(TAR, archive)]);
    for faults in [
        Faults { garbled: true, ..Faults::default() },
        Faults { page: true, ..Faults::default() },
        Faults { page: true, no_length: true, ..Faults::default() },
    ] {
        let what = format!("{faults:?}");
        pair.registry.fail(|all| *all = faults);
        let error = pair.fetch("lora:v1").await.map(drop).unwrap_err();
        assert_eq!(error.reason(), "ArtifactCorrupted", "{what}: {error}");
        assert!(pair.is_untouched(), "{what}");
    }
    pair.registry.fail(|all| *all = Faults { cut: Some(700), cuts: Some(4), ..Faults::default() });
    pair.fetch("lora:v1").await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_an_archive_is_its_own_fault() {
    let pair = pair().await;
    let files = vec![(WEIGHTS.to_owned(), Adapter::tiny(1).weights())];
    pair.registry.push("lora", "v1", &[Layer::archive(TAR, tar(&files))]);
    assert_eq!(pair.fetch("lora:v1").await.unwrap_err().reason(), "ConfigMissing");
    pair.registry.push("lora", "v2", &[Layer::archive(TAR, "hello")]);
    let error = pair.fetch("lora:v2").await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
}

//! Directories with missing, odd or too many files.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::Case;
use super::adapter::{Adapter, CONFIG, WEIGHTS};

pub fn cases() -> Vec<Case> {
    let case = |name: &str, reason, change: fn(&Path)| {
        Case::new(format!("files: {name}"), reason, move |dir| {
            Adapter::tiny(1).write(dir);
            change(dir);
        })
    };
    let remove = |name: &'static str| move |dir: &Path| fs::remove_file(dir.join(name)).unwrap();
    let without_weights = |name: &str, reason, instead: &'static str| {
        Case::new(format!("files: {name}"), reason, move |dir| {
            Adapter::tiny(1).write(dir);
            remove(WEIGHTS)(dir);
            fs::write(dir.join(instead), Adapter::tiny(1).weights()).unwrap();
        })
    };
    vec![
        Case::new("files: none", "ConfigMissing", |_| {}),
        Case::new("files: a folder deeper", "ConfigMissing", |dir| Adapter::tiny(1).write(&dir.join("checkpoint-500"))),
        case("no configuration", "ConfigMissing", |dir| fs::remove_file(dir.join(CONFIG)).unwrap()),
        case("no weights", "WeightsMissing", |dir| fs::remove_file(dir.join(WEIGHTS)).unwrap()),
        without_weights("a pickle", "PickleRefused", "adapter_model.bin"),
        without_weights("an older pickle", "PickleRefused", "adapter_model.pt"),
        without_weights("a whole model", "WeightsMissing", "model.safetensors"),
        without_weights("a part of the weights", "WeightsSharded", "adapter_model-00001-of-00002.safetensors"),
        without_weights("weights in capitals", "WeightsMissing", "ADAPTER_MODEL.SAFETENSORS"),
        without_weights(
            "weights that are still being downloaded",
            "WeightsMissing",
            "adapter_model.safetensors.incomplete",
        ),
        without_weights("weights for numpy", "WeightsMissing", "adapter_model.npz"),
        case("a second weights file that is broken", "WeightsTruncated", |dir| {
            fs::write(dir.join("extra.safetensors"), b"broken").unwrap();
        }),
        case("a name with a line break", "FileName", |dir| fs::write(dir.join("tokenizer\n.json"), b"").unwrap()),
        case("a name that turns the writing", "FileName", |dir| {
            use std::os::unix::ffi::OsStrExt;
            fs::write(dir.join(std::ffi::OsStr::from_bytes(b"tokenizer\xff.json")), b"").unwrap();
        }),
        case("65 tokenizer files", "TooLarge", |dir| {
            for n in 0..65 {
                fs::write(dir.join(format!("tokenizer.{n}")), b"").unwrap();
            }
        }),
        case("weights that are a folder", "SpecialFile", |dir| {
            fs::remove_file(dir.join(WEIGHTS)).unwrap();
            fs::create_dir(dir.join(WEIGHTS)).unwrap();
        }),
        case("weights that are a device without an end", "SpecialFile", |dir| {
            fs::remove_file(dir.join(WEIGHTS)).unwrap();
            symlink("/dev/zero", dir.join(WEIGHTS)).unwrap();
        }),
        case("a configuration that is a pipe", "SpecialFile", |dir| {
            fs::remove_file(dir.join(CONFIG)).unwrap();
            assert!(std::process::Command::new("mkfifo").arg(dir.join(CONFIG)).status().unwrap().success());
        }),
        case("weights that link to nothing", "ArtifactNotFound", |dir| {
            fs::remove_file(dir.join(WEIGHTS)).unwrap();
            symlink("gone", dir.join(WEIGHTS)).unwrap();
        }),
        case("weights of a terabyte of zeros", "WeightsInvalid", |dir| {
            File::create(dir.join(WEIGHTS)).unwrap().set_len(1 << 40).unwrap();
        }),
        case("a configuration of a terabyte of zeros", "ConfigInvalid", |dir| {
            File::create(dir.join(CONFIG)).unwrap().set_len(1 << 40).unwrap();
        }),
    ]
}

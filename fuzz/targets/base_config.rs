//! A base model's `config.json`, and whether a module fits it.
//!
//! An input is, between NULs: a module's name, its input and output features as bytes, and the configuration.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_artifacts::{BaseShapes, fuzzing};
use longshore_fuzz::{check_words, parts};

fuzz_target!(|data: &[u8]| {
    let [module, features, json] = parts(data);
    match BaseShapes::from_config_json(json) {
        Ok(base) => {
            let module = String::from_utf8_lossy(module);
            let [input, output] = [0, 1].map(|at| u64::from(features.get(at).copied().unwrap_or_default()));
            if let Err(defect) = fuzzing::fits(&base, &module, input, output) {
                check_words(&defect);
            }
        }
        Err(defect) => check_words(&defect),
    }
});

//! `adapter_config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_artifacts::AdapterConfig;
use longshore_fuzz::check_words;

fuzz_target!(|json: &[u8]| match AdapterConfig::parse(json) {
    Ok(config) => {
        assert!(config.rank >= 1 && config.rank_pattern.values().all(|rank| *rank >= 1));
        assert!(config.alpha.is_finite() && config.alpha_pattern.values().all(|alpha| alpha.is_finite()));
        assert!(config.whole_modules.len() <= 2);
        assert!(config.warnings.iter().all(|(_, message)| message.len() < 4096));
        assert!(config.base_model.is_none_or(|name| !name.chars().any(char::is_control)));
    }
    Err(defect) => check_words(&defect),
});

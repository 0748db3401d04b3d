//! Values of flags, as Go programs write them too: people come with arguments that they have.

use std::str::FromStr;
use std::time::Duration;

use longshore_cluster::kube::EngineKeySecret;
use longshore_cluster::policies;
use longshore_runtime::{Listen, seconds};

/// AIBrix's names of policies that have another name here.
const POLICIES: [(&str, &str); 1] = [("leastAdapters", "least-adapters")];

/// Seconds (`15`, `0.5`), or a duration as Go writes it (`15s`, `500ms`, `1m30s`).
pub fn duration(text: &str) -> Result<Duration, String> {
    if text.is_empty() || text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return seconds(text);
    }
    let wrong = || "expected seconds, such as 30 or 0.5, or 1m30s".to_owned();
    let (mut rest, mut total) = (text, 0.0);
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        total += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                _ => return Err(wrong()),
            };
        rest = tail;
    }
    seconds(&total.to_string()).map_err(|_| wrong())
}

/// A time that something is done again after, which therefore is not nothing.
pub fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    // Anything shorter keeps engines and the API server busy with us alone.
    if interval < Duration::from_millis(50) { Err("expected at least 0.05".to_owned()) } else { Ok(interval) }
}

/// A flag that is on or off, as Go's `strconv.ParseBool` reads it.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Requests in a second; 0 for any number.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate == 0.0 || (0.1..=1e6).contains(&rate) { Ok(rate) } else { Err("expected 0, or 0.1 and more".to_owned()) }
}

/// The name of a placement policy, or AIBrix's name for it.
pub fn policy(text: &str) -> Result<String, String> {
    let renamed = POLICIES.iter().find(|(theirs, _)| *theirs == text && !policies().contains(theirs));
    let name = renamed.map_or(text, |(_, ours)| ours);
    if policies().contains(&name) {
        return Ok(name.to_owned());
    }
    Err(format!("expected one of {}", policies().join(", ")))
}

/// `name/key` of a Secret.
pub fn secret_key(text: &str) -> Result<EngineKeySecret, String> {
    // What the API server takes for the two: https://kubernetes.io/docs/concepts/configuration/secret/
    let part = |part: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part.len() <= 253 && part.bytes().all(good)
    };
    match text.split_once('/') {
        Some((name, key)) if part(name) && part(key) => {
            Ok(EngineKeySecret { name: name.to_owned(), key: key.to_owned() })
        }
        _ => Err("expected the name of a Secret and the key in it: NAME/KEY".to_owned()),
    }
}

/// Where a server listens that need not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maybe {
    /// Nowhere, written `0`.
    Nowhere,
    /// There.
    At(Listen),
}

impl FromStr for Maybe {
    type Err = longshore_runtime::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "0" { Self::Nowhere } else { Self::At(text.parse()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_seconds_or_what_go_writes() {
        for (text, millis) in
            [("15", 15_000), ("0.5", 500), ("15s", 15_000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "s", "15x", "-1s", "1e300s", "999999h", "1s5", "ms", "NaN", "inf", "1..2s", "5 s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(interval("0").is_err());
        assert!(interval("10ms").is_err());
        assert!(interval("0.1").is_ok());
    }

    #[test]
    fn a_policy_is_one_that_there_is_under_its_name_or_aibrixs() {
        for known in policies() {
            assert_eq!(policy(known).as_deref(), Ok(*known));
        }
        assert_eq!(policy("leastAdapters").as_deref(), Ok("least-adapters"));
        let error = policy("random").unwrap_err();
        assert_eq!(error, "expected one of default, least-adapters");
    }

    #[test]
    fn a_secrets_key_needs_both_parts() {
        let secret = EngineKeySecret { name: "engine-keys".to_owned(), key: "api-key".to_owned() };
        assert_eq!(secret_key("engine-keys/api-key"), Ok(secret));
        for wrong in ["", "name", "name/", "/key", "name/key/more", "a b/c", "name/../x"] {
            assert!(secret_key(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_nothing_or_enough_to_get_on() {
        assert_eq!(rate("0"), Ok(0.0));
        assert_eq!(rate("100"), Ok(100.0));
        for wrong in ["-1", "0.01", "NaN", "inf", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_that_need_not_be_is_written_as_nothing() {
        assert_eq!("0".parse::<Maybe>().unwrap(), Maybe::Nowhere);
        assert_eq!(":8080".parse::<Maybe>().unwrap(), Maybe::At(":8080".parse().unwrap()));
        assert!("8080".parse::<Maybe>().is_err());
    }
}

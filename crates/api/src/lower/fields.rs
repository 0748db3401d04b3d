//! One function per field that has rules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use longshore_types::{ArtifactUrl, BaseModel, Digest, Scheme, Secret};

use super::{Broken, RelativePaths, path};
use crate::labels;
use crate::model_adapter::{self as rules, ModelAdapterSpec};
use crate::spec::{EngineKey, EngineSelector, Operator, Requirement, UpdateStrategy};
use crate::text::shown;

pub(super) fn base_model(spec: &ModelAdapterSpec, broken: &mut Broken) -> Option<BaseModel> {
    let name = spec.base_model.as_deref()?;
    let parsed = BaseModel::new(name).ok();
    broken.unless(parsed.is_some(), "spec.baseModel", rules::BASE_MODEL.message);
    parsed
}

pub(super) fn selector(selector: &LabelSelector, broken: &mut Broken) -> EngineSelector {
    let match_labels = selector.match_labels.clone().unwrap_or_default();
    let expressions = selector.match_expressions.as_deref().unwrap_or_default();
    let field = "spec.podSelector";
    broken.unless(!match_labels.is_empty() || !expressions.is_empty(), field, rules::SELECTOR_EMPTY.message);
    let few = at_most(match_labels.len(), rules::ENTRIES_MAX, "spec.podSelector.matchLabels", broken)
        & at_most(expressions.len(), rules::ENTRIES_MAX, "spec.podSelector.matchExpressions", broken);
    if !few {
        return EngineSelector::default();
    }
    labels_are_valid(&match_labels, broken);
    let match_expressions =
        expressions.iter().enumerate().filter_map(|(index, one)| requirement(index, one, broken)).collect();
    EngineSelector { match_labels, match_expressions }
}

fn labels_are_valid(match_labels: &BTreeMap<String, String>, broken: &mut Broken) {
    for (key, value) in match_labels {
        let field = format!("spec.podSelector.matchLabels[{}]", shown(key));
        broken.unless(labels::is_label_key(key), &field, NOT_A_KEY);
        broken.unless(labels::is_label_value(value), &field, NOT_A_VALUE);
    }
}

const NOT_A_KEY: &str = "not a label key: at most 63 letters, digits, '-', '_' or '.', beginning and ending with a letter \
                         or digit, after an optional DNS name and '/'";
const NOT_A_VALUE: &str =
    "not a label value: at most 63 letters, digits, '-', '_' or '.', beginning and ending with a letter or digit";

fn requirement(index: usize, one: &LabelSelectorRequirement, broken: &mut Broken) -> Option<Requirement> {
    let field = format!("spec.podSelector.matchExpressions[{index}]");
    broken.unless(labels::is_label_key(&one.key), &format!("{field}.key"), NOT_A_KEY);
    let values = one.values.as_deref().unwrap_or_default();
    let values_field = format!("{field}.values");
    if !at_most(values.len(), rules::VALUES_MAX, &values_field, broken) {
        return None;
    }
    broken.unless(values.iter().all(|value| labels::is_label_value(value)), &values_field, NOT_A_VALUE);
    let set = || values.iter().cloned().collect::<BTreeSet<_>>();
    let (operator, with_values) = match one.operator.as_str() {
        "In" => (Operator::In(set()), true),
        "NotIn" => (Operator::NotIn(set()), true),
        "Exists" => (Operator::Exists, false),
        "DoesNotExist" => (Operator::DoesNotExist, false),
        _ => {
            broken.add(format!("{field}.operator"), "must be one of In, NotIn, Exists, DoesNotExist");
            return None;
        }
    };
    broken.unless(values.is_empty() != with_values, &values_field, rules::SELECTOR_VALUES.message);
    Some(Requirement { key: one.key.clone(), operator })
}

/// The reference, a relative one resolved. Its text is never shown: it may hold a signature or a password (I8).
pub(super) fn artifact(text: &str, relative: RelativePaths<'_>, broken: &mut Broken) -> Option<ArtifactUrl> {
    const FIELD: &str = "spec.artifactURL";
    let cannot = |message: &str, broken: &mut Broken| {
        broken.add(FIELD, message);
        None
    };
    let length = usize::try_from(rules::ARTIFACT_MAX).unwrap_or(usize::MAX);
    if text.is_empty() || text.len() > length || text.chars().any(|c| c.is_control() || c == ' ') {
        return cannot(rules::ARTIFACT_TEXT.message, broken);
    }
    if text.starts_with('~') {
        return cannot("`~` is not expanded: write the absolute path", broken);
    }
    let Ok(url) = ArtifactUrl::new(text) else {
        return cannot(rules::ARTIFACT_SCHEME.message, broken);
    };
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    match (url.scheme(), relative) {
        (Scheme::Relative, RelativePaths::Refused) => cannot(rules::ARTIFACT_SCHEME.message, broken),
        (Scheme::Relative, RelativePaths::From(directory)) => {
            path::resolve(directory, text).map_or_else(|why| cannot(why, broken), Some)
        }
        (Scheme::File, _) if rest.trim_start_matches('/').is_empty() => cannot(rules::ARTIFACT_SCHEME.message, broken),
        (Scheme::File, _) => Some(url),
        _ if rest.starts_with('/') => cannot(rules::ARTIFACT_SCHEME.message, broken),
        (Scheme::HuggingFace, _) if !is_repository(rest) => cannot(rules::ARTIFACT_HUGGINGFACE.message, broken),
        (Scheme::Http, _) if !is_archive(rest) => cannot(rules::ARTIFACT_ARCHIVE.message, broken),
        _ => Some(url),
    }
}

/// `org/repo`, and behind it nothing, `@revision` or a path.
fn is_repository(rest: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    let Some((org, tail)) = rest.split_once('/') else { return false };
    let (repo, behind) = tail.split_at(tail.find(['@', '/']).unwrap_or(tail.len()));
    is_part(org) && is_part(repo) && behind.len() != 1
}

/// Whether the path of an http(s) reference ends like an archive.
fn is_archive(rest: &str) -> bool {
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    [".tar.gz", ".tgz", ".tar", ".zip"].iter().any(|end| path.strip_suffix(end).is_some_and(|stem| !stem.is_empty()))
}

pub(super) fn policy(name: &str, broken: &mut Broken) {
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let valid = bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(|b| edge(b) || *b == b'-')
        && fits(name, rules::POLICY_MAX);
    broken.unless(valid, "spec.schedulerName", rules::POLICY.message);
}

pub(super) fn source_credentials(spec: &ModelAdapterSpec, broken: &mut Broken) -> Option<String> {
    let reference = spec.credentials_secret_ref.as_ref()?;
    secret_name(&reference.name, "spec.credentialsSecretRef.name", broken);
    Some(reference.name.clone())
}

pub(super) fn engine_key(spec: &ModelAdapterSpec, broken: &mut Broken) -> Option<EngineKey> {
    let config = spec.additional_config.as_ref();
    if let Some(config) = config {
        let few = at_most(config.len(), rules::ENTRIES_MAX, "spec.additionalConfig", broken);
        for (name, _) in config.iter().filter(|_| few).filter(|(_, value)| !fits(value, rules::CONFIG_VALUE_MAX)) {
            let message = format!("longer than {} characters", rules::CONFIG_VALUE_MAX);
            broken.add(format!("spec.additionalConfig[{}]", shown(name)), message);
        }
    }
    let inline = config.and_then(|config| config.get(labels::API_KEY));
    if let Some(key) = inline {
        let sendable = !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
        broken.unless(sendable, "spec.additionalConfig[api-key]", rules::API_KEY.message);
    }
    match (&spec.engine_api_key_secret_ref, inline) {
        (Some(_), Some(_)) => {
            broken.add("spec.engineApiKeySecretRef", rules::ONE_KEY.message);
            None
        }
        (Some(reference), None) => {
            secret_name(&reference.name, "spec.engineApiKeySecretRef.name", broken);
            let key = &reference.key;
            let valid = !key.is_empty()
                && fits(key, rules::SECRET_NAME_MAX)
                && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
            broken.unless(valid, "spec.engineApiKeySecretRef.key", rules::SECRET_KEY.message);
            Some(EngineKey::Secret { name: reference.name.clone(), key: key.clone() })
        }
        (None, Some(key)) => Some(EngineKey::Inline(Secret::new(key))),
        (None, None) => None,
    }
}

pub(super) fn digest(spec: &ModelAdapterSpec, broken: &mut Broken) -> Option<Digest> {
    let parsed = spec.artifact_digest.as_deref()?.parse().ok();
    broken.unless(parsed.is_some(), "spec.artifactDigest", rules::DIGEST.message);
    parsed
}

pub(super) fn update(spec: &ModelAdapterSpec, broken: &mut Broken) -> UpdateStrategy {
    let mut update = UpdateStrategy::default();
    let Some(strategy) = &spec.update_strategy else { return update };
    if let Some(n) = strategy.max_unavailable {
        match u32::try_from(n) {
            Ok(n) if n >= 1 => update.max_unavailable = n,
            _ => broken.add("spec.updateStrategy.maxUnavailable", rules::MAX_UNAVAILABLE.message),
        }
    }
    if let Some(seconds) = strategy.drain_seconds {
        match u64::try_from(seconds) {
            Ok(seconds) if seconds <= rules::DRAIN_MAX => update.drain = Some(Duration::from_secs(seconds)),
            _ => broken.add("spec.updateStrategy.drainSeconds", rules::DRAIN.message),
        }
    }
    update
}

fn secret_name(name: &str, field: &str, broken: &mut Broken) {
    broken.unless(labels::is_subdomain(name), field, rules::SECRET_NAME.message);
}

fn at_most(count: usize, most: u32, field: &str, broken: &mut Broken) -> bool {
    let within = u32::try_from(count).is_ok_and(|count| count <= most);
    broken.unless(within, field, format!("has {count} entries, {most} are allowed"))
}

fn fits(text: &str, most: u32) -> bool {
    u32::try_from(text.chars().count()).is_ok_and(|length| length <= most)
}

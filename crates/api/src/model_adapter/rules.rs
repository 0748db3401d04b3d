//! The rules that an API server enforces, as CEL, each with the sentence that people get to see. `lower` enforces the same
//! ones in Rust with the same sentences, because a manifest that is read from a file never meets an API server.
//!
//! An API server quotes a text that breaks a rule or a `pattern` which stands at the text itself, but not an object. An
//! artifact's URL and an api key may hold a secret (I8), so their rules stand at the object around them.

use kube::core::Rule;

/// One rule of the resource.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CelRule {
    /// The expression, over the value that it stands at.
    pub(crate) expression: &'static str,
    /// What a person who broke it should do.
    pub(crate) message: &'static str,
    /// The field that it is about, where that is not the one that it stands at.
    pub(crate) field: Option<&'static str>,
}

impl CelRule {
    /// A rule about the value that it stands at.
    const fn at(expression: &'static str, message: &'static str) -> Self {
        Self { expression, message, field: None }
    }

    /// A rule about a field of the object that it stands at.
    const fn about(field: &'static str, expression: &'static str, message: &'static str) -> Self {
        Self { expression, message, field: Some(field) }
    }
}

impl From<CelRule> for Rule {
    fn from(rule: CelRule) -> Self {
        let made = Rule::new(rule.expression).message(rule.message);
        match rule.field {
            Some(field) => made.field_path(field),
            None => made,
        }
    }
}

/// Longest base model name. The engines' own names are paths such as `org/name`.
pub(crate) const BASE_MODEL_MAX: u32 = 256;
/// Longest artifact reference, what most servers take as a URL.
pub(crate) const ARTIFACT_MAX: u32 = 2048;
/// Most labels or expressions in a selector, and most entries in `additionalConfig`.
pub(crate) const ENTRIES_MAX: u32 = 32;
/// Most values in one expression of a selector.
pub(crate) const VALUES_MAX: u32 = 64;
/// Longest value in `additionalConfig`.
pub(crate) const CONFIG_VALUE_MAX: u32 = 4096;
/// Longest name of a Secret, longest key in one, as Kubernetes has it.
pub(crate) const SECRET_NAME_MAX: u32 = 253;
/// Longest name of a policy.
pub(crate) const POLICY_MAX: u32 = 63;
/// `sha256:` and 64 digits.
pub(crate) const DIGEST_MAX: u32 = 71;
/// Longest label key: prefix, `/` and name.
pub(crate) const LABEL_KEY_MAX: u32 = 317;
/// Longest label value.
pub(crate) const LABEL_VALUE_MAX: u32 = 63;
/// Longest drain that one adapter may ask for, in seconds.
pub(crate) const DRAIN_MAX: u64 = 3600;

pub(crate) const NAME: CelRule = CelRule::at(
    "size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "the name must be a DNS-1035 label, because a Service gets it: at most 63 lower-case letters, digits or \
              '-', beginning with a letter and ending with a letter or digit",
);
pub(crate) const BASE_MODEL: CelRule = CelRule::at(
    "self.matches('^[!-~]+$')",
    "must be 1 to 256 printable ASCII characters without spaces, as the engine names its base model; leave it out \
              to take any",
);
pub(crate) const SELECTOR_EMPTY: CelRule = CelRule::at(
    "(has(self.matchLabels) && size(self.matchLabels) > 0) \
                 || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
    "empty: it would take every pod of the namespace; name a label of the pods that serve the base model, such \
              as `matchLabels: {model.aibrix.ai/name: <base model>}`",
);
pub(crate) const SELECTOR_VALUES: CelRule = CelRule::at(
    "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] \
                 ? has(e.values) && size(e.values) > 0 : !has(e.values) || size(e.values) == 0)",
    "`In` and `NotIn` need at least one value, `Exists` and `DoesNotExist` take none",
);
pub(crate) const ARTIFACT_TEXT: CelRule = CelRule::about(
    ".artifactURL",
    r"size(self.artifactURL) > 0 && !self.artifactURL.matches('[\\p{Cc} ]')",
    "must be 1 to 2048 characters without spaces or control characters",
);
pub(crate) const ARTIFACT_SCHEME: CelRule = CelRule::about(
    ".artifactURL",
    "self.artifactURL.matches('^(/+[^/]|file:///+[^/]|(huggingface|hf|s3|gs|gcs|az|http|https|oci)://[^/])')",
    "must be huggingface://org/repo, hf://org/repo, s3://bucket/prefix/, gs://, gcs://, az://, http(s)://, \
              oci://, file:///path or an absolute path (relative paths only in manifests read from files)",
);
pub(crate) const ARTIFACT_HUGGINGFACE: CelRule = CelRule::about(
    ".artifactURL",
    "!self.artifactURL.matches('^(huggingface|hf)://') \
                 || self.artifactURL.matches('^(huggingface|hf)://[A-Za-z0-9._-]+/[A-Za-z0-9._-]+([@/].+)?$')",
    "a Hugging Face reference is huggingface://org/repo, or huggingface://org/repo@revision",
);
pub(crate) const ARTIFACT_ARCHIVE: CelRule = CelRule::about(
    ".artifactURL",
    r"!self.artifactURL.matches('^https?://') || self.artifactURL.matches('^https?://[^?#]+[.](tar[.]gz|tgz|tar|zip)([?#].*)?$')",
    "an http(s) reference names one archive: its path ends with .tar.gz, .tgz, .tar or .zip",
);
pub(crate) const POLICY: CelRule = CelRule::at(
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
    "must be the name of a placement policy, lower-case letters, digits or '-', such as `default`",
);
pub(crate) const REPLICAS: CelRule =
    CelRule::at("self >= 0", "must be 0 or more; leave it out for every engine that matches");
pub(crate) const SECRET_NAME: CelRule = CelRule::at(
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",
    "must be the name of a Secret in the same namespace: lower-case letters, digits, '-' or '.'",
);
pub(crate) const SECRET_KEY: CelRule =
    CelRule::at("self.matches('^[-._a-zA-Z0-9]+$')", "must be a key of the Secret: letters, digits, '-', '_' or '.'");
pub(crate) const API_KEY: CelRule = CelRule::at(
    "!('api-key' in self) || self['api-key'].matches('^[!-~]+$')",
    "`api-key` must be printable ASCII without spaces, because it is sent in a header",
);
pub(crate) const ONE_KEY: CelRule = CelRule::at(
    "!(has(self.engineApiKeySecretRef) && has(self.additionalConfig) && 'api-key' in self.additionalConfig)",
    "the engine's key is given twice: keep engineApiKeySecretRef and take `api-key` out of additionalConfig",
);
pub(crate) const DIGEST: CelRule = CelRule::at(
    "self.matches('^sha256:[0-9a-f]{64}$')",
    "must be `sha256:` and 64 lower-case hexadecimal digits, as `longshore verify` prints it",
);
pub(crate) const MAX_UNAVAILABLE: CelRule =
    CelRule::at("self >= 1", "must be 1 or more: an update has to begin somewhere");
pub(crate) const DRAIN: CelRule =
    CelRule::at("self >= 0 && self <= 3600", "must be 0 to 3600 seconds; leave it out for the controller's own bound");

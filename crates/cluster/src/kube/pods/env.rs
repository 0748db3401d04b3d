//! What a container's environment is known to be.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;

/// One key of a Secret in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::kube) struct KeyRef {
    /// The Secret's name.
    pub(in crate::kube) secret: String,
    /// The key in it.
    pub(in crate::kube) key: String,
    /// Whether the container starts without it.
    pub(in crate::kube) optional: bool,
}

/// A variable's value, as far as the pod tells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Secret(KeyRef),
    /// From somewhere that is not looked into: a ConfigMap, a field of the pod.
    Elsewhere,
}

/// A container's environment.
#[derive(Clone, Debug, Default)]
pub(super) struct Env {
    vars: BTreeMap<String, Value>,
    /// Secrets whose every key becomes a variable: prefix, name, and whether it may be missing.
    secrets: Vec<(String, String, bool)>,
}

impl Env {
    pub(super) fn of(container: &Container) -> Self {
        let mut env = Self::default();
        for from in container.env_from.iter().flatten() {
            if let Some(secret) = &from.secret_ref {
                let prefix = from.prefix.clone().unwrap_or_default();
                env.secrets.push((prefix, secret.name.clone(), secret.optional.unwrap_or(false)));
            }
        }
        for var in container.env.iter().flatten() {
            let reference = var.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref());
            let value = match (reference, &var.value_from) {
                (Some(key), _) => Value::Secret(KeyRef {
                    secret: key.name.clone(),
                    key: key.key.clone(),
                    optional: key.optional.unwrap_or(false),
                }),
                (None, Some(_)) => Value::Elsewhere,
                (None, None) => Value::Text(env.expand(var.value.as_deref().unwrap_or_default())),
            };
            env.vars.insert(var.name.clone(), value);
        }
        env
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.vars.get(name)
    }

    /// The value, where it is known.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.vars.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A shell has set it.
    pub(super) fn set(&mut self, name: &str, value: String) {
        self.vars.insert(name.to_owned(), Value::Text(value));
    }

    /// Whether there is a variable whose name begins with `prefix`.
    pub(super) fn has_prefix(&self, prefix: &str) -> bool {
        self.vars.keys().any(|name| name.starts_with(prefix))
    }

    /// Where `name` may come from by `envFrom`, the one that wins first. Which keys those Secrets have is not known here.
    pub(super) fn candidates(&self, name: &str) -> Vec<KeyRef> {
        let candidate = |(prefix, secret, _): &(String, String, bool)| {
            let key = name.strip_prefix(prefix.as_str())?;
            Some(KeyRef { secret: secret.clone(), key: key.to_owned(), optional: true })
        };
        self.secrets.iter().rev().filter_map(candidate).collect()
    }

    /// `text` with each `$(NAME)` replaced as Kubernetes does before it starts a container: `$$` is a `$`, and what is not
    /// known stays as it is written.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, dollar) = rest.split_at(at);
            out.push_str(before);
            let behind = dollar.get(1..).unwrap_or_default();
            if let Some(behind) = behind.strip_prefix('$') {
                out.push('$');
                rest = behind;
                continue;
            }
            match behind.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
                Some((name, behind)) => {
                    match self.text(name) {
                        Some(value) => out.push_str(value),
                        None => out.push_str(&reference(name)),
                    }
                    rest = behind;
                }
                None => {
                    out.push('$');
                    rest = behind;
                }
            }
        }
        out.push_str(rest);
        out
    }
}

/// How a variable whose value is not known stands in a text.
pub(super) fn reference(name: &str) -> String {
    format!("$({name})")
}

/// The variable that `text` is nothing but a reference to.
pub(super) fn referred(text: &str) -> Option<&str> {
    text.strip_prefix("$(")?.strip_suffix(')').filter(|name| !name.contains(['(', ')', '$']))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env() -> Env {
        let container = json!({
            "name": "c",
            "envFrom": [
                {"secretRef": {"name": "first"}},
                {"prefix": "VLLM_", "secretRef": {"name": "second", "optional": true}},
                {"configMapRef": {"name": "other"}},
            ],
            "env": [
                {"name": "A", "value": "1"},
                {"name": "B", "value": "$(A)-$(C)-$$(A)"},
                {"name": "C", "value": "late"},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "vllm"}}},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "EMPTY"},
            ],
        });
        Env::of(&serde_json::from_value(container).unwrap())
    }

    #[test]
    fn a_value_may_name_those_before_it() {
        let env = env();
        assert_eq!(env.text("B"), Some("1-$(C)-$(A)"));
        assert_eq!(env.text("EMPTY"), Some(""));
        assert_eq!(env.get("IP"), Some(&Value::Elsewhere));
        let key = KeyRef { secret: "keys".into(), key: "vllm".into(), optional: false };
        assert_eq!(env.get("KEY"), Some(&Value::Secret(key)));
    }

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        let env = env();
        for (text, expanded) in [
            ("$(A)$(A)", "11"),
            ("x$(A", "x$(A"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $", "$A $"),
            ("$(KEY)", "$(KEY)"),
            ("ä$(A)ö", "ä1ö"),
        ] {
            assert_eq!(env.expand(text), expanded, "{text}");
        }
        assert_eq!((referred("$(KEY)"), referred("x$(KEY)"), referred("$(A)$(B)")), (Some("KEY"), None, None));
    }

    #[test]
    fn a_secret_taken_as_a_whole_may_have_any_variable_and_the_last_one_wins() {
        let candidates = env().candidates("VLLM_API_KEY");
        let names: Vec<_> = candidates.iter().map(|key| (key.secret.as_str(), key.key.as_str())).collect();
        assert_eq!(names, [("second", "API_KEY"), ("first", "VLLM_API_KEY")]);
    }
}

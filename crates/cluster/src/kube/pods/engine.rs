//! Which container of a pod is its engine, and how that is configured.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ContainerPort, PodSpec};
use longshore_api::labels::{ENGINE_PORT, SIDECAR_CONTAINERS, SIDECAR_PORT};
use longshore_types::{BaseModel, EngineKind, Secret};

use super::env::{Env, KeyRef, Value, referred};
use super::flags::{Flags, is_off};

/// SageMaker calls a container at this port, and its vLLM and LMI images listen there unless told otherwise.
const SAGEMAKER_PORT: u16 = 8080;
/// Settings of SageMaker's vLLM image, each a flag of vLLM, and of LMI, whose names are mostly the same.
const SETTINGS: [&str; 2] = ["SM_VLLM_", "OPTION_"];
/// Where the key is when no flag gives it.
const KEY_VARIABLE: &str = "VLLM_API_KEY";
/// What ports of engines are called.
const PORT_NAMES: [&str; 5] = ["serve", "http", "openai", "api", "vllm"];
/// Images that hold an engine, by a part of their name, and the engine.
const IMAGES: [(&str, EngineKind); 6] = [
    ("sim-engine", EngineKind::Simulated),
    ("sglang", EngineKind::Sglang),
    ("vllm", EngineKind::Vllm),
    ("djl-inference", EngineKind::Vllm),
    ("djl-serving", EngineKind::Vllm),
    ("lmi", EngineKind::Vllm),
];
/// The most of a wrong value that is shown.
const SHOWN: usize = 40;

/// An engine as its container configures it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::kube) struct EngineFacts {
    /// The container's name.
    pub(in crate::kube) container: Arc<str>,
    /// Which software it is.
    pub(in crate::kube) kind: EngineKind,
    /// Where it listens.
    pub(in crate::kube) port: u16,
    /// The name that its base model is served by.
    pub(in crate::kube) base_model: Option<BaseModel>,
    /// Whether LoRA is switched on, where that can be told.
    pub(in crate::kube) lora: Option<bool>,
    /// Adapters per batch.
    pub(in crate::kube) max_loras: Option<u32>,
    /// Adapters in host memory.
    pub(in crate::kube) max_cpu_loras: Option<u32>,
    /// The largest rank that it takes.
    pub(in crate::kube) max_lora_rank: Option<u32>,
    /// Where its bearer token is.
    pub(in crate::kube) api_key: KeySource,
}

/// Where an engine's bearer token is.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::kube) enum KeySource {
    /// It asks for none, as far as its pod tells.
    None,
    /// In the pod itself.
    Inline(Secret),
    /// In the first of these, in the pod's namespace, that is there. There is none where all are optional and missing.
    Secrets(Vec<KeyRef>),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::Secrets(keys) => f.debug_tuple("Secrets").field(keys).finish(),
        }
    }
}

/// A container beside the engine that may load adapters for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kube) struct Sidecar {
    /// The container's name.
    pub(in crate::kube) container: Arc<str>,
    /// Where it listens.
    pub(in crate::kube) port: u16,
}

impl Sidecar {
    /// The sidecar among the pod's containers, also as Kubernetes means it: one that is started before the others.
    pub(super) fn of(spec: &PodSpec) -> Option<Self> {
        let container = spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| is_sidecar(c))?;
        let mut env = Env::of(container);
        let flags = read_flags(container, &mut env);
        let given = flags.value("port").and_then(|port| port.parse().ok()).filter(|port| *port > 0);
        let port = given.or_else(|| container_port(container)).unwrap_or(SIDECAR_PORT);
        Some(Self { container: container.name.as_str().into(), port })
    }
}

fn is_sidecar(container: &Container) -> bool {
    SIDECAR_CONTAINERS.contains(&container.name.as_str())
}

/// What the pod's labels say about its engine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) port: Option<u16>,
    pub(super) kind: Option<EngineKind>,
}

/// One container, read.
struct Candidate<'a> {
    container: &'a Container,
    env: Env,
    flags: Flags,
    kind: Option<EngineKind>,
    ports: bool,
}

impl EngineFacts {
    /// The engine among the pod's containers: the one whose command, settings or image are an engine's, or else the one
    /// that has the port of the label, or else the first that is no sidecar of an engine.
    pub(super) fn of(spec: &PodSpec, told: Told, problems: &mut Vec<String>) -> Option<Self> {
        let mut best: Option<Candidate<'_>> = None;
        for container in spec.containers.iter().filter(|container| !is_sidecar(container)) {
            let candidate = Candidate::read(container, told);
            if best.as_ref().is_none_or(|best| candidate.rank() > best.rank()) {
                best = Some(candidate);
            }
        }
        best.map(|candidate| candidate.facts(told, problems))
    }
}

impl<'a> Candidate<'a> {
    fn read(container: &'a Container, told: Told) -> Self {
        let mut env = Env::of(container);
        let flags = read_flags(container, &mut env);
        let image = container.image.as_deref().and_then(image_kind);
        let kind = flags.kind.or(image).or_else(|| has_settings(&env).then_some(EngineKind::Vllm));
        let ports = told.port.is_some_and(|port| ports(container).any(|own| own.container_port == i32::from(port)));
        Self { container, env, flags, kind, ports }
    }

    fn rank(&self) -> (bool, bool) {
        (self.kind.is_some(), self.ports)
    }

    fn facts(self, told: Told, problems: &mut Vec<String>) -> EngineFacts {
        let kind = told.kind.or(self.kind).unwrap_or(EngineKind::Vllm);
        let (per_batch, in_memory) = match kind {
            EngineKind::Sglang => ("max-loras-per-batch", "max-loaded-loras"),
            EngineKind::Vllm | EngineKind::Simulated => ("max-loras", "max-cpu-loras"),
        };
        EngineFacts {
            container: self.container.name.as_str().into(),
            kind,
            port: told.port.unwrap_or_else(|| self.port(problems)),
            base_model: self.base_model(problems),
            lora: self.lora(kind),
            max_loras: self.number(per_batch, problems),
            max_cpu_loras: self.number(in_memory, problems),
            max_lora_rank: self.number("max-lora-rank", problems),
            api_key: self.api_key(problems),
        }
    }

    /// What a flag, or else a setting in the environment, says. An empty one, and Python's `None`, say nothing.
    fn setting(&self, name: &str) -> Option<&str> {
        let said = |value: &&str| !value.is_empty() && !value.eq_ignore_ascii_case("none");
        self.flags.value(name).filter(said).or_else(|| {
            let variable = name.to_ascii_uppercase().replace('-', "_");
            SETTINGS.iter().find_map(|prefix| self.env.text(&format!("{prefix}{variable}")).filter(said))
        })
    }

    fn number(&self, name: &str, problems: &mut Vec<String>) -> Option<u32> {
        let text = self.setting(name)?;
        let number = text.parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            problems.push(self.problem(&format!("--{name}"), text, "is no number above 0, so it is left out"));
        }
        number
    }

    fn port(&self, problems: &mut Vec<String>) -> u16 {
        if let Some(text) = self.setting("port").or_else(|| self.env.text("SAGEMAKER_BIND_TO_PORT")) {
            match text.parse::<u16>().ok().filter(|port| *port > 0) {
                Some(port) => return port,
                None => problems.push(self.problem("--port", text, "is no port, so it is left out")),
            }
        }
        container_port(self.container).unwrap_or(if self.has_settings() { SAGEMAKER_PORT } else { ENGINE_PORT })
    }

    fn base_model(&self, problems: &mut Vec<String>) -> Option<BaseModel> {
        let named = ["served-model-name", "model", "model-path", "model-tag", "model-id"];
        let served = self.setting("served-model-name");
        let text = served
            .or(self.flags.model.as_deref())
            .or_else(|| named.iter().find_map(|name| self.setting(name)))
            .or_else(|| self.env.text("HF_MODEL_ID"))?;
        if text.contains("$(") {
            return None;
        }
        let model = BaseModel::new(text);
        if model.is_err() {
            problems.push(self.problem("the base model", text, "is no model's name, so the engine is asked for it"));
        }
        model.ok()
    }

    fn lora(&self, kind: EngineKind) -> Option<bool> {
        if let Some(on) = self.flags.switch("enable-lora") {
            return Some(on);
        }
        if let Some(text) = SETTINGS.iter().find_map(|prefix| self.env.text(&format!("{prefix}ENABLE_LORA"))) {
            return Some(!is_off(text));
        }
        match kind {
            EngineKind::Simulated => Some(!self.flags.has("disable-lora")),
            EngineKind::Sglang if self.flags.has("lora-paths") => Some(true),
            _ => (self.is_all_seen() && !self.flags.has("config")).then_some(false),
        }
    }

    /// Whether all that configures the engine stands in the pod: its own command, an image's arguments, or settings. What
    /// a script of the image does cannot be seen.
    fn is_all_seen(&self) -> bool {
        let own_command = self.container.command.as_ref().is_some_and(|command| !command.is_empty());
        self.flags.kind.is_some() || self.has_settings() || (self.kind.is_some() && self.flags.any && !own_command)
    }

    fn has_settings(&self) -> bool {
        has_settings(&self.env)
    }

    fn api_key(&self, problems: &mut Vec<String>) -> KeySource {
        let unknown = |what: &str| format!("container {}: the key in {what} cannot be told", self.container.name);
        if let Some(text) = self.setting("api-key") {
            return match referred(text) {
                None if text.contains("$(") => {
                    problems.push(unknown("--api-key"));
                    KeySource::None
                }
                None => self.inline(text, "--api-key", problems),
                Some(variable) => self.variable(variable, "--api-key", problems),
            };
        }
        self.variable(KEY_VARIABLE, KEY_VARIABLE, problems)
    }

    fn variable(&self, name: &str, shown: &str, problems: &mut Vec<String>) -> KeySource {
        match self.env.get(name) {
            Some(Value::Secret(key)) => KeySource::Secrets(vec![key.clone()]),
            Some(Value::Text(text)) if text.is_empty() => KeySource::None,
            Some(Value::Text(text)) => self.inline(text, shown, problems),
            Some(Value::Elsewhere) => {
                problems.push(format!("container {}: the key in {shown} is not in a Secret", self.container.name));
                KeySource::None
            }
            None => {
                let candidates = self.env.candidates(name);
                if candidates.is_empty() { KeySource::None } else { KeySource::Secrets(candidates) }
            }
        }
    }

    fn inline(&self, text: &str, shown: &str, problems: &mut Vec<String>) -> KeySource {
        if text.bytes().all(|b| b.is_ascii_graphic()) {
            return KeySource::Inline(Secret::new(text));
        }
        problems.push(format!("container {}: what {shown} gives is no bearer token", self.container.name));
        KeySource::None
    }

    fn problem(&self, what: &str, value: &str, why: &str) -> String {
        let value: String = value.chars().take(SHOWN).collect();
        format!("container {}: {what} {value:?} {why}", self.container.name)
    }
}

fn has_settings(env: &Env) -> bool {
    SETTINGS.iter().any(|prefix| env.has_prefix(prefix))
}

fn read_flags(container: &Container, env: &mut Env) -> Flags {
    let words = |words: &'_ Option<Vec<String>>| words.clone().unwrap_or_default();
    Flags::read(&words(&container.command), &words(&container.args), env)
}

/// The engine that an image is known to hold, by its name without registry and tag.
fn image_kind(image: &str) -> Option<EngineKind> {
    let image = image.split('@').next().unwrap_or(image);
    let (folder, name) = image.rsplit_once('/').unwrap_or(("", image));
    // An LMI image is `djl-inference:0.34.0-lmi…`: its tag tells too.
    let (name, tag) = name.split_once(':').unwrap_or((name, ""));
    let folder = folder.rsplit('/').next().unwrap_or(folder);
    let is = |text: &str, part: &str| text.split(['-', '_', '.']).collect::<Vec<_>>().join("-").contains(part);
    let known = |text: &str| IMAGES.iter().find(|(part, _)| is(text, part)).map(|(_, kind)| *kind);
    known(name).or_else(|| known(tag)).or_else(|| known(folder))
}

fn ports(container: &Container) -> impl Iterator<Item = &ContainerPort> {
    container.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"))
}

/// The port that is the engine's by its name, or by being the usual one, or the first.
fn container_port(container: &Container) -> Option<u16> {
    let named = |port: &&ContainerPort| port.name.as_deref().is_some_and(|name| PORT_NAMES.contains(&name));
    let usual = |port: &&ContainerPort| port.container_port == i32::from(ENGINE_PORT);
    let port =
        ports(container).find(named).or_else(|| ports(container).find(usual)).or_else(|| ports(container).next());
    port.and_then(|port| u16::try_from(port.container_port).ok()).filter(|port| *port > 0)
}

//! What identifies an engine, what it holds, and how busy it is.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use crate::{Digest, Namespace};

/// An engine: a pod, or a process named on a command line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineId {
    /// Only objects of this namespace may use it (I7).
    pub namespace: Namespace,
    /// The pod's name, or `host:port`.
    pub name: Arc<str>,
}

impl EngineId {
    /// The engine `name` of `namespace`.
    pub fn new(namespace: Namespace, name: impl AsRef<str>) -> Self {
        Self { namespace, name: Arc::from(name.as_ref()) }
    }
}

/// The bare name, as status and messages show it beside an object of the same namespace.
impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One life of an engine: pod uid and container incarnation, or the process's start time. Opaque; equal means the same
/// life. A new boot holds nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Boot(Arc<str>);

impl Boot {
    /// The boot that `text` names.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(Arc::from(text.as_ref()))
    }

    /// The name of the boot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boot({})", self.0)
    }
}

/// Which engine software answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EngineKind {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// The simulated engine, which answers as vLLM does.
    Simulated,
}

impl EngineKind {
    /// `vllm`, `sglang` or `simulated`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
            Self::Simulated => "simulated",
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an engine answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// Host name or IP address, without brackets.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Node, where it is known.
    pub node: Option<Arc<str>>,
    /// Zone, where it is known.
    pub zone: Option<Arc<str>>,
}

impl Address {
    /// An address with neither node nor zone.
    pub fn new(host: impl AsRef<str>, port: u16) -> Self {
        Self { host: Arc::from(host.as_ref()), port, node: None, zone: None }
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// From where an engine holds an adapter. A driver translates between this and the text that the engine is given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Root {
    /// The immutable directory of our store that this digest names, wherever the engine sees the store.
    Store(Digest),
    /// Any other path or repository; its bytes are not known to us.
    Other(Arc<str>),
}

impl Root {
    /// The digest, where the bytes are known.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Store(digest) => Some(*digest),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(digest) => write!(f, "{digest}"),
            Self::Other(path) => f.write_str(path),
        }
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(digest) => write!(f, "Store({})", digest.short()),
            Self::Other(path) => write!(f, "Other({path})"),
        }
    }
}

/// How busy an engine says it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadSignals {
    /// Requests running.
    pub running: u32,
    /// Requests waiting for any reason.
    pub waiting: u32,
    /// Of those, the ones that wait because the batch already holds `max_loras` other adapters.
    pub deferred: u32,
    /// Use of the key-value cache, 0 to 1.
    pub kv_usage: f64,
    /// Adapters that running or waiting requests name, as far as the engine tells.
    pub active: BTreeSet<Arc<str>>,
    /// `max_loras`, where the engine reports it.
    pub max_loras: Option<u32>,
}

impl LoadSignals {
    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting == 0 && self.active.is_empty()
    }
}

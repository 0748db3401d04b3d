//! What identifies an object and the adapters that it declares.

use std::fmt;

use crate::{AdapterName, Namespace, ObjectName};

/// The kinds of object that declare adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerKind {
    /// AIBrix `ModelAdapter`: one adapter per object.
    ModelAdapter,
}

impl OwnerKind {
    /// The Kubernetes kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModelAdapter => "ModelAdapter",
        }
    }
}

impl fmt::Display for OwnerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A declaring object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its kind.
    pub kind: OwnerKind,
    /// Its name.
    pub name: ObjectName,
}

/// `<namespace>/<name>`, as log lines and messages show it.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.kind, self.namespace, self.name)
    }
}

/// One loadable adapter: an object stands for one or for many.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdapterKey {
    /// The object that declares it.
    pub object: ObjectKey,
    /// The name that clients use.
    pub name: AdapterName,
}

impl AdapterKey {
    /// The namespace of the declaring object.
    pub fn namespace(&self) -> &Namespace {
        &self.object.namespace
    }
}

/// `<namespace>/<adapter>`.
impl fmt::Display for AdapterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.object.namespace, self.name)
    }
}

impl fmt::Debug for AdapterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{}", self.object, self.name)
    }
}

//! The objects that declare adapters: seen, told, gone.

mod selectors;

use std::collections::BTreeMap;

use longshore_api::spec::{EngineKey, EngineSelector};
use longshore_reconciler::Fact;
use longshore_types::{EngineId, Fault, Namespace, ObjectKey, ObjectName, OwnerKind};

use super::super::object::ObjectFacts;
use super::super::watch::Change;
use super::retries::Retries;
use super::{Actor, Brain, Kind, Known};
use selectors::Selectors;

/// Every object that is known of, until nothing of it is left.
#[derive(Debug, Default)]
pub(super) struct Objects {
    all: Known<ObjectKey, Object>,
    selectors: Selectors,
}

/// One object.
#[derive(Debug)]
pub(super) struct Object {
    pub facts: ObjectFacts,
    pub stage: Stage,
    /// Whether our finalizer is being put on it.
    pub holding: bool,
    /// Why our finalizer cannot be put on it. Then nothing that it declares is done.
    pub refused: Option<Fault>,
    /// Whether the reconciler still undoes what an earlier object of this name declared.
    pub undoing: bool,
    /// The selectors that it is counted with.
    selectors: Vec<EngineSelector>,
    pub retries: Retries,
}

/// How far an object has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The reconciler does not know of it: our finalizer comes first.
    New,
    /// The reconciler knows of it.
    Told,
    /// The API server has it no more, and the reconciler undoes what was done for it.
    Gone,
    /// The reconciler has let go of it, and our finalizer is off or coming off. What others still do with it is nothing to
    /// us: it is never told again.
    Released,
}

impl Object {
    fn new(facts: ObjectFacts) -> Self {
        Self {
            facts,
            stage: Stage::New,
            holding: false,
            refused: None,
            undoing: false,
            selectors: Vec::new(),
            retries: Retries::default(),
        }
    }
}

impl Objects {
    /// Whether any object of the namespace selects a pod with these labels.
    pub(super) fn select(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> bool {
        self.selectors.match_any(namespace, labels)
    }

    pub(super) fn uid(&self, key: &ObjectKey) -> Option<&str> {
        self.all.get(key).map(|object| object.facts.uid.as_str())
    }

    pub(super) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut Object> {
        self.all.get_mut(key)
    }

    /// The objects that the reconciler knows of, of one namespace.
    pub(super) fn told_in(&self, namespace: &Namespace) -> impl Iterator<Item = &ObjectFacts> {
        let told =
            self.all.iter().filter(move |(key, object)| key.namespace == *namespace && object.stage == Stage::Told);
        told.map(|(_, object)| &object.facts)
    }

    /// The Secrets that objects name for the engines.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&Namespace, &str)> {
        let specs = self.all.values().flat_map(|object| object.facts.lowered.iter().flatten());
        specs.filter_map(|spec| match &spec.engine_key {
            Some(EngineKey::Secret { name, .. }) => Some((spec.key.namespace(), name.as_str())),
            Some(EngineKey::Inline(_)) | None => None,
        })
    }
}

impl<B: Brain> Actor<B> {
    pub(super) fn object_changed(&mut self, number: usize, change: Change<Box<ObjectFacts>>) {
        match change {
            Change::Put(facts) => self.object_put(*facts),
            Change::Broken { namespace, name, error } => {
                let object = format!("{namespace}/{name}");
                tracing::warn!(modelAdapter = object, error, "a ModelAdapter cannot be read, and is left as it was");
            }
            Change::Gone { namespace, name, uid } => {
                let (Ok(namespace), Ok(name)) = (Namespace::new(&namespace), ObjectName::new(&name)) else { return };
                let key = ObjectKey { namespace, kind: OwnerKind::ModelAdapter, name };
                let known = self.objects.uid(&key);
                if known.is_some_and(|known| uid.is_none_or(|uid| uid == known)) {
                    self.object_gone(&key);
                }
            }
            Change::Listed => self.listed_all(Kind::Objects, number),
        }
    }

    fn object_put(&mut self, mut facts: ObjectFacts) {
        let key = facts.key.clone();
        if self.objects.uid(&key).is_some_and(|uid| uid != facts.uid) {
            // It was deleted and made anew between two looks.
            self.object_gone(&key);
        }
        let Some(object) = self.objects.all.get_mut(&key) else {
            self.objects.all.insert(key.clone(), Object::new(facts));
            self.instances_shown(&key);
            return self.new_object(&key);
        };
        match object.stage {
            Stage::New => {
                object.facts = facts;
                self.new_object(&key);
            }
            Stage::Told => {
                let news = facts.is_news(&object.facts);
                if object.facts.lowered.is_ok() {
                    // It counts only where the reconciler meets the object for the first time, and is the largest part.
                    facts.shown = None;
                }
                object.facts = facts;
                // Somebody may have taken our finalizer off.
                let loose = !object.facts.is_held() && !object.facts.deleting;
                if news {
                    self.tell_object(&key);
                }
                if loose {
                    self.hold(&key);
                }
            }
            Stage::Gone => {
                // Another object of this name, while what the one before declared is still being undone.
                *object =
                    Object { undoing: true, selectors: std::mem::take(&mut object.selectors), ..Object::new(facts) };
                self.new_object(&key);
            }
            Stage::Released => object.facts = facts,
        }
    }

    /// The reconciler is told of an object once our finalizer is on it, or none can be put on it any more.
    fn new_object(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.all.get(key) else { return };
        if object.facts.is_held() || object.facts.deleting {
            self.tell_object(key);
        } else {
            self.hold(key);
        }
    }

    /// Pods that an earlier process has given the object's adapters may be nobody's by now, if its selector has changed
    /// meanwhile: they are looked after until they have let go.
    fn instances_shown(&mut self, key: &ObjectKey) {
        let shown = self.objects.all.get(key).and_then(|object| object.facts.shown.as_ref());
        let pods: Vec<_> = shown
            .into_iter()
            .flat_map(|status| status.instances.iter().chain(status.engines.iter().map(|engine| &engine.pod)))
            .map(|pod| EngineId::new(key.namespace.clone(), pod))
            .collect();
        for pod in pods {
            self.keep_engine(pod);
        }
    }

    /// Tells the reconciler of the object as it is now.
    pub(super) fn tell_object(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        (object.stage, object.undoing) = (Stage::Told, false);
        let mut seen = object.facts.seen();
        if let Some(fault) = &object.refused {
            seen.lowered = Err(fault.clone());
        }
        // What an object that is wrong now has declared before goes on being served, and so does its selector.
        if let Ok(specs) = &seen.lowered {
            let mut selectors: Vec<EngineSelector> = specs.iter().map(|spec| spec.selector.clone()).collect();
            selectors.sort();
            selectors.dedup();
            // The engines come first, so that the object is placed at once.
            self.select_by(key, selectors);
        }
        for spec in seen.lowered.iter().flatten().filter(|_| !seen.deleting) {
            self.shared.routes.expect(spec.key.clone());
        }
        self.observe(Fact::Applied(Box::new(seen)));
        self.secrets_changed = true;
    }

    /// Counts `selectors` for the object in place of those before, and looks at the pods that this makes a difference to.
    fn select_by(&mut self, key: &ObjectKey, selectors: Vec<EngineSelector>) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        let before = std::mem::replace(&mut object.selectors, selectors.clone());
        if before == selectors {
            return;
        }
        let changed = self.objects.selectors.replace(&key.namespace, &before, &selectors);
        if !changed.is_empty() {
            self.look_at_pods(&key.namespace, &changed);
        }
    }

    /// The API server has the object no more.
    fn object_gone(&mut self, key: &ObjectKey) {
        let Some(object) = self.objects.all.get_mut(key) else { return };
        match object.stage {
            Stage::Told => {
                object.stage = Stage::Gone;
                self.shared.statuses.forget(key);
                self.observe(Fact::Deleted(key.clone()));
            }
            // As it was before this one came.
            Stage::New if object.undoing => object.stage = Stage::Gone,
            Stage::New | Stage::Released => self.forget_object(key),
            Stage::Gone => {}
        }
    }

    /// Nobody selects any pod by the object any more.
    pub(super) fn select_no_more(&mut self, key: &ObjectKey) {
        self.select_by(key, Vec::new());
    }

    pub(super) fn forget_object(&mut self, key: &ObjectKey) {
        self.select_no_more(key);
        self.objects.all.remove(key);
        self.secrets_changed = true;
    }
}

//! Secrets that objects and engines name.

use longshore_reconciler::Fact;
use longshore_types::{Namespace, ObjectKey};

use super::super::pods::KeySource;
use super::super::secrets::SecretName;
use super::{Actor, Brain};

impl<B: Brain> Actor<B> {
    /// What is refused may be fine with another value of a Secret that it uses, or that an engine of its namespace does.
    pub(super) fn secret_changed(&mut self, secret: &SecretName) {
        let opens_engines = self.secrets_of_engines().any(|one| one == *secret);
        let told = self.objects.told_in(&secret.namespace);
        let affected = told.filter(|object| {
            opens_engines || object.lowered.iter().flatten().any(|spec| spec.uses_secret(&secret.name))
        });
        let affected: Vec<ObjectKey> = affected.map(|object| object.key.clone()).collect();
        for key in affected {
            self.observe(Fact::TryAgain(key));
        }
    }

    /// The Secrets that objects and engines name are the ones that are looked at again.
    pub(super) fn use_secrets(&mut self) {
        if std::mem::take(&mut self.secrets_changed) {
            let of_objects = self.objects.secrets().map(|(namespace, name)| secret(namespace, name));
            self.shared.secrets.use_only(of_objects.chain(self.secrets_of_engines()).collect());
        }
    }

    fn secrets_of_engines(&self) -> impl Iterator<Item = SecretName> {
        let fallback = self.shared.engine_key.as_ref();
        self.engines.keys().flat_map(move |(id, source)| {
            let (named, fallback) = match source {
                KeySource::Secrets(keys) => (keys.as_slice(), fallback),
                KeySource::None => (&[][..], fallback),
                KeySource::Inline(_) => (&[][..], None),
            };
            let names = named.iter().map(|key| &*key.secret).chain(fallback.map(|secret| secret.name.as_str()));
            names.map(|name| secret(&id.namespace, name))
        })
    }
}

fn secret(namespace: &Namespace, name: &str) -> SecretName {
    SecretName { namespace: namespace.clone(), name: name.into() }
}

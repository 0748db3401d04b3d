//! What files say: manifests, the engines file, and adapters' own files.

use std::collections::BTreeMap;

use longshore_reconciler::Fact;
use longshore_types::{AdapterKey, ObjectKey};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::declared::Declared;
use super::super::problems::{About, Problem};
use super::super::scan::{EnginesFile, Scan};
use super::{Actor, Brain};

impl<B: Brain> Actor<B> {
    /// Takes in what a look through the files has found.
    pub(super) fn scanned(&mut self, scan: Scan) {
        let now = self.now();
        if let Some(file) = scan.engines {
            self.engines_file(file);
        }
        if let Some(roots) = scan.roots {
            self.roots = roots;
        }
        for path in &scan.gone {
            self.manifests.gone(path);
            self.shared.problems.set(now, &About::File(path.clone()), Vec::new(), "is gone");
        }
        for (path, seen, parsed) in scan.manifests {
            match parsed {
                Ok(parsed) => self.manifests.read(&path, seen, parsed),
                Err(error) => self.manifests.unreadable(&path, seen, &error),
            }
        }
        self.apply();
        let mut problems = self.manifests.problems();
        for (root, found) in &self.roots {
            problems.entry(root.clone()).or_default().extend(found.iter().cloned());
        }
        for (path, problems) in problems {
            self.shared.problems.set(now, &About::File(path), problems, "is fine now");
        }
        self.read_at.get_or_insert_with(Instant::now);
    }

    /// Takes in what is declared without files.
    pub(super) fn declared(
        &mut self,
        declared: Vec<Declared>,
        answer: Option<oneshot::Sender<BTreeMap<ObjectKey, i64>>>,
    ) {
        self.manifests.tell(self.now(), declared);
        self.apply();
        if let Some(answer) = answer {
            let _ = answer.send(self.manifests.generations());
        }
    }

    /// Passes on what follows from what is declared now.
    fn apply(&mut self) {
        let changed = self.shared.secrets.replace(self.manifests.secrets());
        let objects = self.manifests.changes();
        for object in objects.into_iter().chain(self.manifests.secrets_changed(&changed)) {
            self.observe(Fact::Applied(Box::new(object)));
        }
    }

    /// Takes in the engines file. While something is wrong with it, nobody is taken away: which engine a broken entry
    /// was meant to be is not known.
    fn engines_file(&mut self, file: EnginesFile) {
        let problems = match file.listed {
            Ok((engines, mut problems)) => {
                for name in self.engines_listed(engines, problems.is_empty()) {
                    let message = format!("{name} is named on the command line already, which keeps it");
                    problems.push(Problem::file(&file.path, "InvalidEngine", message));
                }
                problems
            }
            Err(problem) => vec![*problem],
        };
        self.shared.problems.set(self.now(), &About::File(file.path), problems, "is fine now");
    }

    /// The files behind an adapter's reference have changed: that is a new generation of its object.
    pub(super) fn files_changed(&mut self, adapter: &AdapterKey, ticket: u64) {
        if self.resolving.get(adapter).is_none_or(|latest| latest.ticket != ticket) {
            return;
        }
        if let Some(object) = self.manifests.files_changed(&adapter.object) {
            let text = format!("its files have changed; this is generation {}", object.generation);
            self.shared.changes.tell(self.now(), false, adapter.object.to_string(), text);
            self.observe(Fact::Applied(Box::new(object)));
        }
    }
}

//! Which pods objects select. Pure.

use std::collections::BTreeMap;

use longshore_api::spec::EngineSelector;
use longshore_types::Namespace;

/// The selectors of each namespace, each counted: objects that share one are common.
#[derive(Debug, Default)]
pub(super) struct Selectors(BTreeMap<Namespace, BTreeMap<EngineSelector, usize>>);

impl Selectors {
    /// Whether any selector of the namespace takes a pod with these labels.
    pub(super) fn match_any(&self, namespace: &Namespace, labels: &BTreeMap<String, String>) -> bool {
        self.0.get(namespace).is_some_and(|all| all.keys().any(|selector| selector.matches(labels)))
    }

    /// One object of the namespace has `after` where it had `before`. The selectors that nobody had until now, and those
    /// that nobody has any more.
    pub(super) fn replace(
        &mut self,
        namespace: &Namespace,
        before: &[EngineSelector],
        after: &[EngineSelector],
    ) -> Vec<EngineSelector> {
        let mut changed = Vec::new();
        let all = self.0.entry(namespace.clone()).or_default();
        for selector in after {
            match all.get_mut(selector) {
                Some(count) => *count += 1,
                None => {
                    all.insert(selector.clone(), 1);
                    changed.push(selector.clone());
                }
            }
        }
        for selector in before {
            let Some(count) = all.get_mut(selector) else { continue };
            *count -= 1;
            if *count == 0 {
                all.remove(selector);
                changed.push(selector.clone());
            }
        }
        if all.is_empty() {
            self.0.remove(namespace);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(value: &str) -> EngineSelector {
        EngineSelector { match_labels: labels(value), ..EngineSelector::default() }
    }

    fn labels(value: &str) -> BTreeMap<String, String> {
        [("app".to_owned(), value.to_owned())].into()
    }

    #[test]
    fn a_selector_stands_until_the_last_object_has_another() {
        let (mut selectors, here) = (Selectors::default(), Namespace::default_namespace());
        assert_eq!(selectors.replace(&here, &[], &[selector("a")]), [selector("a")]);
        assert_eq!(selectors.replace(&here, &[], &[selector("a")]), []);
        assert_eq!(selectors.replace(&here, &[selector("a")], &[selector("a")]), [], "nothing has changed");
        assert_eq!(selectors.replace(&here, &[selector("a")], &[selector("b")]), [selector("b")]);
        assert!(selectors.match_any(&here, &labels("a")) && selectors.match_any(&here, &labels("b")));
        assert_eq!(selectors.replace(&here, &[selector("a")], &[]), [selector("a")]);
        assert!(!selectors.match_any(&here, &labels("a")));
        assert_eq!(selectors.replace(&here, &[selector("b")], &[]), [selector("b")]);
        assert!(selectors.0.is_empty());
    }

    #[test]
    fn i7_a_selector_takes_pods_of_its_own_namespace_only() {
        let (mut selectors, here) = (Selectors::default(), Namespace::default_namespace());
        selectors.replace(&here, &[], &[selector("a")]);
        assert!(!selectors.match_any(&Namespace::new("elsewhere").unwrap(), &labels("a")));
    }
}

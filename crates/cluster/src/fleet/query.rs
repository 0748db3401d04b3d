//! Query parameters: each known by name, each at most once.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use longshore_api::fleet::{Adapter, Engine};
use longshore_api::status::Phase;

use super::error::ApiError;
use super::store::Item;

/// The parameters of a request as they were given.
pub(super) type Raw = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The values of the parameters `known`, in that order.
pub(super) fn only<const N: usize>(raw: Raw, known: [&str; N]) -> Result<[Option<String>; N], ApiError> {
    let Query(pairs) = raw.map_err(|error| ApiError::bad_request(error.body_text()))?;
    let mut values = [const { None }; N];
    for (name, value) in pairs {
        let Some(place) = known.iter().position(|known| *known == name) else {
            let known = if N == 0 { "none is known here".to_owned() } else { format!("known: {}", known.join(", ")) };
            return Err(ApiError::bad_request(format!("unknown query parameter {name:?}; {known}")));
        };
        if values[place].replace(value).is_some() {
            return Err(ApiError::bad_request(format!("query parameter {name:?} is given twice")));
        }
    }
    Ok(values)
}

/// What `watch` says.
fn switch(value: Option<&str>) -> Result<bool, ApiError> {
    match value {
        None | Some("0" | "false") => Ok(false),
        Some("" | "1" | "true") => Ok(true),
        Some(other) => Err(ApiError::bad_request(format!("watch={other:?}: expected 1 or 0"))),
    }
}

/// Which adapters are asked for, and whether to follow them.
#[derive(Debug, Default)]
pub(super) struct AdapterQuery {
    base_model: Option<String>,
    namespace: Option<String>,
    phase: Option<String>,
    pub watch: bool,
}

impl AdapterQuery {
    pub(super) fn parse(raw: Raw) -> Result<Self, ApiError> {
        let [base_model, namespace, phase, watch] = only(raw, ["baseModel", "namespace", "phase", "watch"])?;
        if let Some(phase) = &phase {
            known_phase(phase)?;
        }
        Ok(Self { base_model, namespace, phase, watch: switch(watch.as_deref())? })
    }

    pub(super) fn matches(&self, adapter: &Adapter) -> bool {
        let wanted = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
        wanted(&self.base_model, adapter.base_model.as_deref())
            && wanted(&self.namespace, Some(&adapter.namespace))
            && wanted(&self.phase, Some(&adapter.phase))
    }
}

/// A phase that does not exist matches nothing for ever, so it is a mistake worth telling.
fn known_phase(phase: &str) -> Result<(), ApiError> {
    const PHASES: [Phase; 6] =
        [Phase::Pending, Phase::Scheduled, Phase::Loading, Phase::Bound, Phase::Running, Phase::Failed];
    if PHASES.iter().any(|known| known.as_str() == phase) {
        return Ok(());
    }
    let known = PHASES.map(Phase::as_str).join(", ");
    Err(ApiError::bad_request(format!("phase={phase:?}: expected one of {known}")))
}

/// Which engines are asked for, and whether to follow them.
#[derive(Debug, Default)]
pub(super) struct EngineQuery {
    namespace: Option<String>,
    pub watch: bool,
}

impl EngineQuery {
    pub(super) fn parse(raw: Raw) -> Result<Self, ApiError> {
        let [namespace, watch] = only(raw, ["namespace", "watch"])?;
        Ok(Self { namespace, watch: switch(watch.as_deref())? })
    }

    pub(super) fn matches(&self, engine: &Engine) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| namespace == engine.namespace())
    }
}

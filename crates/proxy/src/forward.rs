//! One request on its way to an engine: choose, ask, and choose again while nothing has begun.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, header, request};
use hyper::body::Incoming;
use longshore_routing::{Boundary, Endpoint, ModelError, ModelField, Resolution, Route, Table, pick};
use longshore_types::{EngineId, EngineKind};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::answer::Problem;
use crate::body::{self, ProxyBody};
use crate::headers::{SERVED_BY, for_engine};
use crate::identity::Identity;
use crate::inflight::Guard;
use crate::metrics::{Held, Hold, Observation, Retry};
use crate::paths::{Form, with_query};
use crate::upstream::Outcome;
use crate::{Missing, Proxy};

/// An engine that may be asked now. While it lives the request counts as under way there.
struct Admitted {
    endpoint: Endpoint,
    /// The adapter that it is asked for; none for a base model.
    route: Option<Arc<Route>>,
    /// What `model` must say for it.
    model: String,
    guard: Guard,
}

/// Whether a request can be sent now.
enum Admission {
    Go(Box<Admitted>),
    /// The adapter is being changed over.
    Wait(Arc<Route>),
    /// Every engine that has it has been asked or must not be.
    Exhausted,
}

/// Whom a name stands for, with the engines that have it.
enum Whom<'a> {
    Adapter(&'a Arc<Route>),
    Base(&'a str),
}

impl Proxy {
    /// Finds the model, then asks engines that have it until one answers.
    pub(crate) async fn forward(
        &self,
        head: &request::Parts,
        body: Incoming,
        path: &'static str,
        form: Form,
        identity: &Identity,
        observation: &mut Observation,
    ) -> Result<Response<ProxyBody>, Problem> {
        let config = &self.0.config;
        let body = body::read(&head.headers, body, config.max_body, config.body_timeout).await?;
        let field = find_model(head, &body, form).map_err(|error| Problem::no_model(&error))?;
        let path = with_query(path, &head.uri);
        let mut headers = for_engine(head.headers.clone());
        identity.put(&mut headers);

        let mut tables = self.0.tables.clone();
        let mut tried = BTreeSet::new();
        let mut failed: Option<(Retry, String)> = None;
        let mut held_until = None;
        let mut hold: Option<Held> = None;
        let mut attempts = 0;
        loop {
            let admission = self.admit(&mut tables, &field, &tried, observation);
            if !matches!(admission, Ok(Admission::Wait(_)))
                && let Some(hold) = hold.take()
            {
                hold.ended(Hold::Released);
            }
            let admitted = match admission? {
                Admission::Go(admitted) if attempts < config.max_attempts => *admitted,
                Admission::Go(_) | Admission::Exhausted => {
                    return Err(Problem::unavailable(field.name(), failed.as_ref().map(|(_, what)| what.as_str())));
                }
                Admission::Wait(route) => {
                    let until = *held_until.get_or_insert_with(|| Instant::now() + config.swap_hold);
                    let waiting = hold.take().unwrap_or_else(|| Held::begin(&self.0.metrics, observation.label()));
                    if !matches!(timeout_at(until, tables.changed()).await, Ok(Ok(()))) {
                        waiting.ended(Hold::Expired);
                        return Err(Problem::swapping(&route));
                    }
                    hold = Some(waiting);
                    // After a change-over the same engine has the adapter anew. What lacked it is still distrusted.
                    tried.clear();
                    continue;
                }
            };
            attempts += 1;
            if let Some((reason, _)) = &failed {
                self.0.metrics.retried(observation.label(), *reason);
            }
            let Admitted { endpoint, route, model, guard } = admitted;
            let sent = if model == field.name() { body.clone() } else { Bytes::from(field.renamed(&body, &model)) };
            let asked_for = route.as_ref().map(|_| model.as_str());
            match self.0.upstream.ask(&endpoint, &path, headers.clone(), sent, asked_for).await {
                Outcome::Answer(mut response) => {
                    observation.answered(response.status());
                    if let Some(route) = &route {
                        let served_by = HeaderValue::from_str(&route.served_by(&endpoint))
                            .expect("an adapter's name and hexadecimal digits are allowed in a header");
                        response.headers_mut().insert(SERVED_BY, served_by);
                    }
                    return Ok(response.map(|body| body.guarded(guard)));
                }
                Outcome::Failed(problem) => return Err(problem),
                Outcome::Elsewhere(reason, what) => {
                    if let (Retry::Missing, Some(route)) = (reason, &route) {
                        self.correct(route, &endpoint);
                    }
                    tried.insert(endpoint.engine);
                    failed = Some((reason, what));
                }
            }
        }
    }

    /// Chooses an engine by the newest table and counts the request there.
    ///
    /// The table is looked at again once the request counts: whoever withdraws an endpoint and then sees nothing under way
    /// there can be sure that nothing follows (I5).
    fn admit(
        &self,
        tables: &mut watch::Receiver<Arc<Table>>,
        field: &ModelField,
        tried: &BTreeSet<EngineId>,
        observation: &mut Observation,
    ) -> Result<Admission, Problem> {
        by_newest(tables, |table| {
            let (whom, endpoints) = match table.resolve(field.name()) {
                Resolution::Adapter { route, endpoints } => (Whom::Adapter(route), endpoints),
                Resolution::Base(base) => (Whom::Base(base.name.as_str()), base.endpoints.as_slice()),
                Resolution::NotReady { route, why } => {
                    observation.adapter(&route.qualified());
                    return Err(Problem::not_ready(route, why));
                }
                Resolution::Swapping(route) => {
                    observation.adapter(&route.qualified());
                    return Ok(Admission::Wait(route.clone()));
                }
                Resolution::Unknown => return Err(Problem::unknown_model(field.name())),
                Resolution::NotKnownYet => return Err(Problem::nothing_known()),
                Resolution::Ambiguous(_) => return Err(Problem::ambiguous(field.name())),
            };
            match &whom {
                Whom::Adapter(route) => observation.adapter(&route.qualified()),
                Whom::Base(_) => observation.base(),
            }
            let admitted = self.choose(&whom, endpoints, field, tried)?;
            Ok(admitted.map_or(Admission::Exhausted, |admitted| Admission::Go(Box::new(admitted))))
        })
    }

    fn choose(
        &self,
        whom: &Whom<'_>,
        endpoints: &[Endpoint],
        field: &ModelField,
        tried: &BTreeSet<EngineId>,
    ) -> Result<Option<Admitted>, Problem> {
        // SGLang lets `lora_path` decide, whatever `model` says (I1).
        let misled = |endpoint: &Endpoint| field.has_lora_path() && endpoint.kind == EngineKind::Sglang;
        if !endpoints.is_empty() && endpoints.iter().all(misled) {
            return Err(Problem::names_two());
        }
        let barred = |endpoint: &Endpoint| {
            misled(endpoint)
                || match whom {
                    Whom::Adapter(route) => {
                        self.0.corrections.distrusts(route, endpoint) || endpoint.name_for(&route.name).is_none()
                    }
                    Whom::Base(_) => false,
                }
        };
        let mut excluded = Cow::Borrowed(tried);
        for endpoint in endpoints {
            if barred(endpoint) {
                excluded.to_mut().insert(endpoint.engine.clone());
            }
        }
        let Some(endpoint) = pick(endpoints, &self.0.in_flight, &excluded, self.seed()) else { return Ok(None) };
        let (route, model) = match whom {
            Whom::Adapter(route) => (Some(Arc::clone(route)), endpoint.name_for(&route.name)),
            Whom::Base(name) => (None, Some(Cow::Borrowed(*name))),
        };
        let Some(model) = model else { return Ok(None) };
        let guard = self.0.in_flight.begin(endpoint.engine.clone(), route.as_ref().map(|route| route.name.clone()));
        Ok(Some(Admitted { endpoint: endpoint.clone(), model: model.into_owned(), route, guard }))
    }

    /// An engine has answered that it lacks what the table says it has.
    fn correct(&self, route: &Route, endpoint: &Endpoint) {
        tracing::info!(adapter = route.qualified(), engine = %endpoint.engine, boot = %endpoint.boot, "The engine lacks the adapter");
        self.0.corrections.record(route, endpoint);
        if let Some(missing) = &self.0.missing {
            let (engine, boot, name) = (endpoint.engine.clone(), endpoint.boot.clone(), route.name.clone());
            // Full means that many such reports are on their way already; the next request for it reports it again.
            let _ = missing.try_send(Missing { engine, boot, name });
        }
    }
}

/// What `step` makes of the newest table: it is done again, and what came of it dropped, where another table has taken its
/// place meanwhile.
fn by_newest<T>(tables: &mut watch::Receiver<Arc<Table>>, mut step: impl FnMut(&Table) -> T) -> T {
    loop {
        let table = tables.borrow_and_update().clone();
        let result = step(&table);
        if Arc::ptr_eq(&table, &tables.borrow()) {
            return result;
        }
    }
}

fn find_model(head: &request::Parts, body: &[u8], form: Form) -> Result<ModelField, ModelError> {
    match form {
        Form::Json => ModelField::in_json(body),
        Form::Multipart => {
            let mut types = head.headers.get_all(header::CONTENT_TYPE).iter();
            match (types.next().map(HeaderValue::to_str), types.next()) {
                (Some(Ok(content_type)), None) => {
                    ModelField::in_multipart(body, &Boundary::in_content_type(content_type)?)
                }
                _ => Err(ModelError::NotAForm),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Namespace;

    use super::*;
    use crate::InFlight;

    #[test]
    fn i5_what_was_counted_by_a_table_that_has_been_replaced_meanwhile_is_not_sent() {
        let (published, mut tables) = watch::channel(Arc::new(Table::default()));
        let (in_flight, engine) = (InFlight::new(), EngineId::new(Namespace::default_namespace(), "e"));
        let sql: longshore_types::AdapterName = "sql".parse().unwrap();
        let mut steps = 0;
        let sent = by_newest(&mut tables, |_| {
            steps += 1;
            let already = in_flight.of_adapter(&engine, &sql);
            let counted = (steps == 1).then(|| in_flight.begin(engine.clone(), Some(sql.clone())));
            if counted.is_some() {
                // The endpoint is withdrawn after it was chosen.
                published.send_replace(Arc::new(Table::default()));
            }
            (already, counted)
        });
        assert_eq!(steps, 2);
        assert!(matches!(sent, (0, None)), "{sent:?}");
        assert_eq!(in_flight.total(), 0);
    }
}

//! From the fleet API's listings to a routing table.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_api::fleet;
use longshore_routing::{BaseRoute, Endpoint, NotReady, Route, RouteState, Table};
use longshore_types::{AdapterName, Address, BaseModel, Boot, EngineId, EngineKind, Invalid, Namespace};

/// The routing table that these listings stand for.
///
/// An adapter's endpoints are those of its own namespace (I7) whose engine is listed too: without its kind it is not known
/// how to ask it for an adapter and not for its base model (I1). What has no valid name is left out.
pub fn table_from_fleet(adapters: &[fleet::Adapter], engines: &[fleet::Engine]) -> Table {
    let engines: Engines =
        engines.iter().filter_map(|engine| Some((engine_key(engine), Arc::new(known(engine).ok()?)))).collect();
    let routes: Vec<Route> = adapters.iter().filter_map(|adapter| route(adapter, &engines).ok()).collect();
    Table::new(routes, bases(&engines))
}

/// Engines by namespace and name.
pub(super) type Engines = BTreeMap<(String, String), Arc<Known>>;

/// What of an engine matters here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Absent where it is a kind that this version does not know: such an engine is never asked.
    kind: Option<EngineKind>,
    base_model: Option<BaseModel>,
    namespace: Namespace,
    /// Where it takes requests for its base model, while it does.
    endpoint: Option<Endpoint>,
}

pub(super) fn engine_key(engine: &fleet::Engine) -> (String, String) {
    (engine.namespace.clone(), engine.engine.clone())
}

/// What of `engine` matters here.
pub(super) fn known(engine: &fleet::Engine) -> Result<Known, Invalid> {
    let namespace: Namespace = engine.namespace.parse()?;
    let kind = kind(&engine.kind);
    let base_model: Option<BaseModel> = engine.base_model.as_deref().and_then(|name| name.parse().ok());
    let endpoint = kind.zip(address(&engine.url)).filter(|_| engine.ready).map(|(kind, address)| Endpoint {
        engine: EngineId::new(namespace.clone(), &engine.engine),
        boot: Boot::new(engine.boot.as_deref().unwrap_or_default()),
        kind,
        address,
        digest: None,
        base_model: base_model.clone(),
        confirmation: Arc::from(""),
    });
    Ok(Known { kind, base_model, namespace, endpoint })
}

/// The engine software called so; none where this version does not know it.
pub(super) fn kind(text: &str) -> Option<EngineKind> {
    [EngineKind::Vllm, EngineKind::Sglang, EngineKind::Simulated].into_iter().find(|kind| kind.as_str() == text)
}

/// The base models of these engines. One whose engines are all away stays, so that its name means nothing else.
pub(super) fn bases(engines: &Engines) -> Vec<BaseRoute> {
    let of = |engine: &Arc<Known>| {
        let name = engine.base_model.clone()?;
        Some(BaseRoute {
            namespace: engine.namespace.clone(),
            name,
            endpoints: engine.endpoint.iter().cloned().collect(),
        })
    };
    engines.values().filter_map(of).collect()
}

/// The route of `adapter`.
pub(super) fn route(adapter: &fleet::Adapter, engines: &Engines) -> Result<Route, Invalid> {
    let namespace: Namespace = adapter.namespace.parse()?;
    let name: AdapterName = adapter.name.parse()?;
    let endpoints: Vec<Endpoint> =
        adapter.endpoints.iter().filter_map(|placement| endpoint(adapter, &namespace, placement, engines)).collect();
    let state = if !endpoints.is_empty() {
        RouteState::Ready(endpoints)
    } else if adapter.swapping {
        RouteState::Swapping
    } else {
        RouteState::NotReady(why_not(adapter))
    };
    let base_model = adapter.base_model.as_deref().and_then(|name| name.parse().ok());
    Ok(Route { namespace, name, artifact_url: Arc::from(adapter.artifact_url.as_str()), base_model, state })
}

/// Why no engine has it, in the controller's words.
pub(super) fn why_not(adapter: &fleet::Adapter) -> NotReady {
    NotReady {
        phase: Arc::from(adapter.phase.as_str()),
        reason: Arc::from(adapter.reason.as_str()),
        message: Arc::from(adapter.message.as_str()),
        retryable: adapter.phase != longshore_api::status::Phase::Failed.as_str(),
    }
}

/// When and at which attempt an engine came to have it: both change when it is loaded anew in the same life.
pub(super) fn confirmation(engine: &fleet::AdapterEngine) -> String {
    format!("{}/{}", engine.since, engine.attempt)
}

fn endpoint(
    adapter: &fleet::Adapter,
    namespace: &Namespace,
    placement: &fleet::Placement,
    engines: &Engines,
) -> Option<Endpoint> {
    if placement.namespace != namespace.as_str() {
        return None;
    }
    let engine = engines.get(&(placement.namespace.clone(), placement.pod.clone()))?;
    let loaded = adapter.engines.iter().find(|engine| engine.engine == placement.pod);
    let confirmation = loaded.map(confirmation).unwrap_or_default();
    Some(Endpoint {
        engine: EngineId::new(namespace.clone(), &placement.pod),
        boot: Boot::new(&placement.boot),
        kind: engine.kind?,
        address: Address::new(&placement.address, placement.port),
        digest: placement.digest.as_deref().and_then(|digest| digest.parse().ok()),
        base_model: engine.base_model.clone(),
        confirmation: Arc::from(confirmation),
    })
}

/// The host and port of `http://host:port`.
fn address(url: &str) -> Option<Address> {
    let uri: http::Uri = url.parse().ok()?;
    if uri.scheme() != Some(&http::uri::Scheme::HTTP) {
        return None;
    }
    let host = uri.host()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(Address::new(host, uri.port_u16().unwrap_or(80)))
}

#[cfg(test)]
mod tests {
    use longshore_routing::Resolution;
    use longshore_types::Digest;

    use super::*;

    fn engine(name: &str) -> fleet::Engine {
        fleet::Engine {
            engine: name.into(),
            namespace: "a".into(),
            url: "http://10.0.0.1:8000".into(),
            kind: "vllm".into(),
            base_model: Some("tiny".into()),
            ready: true,
            boot: Some("b1".into()),
            ..fleet::Engine::default()
        }
    }

    fn adapter(name: &str, engines: &[&str]) -> fleet::Adapter {
        fleet::Adapter {
            namespace: "a".into(),
            name: name.into(),
            base_model: Some("tiny".into()),
            artifact_url: "s3://bucket/x".into(),
            phase: "Running".into(),
            endpoints: engines.iter().map(|engine| placement(engine)).collect(),
            ..fleet::Adapter::default()
        }
    }

    fn placement(engine: &str) -> fleet::Placement {
        fleet::Placement {
            pod: engine.into(),
            namespace: "a".into(),
            address: "10.0.0.1".into(),
            port: 8000,
            boot: "b1".into(),
            digest: Some(Digest::from_bytes([7; 32]).to_string()),
            state: "loaded".into(),
            ..fleet::Placement::default()
        }
    }

    #[test]
    fn what_is_listed_can_be_asked_for() {
        let table = table_from_fleet(&[adapter("sql", &["e1", "e2"])], &[engine("e1"), engine("e2")]);
        let Resolution::Adapter { route, endpoints } = table.resolve("sql") else { panic!("{table:?}") };
        assert_eq!(&*route.artifact_url, "s3://bucket/x");
        assert_eq!(endpoints.len(), 2);
        assert_eq!(endpoints[0].address.authority(), "10.0.0.1:8000");
        assert_eq!(endpoints[0].boot, Boot::new("b1"));
        assert_eq!(endpoints[0].digest, Some(Digest::from_bytes([7; 32])));
        let Resolution::Base(base) = table.resolve("tiny") else { panic!("{table:?}") };
        assert_eq!(base.endpoints.len(), 2);
        assert_eq!(base.endpoints[0].digest, None);
    }

    #[test]
    fn why_an_adapter_is_not_ready_is_kept() {
        let mut failed = adapter("sql", &[]);
        (failed.phase, failed.reason, failed.message) = ("Failed".into(), "RankTooHigh".into(), "rank 64".into());
        let table = table_from_fleet(&[failed.clone()], &[]);
        let Resolution::NotReady { why, .. } = table.resolve("sql") else { panic!("{table:?}") };
        assert_eq!(
            (&*why.phase, &*why.reason, &*why.message, why.retryable),
            ("Failed", "RankTooHigh", "rank 64", false)
        );
        failed.phase = "Loading".into();
        let table = table_from_fleet(&[failed], &[]);
        assert!(matches!(table.resolve("sql"), Resolution::NotReady { why, .. } if why.retryable));
    }

    #[test]
    fn an_adapter_between_two_holders_is_swapping_and_one_that_still_has_one_is_not() {
        let mut swapping = adapter("sql", &[]);
        swapping.swapping = true;
        assert!(matches!(table_from_fleet(&[swapping.clone()], &[]).resolve("sql"), Resolution::Swapping(_)));
        swapping.endpoints = vec![placement("e1")];
        let table = table_from_fleet(&[swapping], &[engine("e1")]);
        assert!(matches!(table.resolve("sql"), Resolution::Adapter { .. }));
    }

    #[test]
    fn i7_endpoints_of_another_namespace_are_not_used() {
        let mut foreign = adapter("sql", &["e1"]);
        foreign.endpoints[0].namespace = "b".into();
        let mut other = engine("e1");
        other.namespace = "b".into();
        let table = table_from_fleet(&[foreign], &[engine("e1"), other]);
        assert!(matches!(table.resolve("sql"), Resolution::NotReady { .. }));
    }

    #[test]
    fn i1_an_engine_of_unknown_kind_is_never_asked() {
        let mut odd = engine("e1");
        odd.kind = "new-engine".into();
        let table = table_from_fleet(&[adapter("sql", &["e1", "not-listed"])], &[odd]);
        assert!(matches!(table.resolve("sql"), Resolution::NotReady { .. }));
        assert!(matches!(table.resolve("tiny"), Resolution::Base(base) if base.endpoints.is_empty()));
    }

    #[test]
    fn i1_a_base_model_whose_engines_are_all_away_keeps_its_name() {
        let mut away = engine("e1");
        away.ready = false;
        let table = table_from_fleet(&[adapter("tiny", &["e1"])], &[away]);
        assert!(matches!(table.resolve("tiny"), Resolution::Base(base) if base.endpoints.is_empty()));
    }

    #[test]
    fn a_load_in_the_same_life_is_a_new_confirmation() {
        let of = |since: &str, attempt| {
            let mut adapter = adapter("sql", &["e1"]);
            let (engine, since) = ("e1".to_owned(), since.to_owned());
            adapter.engines = vec![fleet::AdapterEngine { engine, since, attempt, ..fleet::AdapterEngine::default() }];
            table_from_fleet(&[adapter], &[self::engine("e1")])
        };
        let endpoint = |table: &Table| table.adapter("a", "sql").unwrap().endpoints()[0].clone();
        let first = endpoint(&of("2025-02-16T19:14:50Z", 1));
        assert!(first.same_confirmation(&endpoint(&of("2025-02-16T19:14:50Z", 1))));
        assert!(!first.same_confirmation(&endpoint(&of("2025-02-16T19:14:51Z", 1))));
        assert!(!first.same_confirmation(&endpoint(&of("2025-02-16T19:14:50Z", 2))));
    }

    #[test]
    fn what_has_no_valid_name_is_left_out_alone() {
        let mut bad = adapter("../x", &["e1"]);
        let mut nowhere = adapter("lost", &["e1"]);
        nowhere.namespace = "No".into();
        bad.namespace = "a".into();
        let table = table_from_fleet(&[bad, nowhere, adapter("sql", &["e1"])], &[engine("e1")]);
        assert_eq!(table.adapters().count(), 1);
    }

    #[test]
    fn an_engines_url_is_read_as_it_is_written() {
        assert_eq!(address("http://10.0.0.1:8000").map(|a| a.authority()).as_deref(), Some("10.0.0.1:8000"));
        assert_eq!(address("http://[::1]:8000").map(|a| a.authority()).as_deref(), Some("[::1]:8000"));
        assert_eq!(address("http://engine").map(|a| a.authority()).as_deref(), Some("engine:80"));
        for bad in ["", "10.0.0.1:8000", "https://10.0.0.1", "/x", "http://"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}

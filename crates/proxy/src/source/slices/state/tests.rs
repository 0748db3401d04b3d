use longshore_routing::Resolution;
use proptest::prelude::*;
use serde_json::Value;

use super::super::samples::{adapter_slice, base_slice, digest, engine, guarded};
use super::*;

fn key(name: &str) -> SliceKey {
    SliceKey { namespace: "a".into(), name: name.into() }
}

fn put(state: &mut State, slice: &Value) {
    let slice = guarded(slice);
    state.slices(&None, Seen::Put(SliceKey::of(&slice), Slice::read(&slice)));
}

fn gone(state: &mut State, name: &str) {
    state.slices(&None, Seen::Gone(key(name)));
}

fn list(state: &mut State, slices: &[Value]) {
    let read = |slice: &Value| {
        let slice = guarded(slice);
        (SliceKey::of(&slice), Slice::read(&slice))
    };
    state.slices(&None, Seen::All(slices.iter().map(read).collect()));
}

/// A state that has listed these slices.
fn listed(slices: &[Value]) -> State {
    let mut state = State::new(BTreeSet::new());
    list(&mut state, slices);
    state
}

/// The adapter `name` of namespace `a` as the controller shows it.
fn shown(name: &str, phase: &str) -> fleet::Adapter {
    fleet::Adapter {
        namespace: "a".into(),
        name: name.into(),
        artifact_url: format!("s3://bucket/{name}"),
        base_model: Some("tiny".into()),
        phase: phase.into(),
        reason: format!("Because{phase}"),
        ..fleet::Adapter::default()
    }
}

/// The same with an engine that has it, or did.
fn on(mut adapter: fleet::Adapter, pod: &str, state: &str, since: &str) -> fleet::Adapter {
    let (engine, since) = (pod.to_owned(), since.to_owned());
    let state = state.to_owned();
    adapter.engines.push(fleet::AdapterEngine { engine, state, since, attempt: 1, ..fleet::AdapterEngine::default() });
    adapter.endpoints.push(fleet::Placement { pod: pod.into(), namespace: "a".into(), ..fleet::Placement::default() });
    adapter
}

fn declare(state: &mut State, adapter: fleet::Adapter) {
    state.followed(Followed::Changed(Change::Adapters(Listed::Put(Box::new(adapter)))));
}

/// What a name means, in short.
fn meaning(state: &State, name: &str) -> String {
    let names = |endpoints: &[Endpoint]| {
        let names: Vec<_> = endpoints.iter().map(|endpoint| &*endpoint.engine.name).collect();
        names.join(" ")
    };
    match state.table.resolve(name) {
        Resolution::Adapter { endpoints, .. } => format!("on {}", names(endpoints)),
        Resolution::Base(base) => format!("base on {}", names(&base.endpoints)),
        Resolution::NotReady { why, .. } => format!("{} {}", why.phase, why.reason).trim().to_owned(),
        Resolution::Swapping(_) => "swapping".to_owned(),
        other => format!("{other:?}"),
    }
}

fn endpoints(state: &State, name: &str) -> Vec<Endpoint> {
    state.table.adapter("a", name).unwrap().endpoints().to_vec()
}

#[test]
fn there_is_no_table_before_every_namespace_has_been_listed() {
    let (a, b): (Namespace, Namespace) = ("a".parse().unwrap(), "b".parse().unwrap());
    let mut state = State::new(BTreeSet::from([a.clone(), b.clone()]));
    state.slices(&Some(a), Seen::All(Vec::new()));
    assert_eq!((state.is_listed(), state.changed_table()), (false, None));
    state.slices(&Some(b), Seen::All(Vec::new()));
    assert!(state.is_listed() && state.changed_table().is_some(), "an empty one is one too");
    assert_eq!(state.changed_table(), None, "nothing has changed since");
}

#[test]
fn several_slices_of_one_adapter_are_one_route_and_each_engine_keeps_its_own_bytes() {
    let mut next = adapter_slice("s2", "sql", &[engine("e2", "10.0.0.2")]);
    next["metadata"]["annotations"]["longshore.dev/digest"] = digest("cd").into();
    let mut state = listed(&[adapter_slice("s1", "sql", &[engine("e1", "10.0.0.1")]), next]);
    assert_eq!(meaning(&state, "sql"), "on e1 e2");
    let digests: Vec<_> = endpoints(&state, "sql").iter().map(|endpoint| endpoint.digest.unwrap().short()).collect();
    assert_eq!(digests, ["abababababab", "cdcdcdcdcdcd"]);
    gone(&mut state, "s1");
    assert_eq!(meaning(&state, "sql"), "on e2");
    gone(&mut state, "s2");
    assert_eq!(meaning(&state, "sql"), "Unknown");
}

#[test]
fn i1_an_engine_that_two_slices_say_different_bytes_of_is_asked_and_nothing_claimed() {
    let mut next = adapter_slice("s2", "sql", &[engine("e1", "10.0.0.1")]);
    next["metadata"]["annotations"]["longshore.dev/digest"] = digest("cd").into();
    let state = listed(&[adapter_slice("s1", "sql", &[engine("e1", "10.0.0.1")]), next]);
    let endpoints = endpoints(&state, "sql");
    assert_eq!(endpoints.len(), 1);
    assert_eq!(endpoints[0].digest, None);
}

#[test]
fn an_engine_with_addresses_of_both_families_is_one_engine() {
    for (v4, v6) in [("s1", "s2"), ("s2", "s1")] {
        let mut six = adapter_slice(v6, "sql", &[engine("e1", "fd00::1")]);
        six["addressType"] = "IPv6".into();
        let state = listed(&[adapter_slice(v4, "sql", &[engine("e1", "10.0.0.1")]), six]);
        let endpoints = endpoints(&state, "sql");
        assert_eq!(endpoints.len(), 1);
        assert_eq!((&*endpoints[0].address.host, endpoints[0].digest.is_some()), ("10.0.0.1", true));
    }
}

#[test]
fn i1_a_base_model_keeps_its_name_while_it_has_a_slice() {
    let mut away = engine("e1", "10.0.0.1");
    away["conditions"]["ready"] = false.into();
    let mut state = listed(&[base_slice("b1", &[away]), base_slice("b2", &[])]);
    put(&mut state, &adapter_slice("s", "tiny", &[engine("e2", "10.0.0.2")]));
    assert_eq!(meaning(&state, "tiny"), "base on ");
    put(&mut state, &base_slice("b2", &[engine("e2", "10.0.0.2")]));
    assert_eq!(meaning(&state, "tiny"), "base on e2");
    gone(&mut state, "b1");
    gone(&mut state, "b2");
    assert_eq!(meaning(&state, "tiny"), "on e2", "the name is free again");
}

#[test]
fn what_vanished_while_nobody_watched_is_gone_after_a_list() {
    let mut state = listed(&[
        adapter_slice("s1", "sql", &[engine("e1", "10.0.0.1"), engine("e2", "10.0.0.2")]),
        adapter_slice("s2", "poet", &[engine("e1", "10.0.0.1")]),
        base_slice("b", &[engine("e1", "10.0.0.1")]),
    ]);
    state.changed_table();
    list(&mut state, &[adapter_slice("s1", "sql", &[engine("e2", "10.0.0.2")])]);
    assert_eq!(meaning(&state, "sql"), "on e2");
    assert_eq!((meaning(&state, "poet"), meaning(&state, "tiny")), ("Unknown".into(), "Unknown".into()));
    assert!(state.changed_table().is_some());
    list(&mut state, &[adapter_slice("s1", "sql", &[engine("e2", "10.0.0.2")])]);
    assert_eq!(state.changed_table(), None, "a list that says the same changes nothing");
}

#[test]
fn a_list_of_one_namespace_says_nothing_of_another() {
    let (a, b): (Namespace, Namespace) = ("a".parse().unwrap(), "b".parse().unwrap());
    let mut state = State::new(BTreeSet::from([a.clone(), b.clone()]));
    let slice = guarded(&adapter_slice("s", "sql", &[engine("e1", "10.0.0.1")]));
    state.slices(&Some(a), Seen::All(vec![(SliceKey::of(&slice), Slice::read(&slice))]));
    state.slices(&Some(b), Seen::All(Vec::new()));
    assert_eq!(meaning(&state, "sql"), "on e1");
}

#[test]
fn what_is_left_out_is_counted_while_it_is_there() {
    let mut odd = adapter_slice("s1", "sql", &[engine("e1", "10.0.0.1")]);
    odd["ports"] = serde_json::json!([]);
    let mut state = listed(&[odd, adapter_slice("s2", "sql", &[engine("e1", "nonsense"), engine("e2", "10.0.0.2")])]);
    assert_eq!((state.left_out(), meaning(&state, "sql")), (2, "on e2".to_owned()));
    put(&mut state, &adapter_slice("s1", "sql", &[engine("e1", "10.0.0.1")]));
    assert_eq!((state.left_out(), meaning(&state, "sql")), (1, "on e1 e2".to_owned()));
    gone(&mut state, "s2");
    assert_eq!(state.left_out(), 0);
}

#[test]
fn a_slice_that_is_rewritten_for_another_adapter_leaves_the_first() {
    let mut state = listed(&[adapter_slice("s", "sql", &[engine("e1", "10.0.0.1")])]);
    put(&mut state, &adapter_slice("s", "poet", &[engine("e1", "10.0.0.1")]));
    assert_eq!((meaning(&state, "sql"), meaning(&state, "poet")), ("Unknown".into(), "on e1".into()));
}

#[test]
fn what_is_declared_and_on_no_engine_is_not_ready_for_the_controllers_reason() {
    let mut state = listed(&[]);
    declare(&mut state, shown("sql", "Failed"));
    assert_eq!(meaning(&state, "sql"), "Failed BecauseFailed");
    let retryable =
        |state: &State| matches!(state.table.resolve("sql"), Resolution::NotReady { why, .. } if why.retryable);
    assert!(!retryable(&state));
    declare(&mut state, shown("sql", "Loading"));
    assert!(retryable(&state));
    let mut swapping = shown("sql", "Running");
    swapping.swapping = true;
    declare(&mut state, swapping);
    assert_eq!(meaning(&state, "sql"), "swapping");
    let gone = fleet::Gone { namespace: "a".into(), name: "sql".into() };
    state.followed(Followed::Changed(Change::Adapters(Listed::Gone(gone))));
    assert_eq!(meaning(&state, "sql"), "Unknown");
}

#[test]
fn routes_come_from_slices_whatever_the_controller_says() {
    let mut state = listed(&[adapter_slice("s", "sql", &[engine("e1", "10.0.0.1")])]);
    declare(&mut state, shown("sql", "Failed"));
    assert_eq!(meaning(&state, "sql"), "on e1");
    let route = state.table.adapter("a", "sql").unwrap();
    assert_eq!(
        (&*route.artifact_url, route.base_model.is_some()),
        ("s3://bucket/sql", true),
        "but it says where it is from"
    );
    state.followed(Followed::Changed(Change::Adapters(Listed::All(Vec::new()))));
    assert_eq!(meaning(&state, "sql"), "on e1");
    // Declared with engines, and no slice shows one: never routed to by the controller's word alone.
    declare(&mut state, on(shown("poet", "Running"), "e1", "loaded", "t1"));
    assert_eq!(endpoints(&state, "poet"), []);
}

#[test]
fn the_slice_of_a_published_engine_is_waited_for_while_the_controller_is_heard() {
    let mut state = listed(&[]);
    declare(&mut state, on(shown("sql", "Running"), "e1", "loaded", "t1"));
    assert_eq!(meaning(&state, "sql"), "NoEndpoints", "nobody will say more");
    state.followed(Followed::Connected);
    assert_eq!(meaning(&state, "sql"), "swapping");
    put(&mut state, &adapter_slice("s", "sql", &[engine("e1", "10.0.0.1")]));
    assert_eq!(meaning(&state, "sql"), "on e1");
    put(&mut state, &adapter_slice("s", "sql", &[]));
    assert_eq!(meaning(&state, "sql"), "swapping");
    state.followed(Followed::Lost);
    assert_eq!(meaning(&state, "sql"), "NoEndpoints");
}

#[test]
fn i1_an_endpoint_that_went_and_came_back_is_a_new_confirmation_and_one_that_stayed_is_not() {
    let both = [engine("e1", "10.0.0.1"), engine("e2", "10.0.0.2")];
    let mut state = listed(&[adapter_slice("s", "sql", &both)]);
    let before = endpoints(&state, "sql");
    put(&mut state, &adapter_slice("s", "sql", &both[1..]));
    put(&mut state, &adapter_slice("s", "sql", &both));
    let after = endpoints(&state, "sql");
    assert!(!before[0].same_confirmation(&after[0]));
    assert!(before[1].same_confirmation(&after[1]));
    // The same by way of another slice, in the same list, or because the pod is another one.
    list(&mut state, &[adapter_slice("t", "sql", &both)]);
    assert_eq!(endpoints(&state, "sql"), after);
    let mut other = both.clone();
    other[0]["targetRef"]["uid"] = "uid-of-another".into();
    list(&mut state, &[adapter_slice("t", "sql", &other)]);
    assert_ne!(endpoints(&state, "sql")[0].boot, after[0].boot);
}

#[test]
fn i1_a_load_that_the_slice_did_not_show_is_a_new_confirmation() {
    let mut state = listed(&[adapter_slice("s", "sql", &[engine("e1", "10.0.0.1")])]);
    declare(&mut state, on(shown("sql", "Running"), "e1", "loaded", "t1"));
    let first = endpoints(&state, "sql")[0].clone();
    for not_yet in ["wanted", "loading", "loaded"] {
        let since = if not_yet == "loaded" { "t1" } else { "t2" };
        declare(&mut state, on(shown("sql", "Running"), "e1", not_yet, since));
        assert!(first.same_confirmation(&endpoints(&state, "sql")[0]), "{not_yet}");
    }
    declare(&mut state, on(shown("sql", "Running"), "e1", "loaded", "t3"));
    assert!(!first.same_confirmation(&endpoints(&state, "sql")[0]));
}

#[test]
fn one_event_makes_one_route_anew_and_shares_all_others() {
    let slices: Vec<_> =
        (0..20).map(|n| adapter_slice(&format!("s{n}"), &format!("a{n}"), &[engine("e1", "10.0.0.1")])).collect();
    let mut state = listed(&slices);
    let before = state.changed_table().unwrap();
    put(&mut state, &adapter_slice("s7", "a7", &[]));
    let after = state.changed_table().unwrap();
    let shared = before.adapters().zip(after.adapters()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!(shared, 19);
    assert_eq!(before.adapter("a", "a7").unwrap().endpoints().len(), 1, "the old table is as it was");
}

#[test]
fn i7_only_the_namespaces_asked_for_are_served() {
    let mut state = State::new(BTreeSet::from(["b".parse().unwrap()]));
    declare(&mut state, shown("sql", "Loading"));
    let mut served = shown("poet", "Loading");
    served.namespace = "b".into();
    declare(&mut state, served);
    assert_eq!((meaning(&state, "sql"), meaning(&state, "poet")), ("Unknown".into(), "Loading BecauseLoading".into()));
}

/// A change, as (what, which, which engines).
fn any_change() -> impl Strategy<Value = (u8, usize, u8)> {
    (0_u8..6, 0_usize..4, 0_u8..8)
}

/// Two slices of one adapter, one of another, and one of a base model.
fn sample(which: usize, engines: u8) -> Value {
    let all: Vec<_> = (0..3).map(|n| engine(&format!("e{n}"), &format!("10.0.0.{n}"))).collect();
    let chosen: Vec<_> =
        all.into_iter().enumerate().filter(|(n, _)| engines & (1 << n) != 0).map(|(_, engine)| engine).collect();
    let name = format!("s{which}");
    match which {
        0 | 1 => adapter_slice(&name, "sql", &chosen),
        2 => adapter_slice(&name, "poet", &chosen),
        _ => base_slice(&name, &chosen),
    }
}

/// The table without what depends on the way that led to it.
fn without_confirmations(table: &Table) -> Table {
    let routes = table.adapters().map(|route| {
        let mut route = Route::clone(route);
        if let RouteState::Ready(endpoints) = &mut route.state {
            endpoints.iter_mut().for_each(|endpoint| endpoint.confirmation = Arc::from(""));
        }
        route
    });
    Table::new(routes, table.bases().map(|base| BaseRoute::clone(base)))
}

proptest! {
    #[test]
    fn changes_one_by_one_lead_to_the_table_of_the_whole(changes in proptest::collection::vec(any_change(), 0..40)) {
        let mut state = listed(&[]);
        let (mut slices, mut declared) = (BTreeMap::new(), BTreeMap::new());
        for (what, which, engines) in changes {
            let name = format!("s{which}");
            match what {
                0 | 1 => {
                    put(&mut state, &sample(which, engines));
                    slices.insert(name, sample(which, engines));
                }
                2 => {
                    gone(&mut state, &name);
                    slices.remove(&name);
                }
                3 => list(&mut state, &slices.values().cloned().collect::<Vec<_>>()),
                4 => {
                    let adapter = shown(["sql", "poet", "x", "y"][which], "Loading");
                    declare(&mut state, adapter.clone());
                    declared.insert(which, adapter);
                }
                _ => {
                    let all: Vec<_> = declared.values().cloned().collect();
                    state.followed(Followed::Changed(Change::Adapters(Listed::All(all))));
                }
            }
            let mut whole = listed(&slices.values().cloned().collect::<Vec<_>>());
            declared.values().cloned().for_each(|adapter| declare(&mut whole, adapter));
            prop_assert_eq!(without_confirmations(&state.table), without_confirmations(&whole.table));
        }
    }
}

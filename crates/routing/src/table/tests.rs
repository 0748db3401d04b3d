use longshore_types::{Address, Boot, Digest, EngineId, EngineKind};

use super::*;

fn ns(text: &str) -> Namespace {
    text.parse().unwrap()
}

fn adapter(text: &str) -> AdapterName {
    text.parse().unwrap()
}

fn endpoint(namespace: &str, engine: &str) -> Endpoint {
    Endpoint {
        engine: EngineId::new(ns(namespace), engine),
        boot: Boot::new("b1"),
        kind: EngineKind::Vllm,
        address: Address::new("127.0.0.1", 8000),
        digest: Some(Digest::from_bytes([0xab; 32])),
        base_model: Some("tiny".parse().unwrap()),
        confirmation: Arc::from("1"),
    }
}

fn route(namespace: &str, name: &str, state: RouteState) -> Route {
    Route {
        namespace: ns(namespace),
        name: name.parse().unwrap(),
        artifact_url: Arc::from(format!("s3://bucket/{namespace}/{name}")),
        base_model: Some("tiny".parse().unwrap()),
        state,
    }
}

fn ready(namespace: &str, name: &str) -> Route {
    route(namespace, name, RouteState::Ready(vec![endpoint(namespace, "e1")]))
}

fn loading(namespace: &str, name: &str) -> Route {
    let why = NotReady { phase: "Loading".into(), retryable: true, ..NotReady::default() };
    route(namespace, name, RouteState::NotReady(why))
}

fn base(namespace: &str, name: &str, engines: &[&str]) -> BaseRoute {
    let endpoints = engines.iter().map(|engine| Endpoint { digest: None, ..endpoint(namespace, engine) }).collect();
    BaseRoute { namespace: ns(namespace), name: name.parse().unwrap(), endpoints }
}

/// What a name means, in short.
fn meaning(table: &Table, model: &str) -> String {
    match table.resolve(model) {
        Resolution::Adapter { route, endpoints } => format!("adapter {} on {}", route.qualified(), endpoints.len()),
        Resolution::Base(base) => format!("base {}/{} on {}", base.namespace, base.name, base.endpoints.len()),
        Resolution::NotReady { route, why } => format!("not ready {}: {}{}", route.qualified(), why.phase, why.reason),
        Resolution::Swapping(route) => format!("swapping {}", route.qualified()),
        Resolution::Unknown => "unknown".to_owned(),
        Resolution::NotKnownYet => "not known yet".to_owned(),
        Resolution::Ambiguous(namespaces) => format!("ambiguous {namespaces:?}"),
    }
}

#[test]
fn a_name_means_what_is_declared_by_it() {
    let table = Table::new(
        [ready("a", "sql"), loading("a", "poet"), route("a", "swap", RouteState::Swapping)],
        [base("a", "tiny", &["e1", "e2"])],
    );
    for (model, means) in [
        ("sql", "adapter a/sql on 1"),
        ("a/sql", "adapter a/sql on 1"),
        ("poet", "not ready a/poet: Loading"),
        ("swap", "swapping a/swap"),
        ("tiny", "base a/tiny on 2"),
        ("a/tiny", "base a/tiny on 2"),
        ("b/sql", "unknown"),
        ("SQL", "unknown"),
        ("sql ", "unknown"),
        ("", "unknown"),
        ("/sql", "unknown"),
        ("a/", "unknown"),
        ("a//sql", "unknown"),
        ("a/a/sql", "unknown"),
        ("../sql", "unknown"),
    ] {
        assert_eq!(meaning(&table, model), means, "{model:?}");
    }
}

#[test]
fn before_anything_is_heard_no_name_is_said_to_be_unknown() {
    assert_eq!(meaning(&Table::default(), "sql"), "not known yet");
    assert_eq!(meaning(&Table::new(Vec::<Route>::new(), []), "sql"), "unknown");
}

#[test]
fn i7_a_bare_name_of_several_namespaces_is_refused_even_where_one_alone_is_ready() {
    let table =
        Table::new([ready("a", "sql"), loading("b", "sql")], [base("a", "tiny", &["e"]), base("b", "tiny", &[])]);
    assert_eq!(meaning(&table, "sql"), "ambiguous [\"a\", \"b\"]");
    assert_eq!(meaning(&table, "tiny"), "ambiguous [\"a\", \"b\"]");
    assert_eq!(meaning(&table, "a/sql"), "adapter a/sql on 1");
    assert_eq!(meaning(&table, "b/sql"), "not ready b/sql: Loading");
    assert_eq!(meaning(&table, "a/tiny"), "base a/tiny on 1");
}

#[test]
fn i1_an_adapter_never_answers_for_a_base_models_name() {
    // In the same namespace, in another one, spelt as `<namespace>/<name>`, and with no engine of the base ready.
    let table = Table::new(
        [ready("a", "tiny"), ready("b", "tiny"), ready("org", "big")],
        [base("a", "tiny", &[]), base("a", "org/big", &["e"])],
    );
    assert_eq!(meaning(&table, "tiny"), "base a/tiny on 0");
    assert_eq!(meaning(&table, "a/tiny"), "base a/tiny on 0");
    assert_eq!(meaning(&table, "b/tiny"), "adapter b/tiny on 1");
    assert_eq!(meaning(&table, "org/big"), "base a/org/big on 1");
    assert_eq!(meaning(&table, "a/org/big"), "base a/org/big on 1");
}

#[test]
fn i1_ready_without_endpoints_is_not_ready() {
    let table = Table::new([route("a", "sql", RouteState::Ready(Vec::new()))], []);
    assert_eq!(meaning(&table, "sql"), "not ready a/sql: NoEndpoints");
}

#[test]
fn i1_two_declarations_of_one_name_are_never_mixed() {
    let other = route("a", "sql", RouteState::Ready(vec![endpoint("a", "e2"), endpoint("a", "e3")]));
    let first_wins = Table::new([loading("a", "sql"), ready("a", "sql"), other], []);
    assert_eq!(meaning(&first_wins, "sql"), "adapter a/sql on 1");
}

#[test]
fn engines_of_one_base_model_are_joined() {
    let table = Table::new(Vec::<Route>::new(), [base("a", "tiny", &["e1"]), base("a", "tiny", &["e2"])]);
    assert_eq!(meaning(&table, "tiny"), "base a/tiny on 2");
}

#[test]
fn what_can_be_asked_for_now_is_listed_by_a_name_that_means_it() {
    let table = Table::new(
        [
            ready("a", "sql"),
            ready("b", "sql"),
            ready("a", "only"),
            loading("a", "poet"),
            ready("a", "tiny"),
            ready("c", "tiny"),
        ],
        [base("a", "tiny", &["e1"]), base("a", "down", &[])],
    );
    let models: Vec<_> = table.models().collect();
    let ids: Vec<_> = models.iter().map(|model| model.id.as_ref()).collect();
    assert_eq!(ids, ["tiny", "only", "a/sql", "b/sql", "c/tiny"]);
    assert_eq!((models[0].root, models[0].parent), (None, None));
    assert_eq!((models[2].root, models[2].parent), (Some("s3://bucket/a/sql"), Some("tiny")));
    for model in &models {
        assert_eq!(table.model(&model.id).as_ref(), Some(model));
    }
    for id in ["sql", "poet", "down", "nothing", ""] {
        assert_eq!(table.model(id), None, "{id}");
    }
}

#[test]
fn the_header_names_the_bytes_where_they_are_known() {
    let (route, mut endpoint) = (ready("a", "sql"), endpoint("a", "e1"));
    assert_eq!(route.served_by(&endpoint), "sql@abababababab");
    endpoint.digest = None;
    assert_eq!(route.served_by(&endpoint), "sql");
}

#[test]
fn i1_sglang_is_asked_for_an_adapter_only_in_the_form_that_it_does_not_answer_with_the_base() {
    let name = "sql".parse().unwrap();
    let mut endpoint = endpoint("a", "e1");
    assert_eq!(endpoint.name_for(&name).as_deref(), Some("sql"));
    endpoint.kind = EngineKind::Sglang;
    assert_eq!(endpoint.name_for(&name).as_deref(), Some("tiny:sql"));
    endpoint.base_model = None;
    assert_eq!(endpoint.name_for(&name), None);
}

#[test]
fn a_changed_copy_is_the_table_of_the_changed_whole_and_leaves_the_first_as_it_was() {
    let first = Table::new([ready("a", "sql"), ready("b", "sql")], [base("a", "tiny", &["e1"])]);
    let mut next = first.clone();
    assert!(next.put(loading("a", "sql")) && next.put(ready("a", "poet")) && next.remove(&ns("b"), &adapter("sql")));
    assert!(next.put_base(base("a", "big", &[])) && next.remove_base(&ns("a"), &base("a", "tiny", &[]).name));
    assert_eq!(next, Table::new([loading("a", "sql"), ready("a", "poet")], [base("a", "big", &[])]));
    assert_eq!(meaning(&next, "tiny"), "unknown");
    assert_eq!(meaning(&first, "b/sql"), "adapter b/sql on 1");
    assert!(next.put(route("a", "poet", RouteState::Ready(Vec::new()))));
    assert_eq!(meaning(&next, "poet"), "not ready a/poet: NoEndpoints");
}

#[test]
fn a_change_that_changes_nothing_says_so() {
    let mut table = Table::new([ready("a", "sql")], [base("a", "tiny", &["e1"])]);
    assert!(!table.put(ready("a", "sql")) && !table.put_base(base("a", "tiny", &["e1"])));
    assert!(!table.remove(&ns("b"), &adapter("sql")) && !table.remove(&ns("a"), &adapter("poet")));
    assert!(!table.remove_base(&ns("b"), &base("a", "tiny", &[]).name));
}

#[test]
fn an_adapter_of_unknown_origin_has_no_root() {
    let mut unknown = ready("a", "sql");
    unknown.artifact_url = "".into();
    let table = Table::new([unknown], []);
    assert_eq!(table.model("sql").map(|model| model.root), Some(None));
}

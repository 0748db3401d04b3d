use serde_json::{Value, json};

use super::super::samples::{adapter_slice, base_slice, digest, engine, guarded};
use super::*;

fn read(slice: &Value) -> Slice {
    Slice::read(&guarded(slice))
}

/// The slice of the adapter `sql` on one engine, changed by `change`.
fn changed(change: impl FnOnce(&mut Value)) -> Slice {
    let mut slice = adapter_slice("s", "sql", &[engine("e1", "10.0.0.1")]);
    change(&mut slice);
    read(&slice)
}

fn sql() -> Whose {
    Whose::Adapter("a".parse().unwrap(), "sql".parse().unwrap())
}

#[test]
fn a_slice_of_an_adapter_says_who_has_which_bytes_and_where() {
    let slice = read(&adapter_slice("s", "sql", &[engine("e1", "10.0.0.1"), engine("e2", "10.0.0.2")]));
    assert_eq!((slice.whose, slice.left_out, slice.endpoints.len()), (Some(sql()), 0, 2));
    let expected = Endpoint {
        engine: EngineId::new("a".parse().unwrap(), "e1"),
        boot: Boot::new("uid-e1"),
        kind: EngineKind::Vllm,
        address: Address { node: Some("node-1".into()), zone: Some("zone-1".into()), ..Address::new("10.0.0.1", 8000) },
        digest: digest("ab").parse().ok(),
        base_model: Some("tiny".parse().unwrap()),
        confirmation: Arc::from(""),
    };
    assert_eq!(slice.endpoints[0], expected);
}

#[test]
fn a_slice_with_only_a_base_model_is_the_base_models() {
    let slice = read(&base_slice("s", &[engine("e1", "10.0.0.1")]));
    assert_eq!(slice.whose, Some(Whose::Base("a".parse().unwrap(), "tiny".parse().unwrap())));
    assert_eq!(slice.endpoints[0].digest, None);
}

#[test]
fn ipv6_engines_are_asked_by_ipv6() {
    let mut slice = adapter_slice("s", "sql", &[engine("e1", "fd00::1"), engine("e2", "10.0.0.2")]);
    slice["addressType"] = "IPv6".into();
    let slice = read(&slice);
    assert_eq!(slice.endpoints.len(), 1);
    assert_eq!(slice.endpoints[0].address.authority(), "[fd00::1]:8000");
    assert_eq!(slice.left_out, 1, "an address of the other family");
}

#[test]
fn i1_only_what_is_said_to_be_ready_is_asked() {
    for conditions in [
        json!({"ready": false}),
        json!({}),
        json!(null),
        json!({"ready": true, "serving": false}),
        json!({"ready": true, "terminating": true}),
    ] {
        let slice = changed(|slice| slice["endpoints"][0]["conditions"] = conditions.clone());
        assert_eq!((slice.endpoints.len(), slice.left_out), (0, 0), "{conditions}");
        assert_eq!(slice.whose, Some(sql()), "it stays declared");
    }
    let slice = changed(|slice| slice["endpoints"][0]["conditions"] = json!({"ready": true}));
    assert_eq!(slice.endpoints.len(), 1);
}

#[test]
fn i11_a_slice_that_cannot_be_understood_is_left_out_and_counted() {
    let annotation = |name: &'static str, value: Value| {
        move |slice: &mut Value| slice["metadata"]["annotations"][name] = value.clone()
    };
    type Change = Box<dyn Fn(&mut Value)>;
    let changes: [(&str, Change, bool); 12] = [
        ("FQDN", Box::new(|slice| slice["addressType"] = "FQDN".into()), true),
        ("no port", Box::new(|slice| slice["ports"] = json!([])), true),
        ("no ports", Box::new(|slice| slice["ports"] = json!(null)), true),
        ("all ports", Box::new(|slice| slice["ports"][0]["port"] = json!(null)), true),
        ("port 0", Box::new(|slice| slice["ports"][0]["port"] = 0.into()), true),
        ("port 70000", Box::new(|slice| slice["ports"][0]["port"] = 70_000.into()), true),
        ("UDP", Box::new(|slice| slice["ports"][0]["protocol"] = "UDP".into()), true),
        ("no kind", Box::new(annotation("longshore.dev/engine-kind", "new-engine".into())), true),
        ("no digest", Box::new(annotation("longshore.dev/digest", "sha256:nonsense".into())), true),
        ("no base", Box::new(annotation("longshore.dev/base-model", "".into())), true),
        ("no name", Box::new(annotation("longshore.dev/adapter", "../x".into())), false),
        ("no annotations", Box::new(|slice| slice["metadata"]["annotations"] = json!(null)), false),
    ];
    for (what, change, still_declared) in changes {
        let slice = changed(change);
        assert_eq!((slice.endpoints.len(), slice.left_out), (0, 1), "{what}");
        assert_eq!(slice.whose.is_some(), still_declared, "{what}");
    }
    // What is no EndpointSlice at all still tells which one it is.
    let odd = json!({
        "metadata": {"name": "odd", "namespace": "a"}, "addressType": 7, "endpoints": "none",
    });
    assert_eq!(read(&odd), Slice { left_out: 1, ..Slice::default() });
    assert_eq!(&*SliceKey::of(&guarded(&odd)).name, "odd");
}

#[test]
fn i11_an_endpoint_that_cannot_be_understood_is_left_out_alone() {
    type Change = Box<dyn Fn(&mut Value)>;
    let changes: [(&str, Change); 7] = [
        ("no address", Box::new(|endpoint| endpoint["addresses"] = json!([]))),
        ("a name", Box::new(|endpoint| endpoint["addresses"] = json!(["engine.example"]))),
        ("no pod", Box::new(|endpoint| endpoint["targetRef"] = json!(null))),
        ("a node", Box::new(|endpoint| endpoint["targetRef"]["kind"] = "Node".into())),
        ("nameless", Box::new(|endpoint| endpoint["targetRef"]["name"] = "".into())),
        ("of no name", Box::new(|endpoint| endpoint["targetRef"]["name"] = json!(null))),
        // I7: an engine of another namespace.
        ("foreign", Box::new(|endpoint| endpoint["targetRef"]["namespace"] = "b".into())),
    ];
    for (what, change) in changes {
        let slice = changed(|slice| {
            slice["endpoints"] = json!([engine("e1", "10.0.0.1"), engine("e2", "10.0.0.2")]);
            change(&mut slice["endpoints"][0]);
        });
        assert_eq!(slice.left_out, 1, "{what}");
        let names: Vec<_> = slice.endpoints.iter().map(|endpoint| &*endpoint.engine.name).collect();
        assert_eq!(names, ["e2"], "{what}");
    }
}

#[test]
fn i7_an_engine_of_another_namespace_is_not_used() {
    let slice = changed(|slice| slice["endpoints"][0]["targetRef"]["namespace"] = "b".into());
    assert_eq!(slice.endpoints, []);
}

#[test]
fn bytes_that_nobody_knows_are_no_bytes_that_are_misunderstood() {
    let slice = changed(|slice| {
        slice["metadata"]["annotations"].as_object_mut().unwrap().remove("longshore.dev/digest");
    });
    assert_eq!((slice.endpoints[0].digest, slice.left_out), (None, 0));
}

#[test]
fn the_controllers_replicas_are_its_ready_pods_at_the_port_of_the_fleet_api() {
    let mut slice = json!({
        "metadata": {"name": "longshore-controller-x", "namespace": "longshore-system"},
        "addressType": "IPv4",
        "ports": [{"name": "metrics", "port": 8080}, {"name": "fleet", "port": 8081}],
        "endpoints": [engine("c1", "10.0.0.1"), engine("c2", "10.0.0.2"), engine("c3", "not an address")],
    });
    slice["endpoints"][1]["conditions"]["ready"] = false.into();
    let shown = |slice: &Value| replicas(&guarded(slice)).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown(&slice), ["http://10.0.0.1:8081"]);
    slice["ports"] = json!([{"name": "http", "port": 9090}]);
    assert_eq!(shown(&slice), ["http://10.0.0.1:9090"], "the only port, whatever it is called");
    slice["ports"] = json!([]);
    assert!(shown(&slice).is_empty());
    slice["endpoints"] = "nonsense".into();
    assert!(shown(&slice).is_empty());
}

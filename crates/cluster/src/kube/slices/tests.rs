use std::collections::BTreeSet;

use longshore_types::{Address, Boot, ObjectKey, ObjectName};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::layout::LONGEST;
use super::*;

fn target(number: u16) -> Target {
    let [high, low] = number.to_be_bytes();
    Target {
        address: IpAddr::from([10, 244, high, low]),
        pod: format!("pod-{number}").into(),
        uid: Some("uid".into()),
        node: Some("node".into()),
        zone: None,
    }
}

fn endpoint(host: &str, port: u16) -> Endpoint {
    Endpoint {
        engine: EngineId::new(Namespace::default_namespace(), format!("pod-{host}")),
        boot: Boot::new("boot"),
        kind: EngineKind::Vllm,
        address: Address::new(host, port),
        digest: None,
        base_model: None,
    }
}

fn key(name: &str) -> AdapterKey {
    let object = ObjectKey {
        namespace: Namespace::default_namespace(),
        kind: OwnerKind::ModelAdapter,
        name: ObjectName::new("sql").unwrap(),
    };
    AdapterKey { object, name: name.parse().unwrap() }
}

fn slice(targets: Vec<Target>) -> Slice {
    Slice {
        name: "sql-0123456789".into(),
        subject: Subject::Adapter(key("sql")),
        owner: Some("uid-of-sql".into()),
        joined: true,
        set: SetKey {
            family: Family::IPv4,
            port: 8000,
            kind: EngineKind::Vllm,
            base_model: Some(BaseModel::new("qwen/base").unwrap()),
            digest: Some(Digest::from_bytes([1; 32])),
        },
        targets,
    }
}

fn targets(numbers: impl IntoIterator<Item = u16>) -> BTreeSet<Target> {
    numbers.into_iter().map(target).collect()
}

fn shown(slice: &Slice) -> EndpointSlice {
    let mut shown = slice.render(Some("uid"));
    shown.metadata.resource_version = Some("7".to_owned());
    shown
}

#[test]
fn a_slice_reads_back_as_it_was_written() {
    let adapter = slice(vec![target(1), target(2)]);
    let mut base = slice(vec![target(1)]);
    base.subject = Subject::Base(Namespace::default_namespace(), BaseModel::new("qwen/base").unwrap());
    (base.owner, base.joined, base.set.digest) = (None, false, None);
    let mut v6 = slice(vec![Target { address: "fd00::1".parse().unwrap(), uid: None, node: None, ..target(1) }]);
    v6.set = SetKey { family: Family::IPv6, base_model: None, ..v6.set };
    for slice in [adapter, base, v6] {
        let seen = SliceSeen::of(&shown(&slice)).unwrap();
        assert_eq!(seen.content.as_ref(), Some(&slice));
        assert!(seen.managed && seen.was_ours() && seen.is_ours(&slice));
        assert!(!seen.loses(&slice) && seen.surplus(&slice).is_empty());
    }
}

#[test]
fn others_labels_change_nothing_and_any_change_of_ours_is_seen() {
    let slice = slice(vec![target(1)]);
    let mut beside = shown(&slice);
    beside.metadata.labels.as_mut().unwrap().insert("team".into(), "a".into());
    assert_eq!(SliceSeen::of(&beside).unwrap().content, Some(slice.clone()));
    let changes: [fn(&mut EndpointSlice); 7] = [
        |s| s.endpoints[0].zone = Some("elsewhere".into()),
        |s| s.endpoints[0].conditions.as_mut().unwrap().ready = Some(false),
        |s| s.endpoints[0].addresses.push("10.0.0.9".into()),
        |s| s.ports.as_mut().unwrap()[0].port = Some(9000),
        |s| s.metadata.owner_references = None,
        |s| s.metadata.labels.as_mut().unwrap().clear(),
        |s| {
            s.metadata.annotations.as_mut().unwrap().remove(labels::SLICE_ADAPTER);
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = shown(&slice);
        change(&mut changed);
        assert_ne!(SliceSeen::of(&changed).unwrap().content, Some(slice.clone()), "change {number}");
    }
}

#[test]
fn what_is_lost_by_a_write_is_a_withdrawal_and_what_is_gained_is_none() {
    let seen = SliceSeen::of(&shown(&slice(vec![target(1), target(2)]))).unwrap();
    assert!(!seen.loses(&slice(vec![target(1), target(2), target(3)])));
    assert!(seen.loses(&slice(vec![target(1), target(3)])));
    assert!(seen.loses(&Slice { joined: false, ..slice(vec![target(1), target(2)]) }));
}

#[test]
fn an_endpoint_keeps_its_slice_and_gaps_are_filled_first() {
    let first = lay_out(&Layout::new(), &targets(0..250), |_| true);
    assert_eq!(first.values().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
    // Ten go from the first slice, and five come: into that slice, although another has more room.
    let second = lay_out(&first, &targets((10..250).chain(300..305)), |_| true);
    assert_eq!(second.values().map(Vec::len).collect::<Vec<_>>(), [95, 100, 50]);
    assert_eq!((&second[&1], &second[&2]), (&first[&1], &first[&2]), "the others are not written");
    // All of the second go: the slice goes, and its number is not taken while something stands under it.
    let third = lay_out(&second, &targets((10..100).chain(200..250).chain(300..305)), |_| true);
    assert_eq!(third.keys().copied().collect::<Vec<_>>(), [0, 2]);
    let fourth = lay_out(&third, &targets(0..250), |number| number != 1);
    assert_eq!(fourth.keys().copied().collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn any_layout_holds_exactly_what_is_wanted_and_moves_nothing_that_stays() {
    let mut rng = SmallRng::seed_from_u64(7);
    let (mut layout, mut wanted) = (Layout::new(), BTreeSet::new());
    for step in 0..500 {
        let (size, odds) = (rng.random_range(0..600), rng.random_range(0.0..1.0));
        let before = wanted.clone();
        wanted.retain(|_| rng.random_bool(odds));
        wanted.extend(targets((0..size / 8).map(|_| rng.random_range(0..size.max(1)))));
        let after = lay_out(&layout, &wanted, |number| number % 5 != 3);
        assert!(after.values().all(|slice| !slice.is_empty() && slice.len() <= LONGEST && slice.is_sorted()), "{step}");
        let held: Vec<_> = after.values().flatten().cloned().collect();
        assert_eq!((held.len(), held.into_iter().collect()), (wanted.len(), wanted.clone()), "{step}");
        for (number, slice) in &layout {
            let stays = slice.iter().filter(|target| wanted.contains(target));
            for target in stays {
                assert!(after[number].contains(target), "{step}: {} was moved", target.pod);
            }
        }
        let gaps = after.iter().filter(|(number, slice)| layout.contains_key(number) && slice.len() < LONGEST).count();
        let new = after.keys().filter(|number| !layout.contains_key(number)).count();
        assert!(gaps == 0 || new == 0, "{step}: a new slice beside gaps");
        if before == wanted {
            assert_eq!(after, layout, "{step}: rewritten for nothing");
        }
        layout = after;
    }
}

#[test]
fn an_endpoint_that_is_in_two_slices_stays_in_one() {
    let twice = Layout::from([(0, vec![target(1), target(2)]), (1, vec![target(2)])]);
    assert_eq!(lay_out(&twice, &targets([1, 2]), |_| true), Layout::from([(0, vec![target(1), target(2)])]));
}

#[test]
fn sets_are_told_apart_by_family_port_kind_base_and_digest() {
    let one = endpoint("10.0.0.1", 8000);
    let digest = Some(Digest::from_bytes([1; 32]));
    let endpoints = [
        one.clone(),
        endpoint("10.0.0.2", 8000),
        endpoint("fd00::1", 8000),
        endpoint("10.0.0.3", 9000),
        Endpoint { kind: EngineKind::Sglang, ..one.clone() },
        Endpoint { base_model: Some(BaseModel::new("base").unwrap()), ..one.clone() },
        Endpoint { digest, ..one },
    ];
    let subject = Subject::Adapter(key("sql"));
    let (sets, refused) = layout::sets(&subject, &endpoints, &BTreeMap::new());
    assert_eq!((sets.len(), refused.len()), (6, 0));
    let names: BTreeSet<_> = sets.keys().map(|set| name_of(&subject, Some("uid"), set, 0)).collect();
    assert_eq!(names.len(), 6);
    let set = sets.keys().next().unwrap();
    assert_ne!(name_of(&subject, Some("uid"), set, 0), name_of(&subject, Some("other"), set, 0));
    assert_ne!(name_of(&subject, Some("uid"), set, 0), name_of(&subject, Some("uid"), set, 1));
}

#[test]
fn i7_an_engine_of_another_namespace_is_in_no_set() {
    let mut other = endpoint("10.0.0.1", 8000);
    other.engine.namespace = Namespace::new("other").unwrap();
    let (sets, refused) = layout::sets(&Subject::Adapter(key("sql")), &[other], &BTreeMap::new());
    assert!(sets.is_empty() && refused.is_empty());
}

#[test]
fn an_address_that_kubernetes_refuses_is_left_out_and_named() {
    for host in ["engine.local", "127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "::1", "::", "fe80::1", "ff02::1"]
    {
        let error = target_of(&endpoint(host, 8000), None).unwrap_err();
        assert!(error.contains(host), "{error}");
    }
    let mapped = target_of(&endpoint("::ffff:10.0.0.1", 8000), None).unwrap();
    assert_eq!(mapped.address, IpAddr::from([10, 0, 0, 1]));
}

#[test]
fn a_service_has_the_port_of_most_engines_and_keeps_it_on_a_draw() {
    let of = |ports: &[u16]| ports.iter().map(|port| endpoint("10.0.0.1", *port)).collect::<Vec<_>>();
    for (ports, before, expected) in [
        (&[][..], None, None),
        (&[], Some(9000), Some(9000)),
        (&[8000], Some(9000), Some(8000)),
        (&[8000, 9000], None, Some(8000)),
        (&[8000, 9000], Some(9000), Some(9000)),
        (&[8000, 9000], Some(7000), Some(8000)),
        (&[8000, 8000, 9000], Some(9000), Some(8000)),
    ] {
        assert_eq!(port_for(&of(ports), before), expected, "{ports:?} {before:?}");
    }
}

#[test]
fn each_difference_of_a_service_has_its_fix() {
    let wanted = ServiceWanted { key: key("sql"), owner: "uid-of-sql".into(), port: 8000 };
    let as_shown = || {
        let mut json = serde_json::to_value(wanted.render(Some("uid"))).unwrap();
        json["metadata"]["resourceVersion"] = json!("7");
        json["metadata"]["managedFields"] = json!([{"manager": labels::MANAGER, "operation": "Update"}]);
        // What the API server adds by itself.
        json["spec"]["clusterIPs"] = json!(["None"]);
        json["spec"]["sessionAffinity"] = json!("None");
        json["spec"]["ipFamilies"] = json!(["IPv4"]);
        json
    };
    let owned_elsewhere = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}]);
    for (at, value, expected) in [
        ("/spec/sessionAffinity", json!("ClientIP"), None),
        ("/metadata/labels/model.aibrix.ai~1name", json!("other"), Some(Fix::Apply)),
        ("/metadata/ownerReferences", owned_elsewhere, Some(Fix::Apply)),
        ("/metadata/managedFields", json!([]), Some(Fix::Apply)),
        ("/spec/ports/0/name", json!("web"), Some(Fix::Apply)),
        ("/spec/ports/0/targetPort", json!(80), Some(Fix::Apply)),
        ("/spec/ports/0/port", json!(80), Some(Fix::Strip)),
        ("/spec/selector", json!({"app": "x"}), Some(Fix::Strip)),
        ("/spec/clusterIP", json!("10.0.0.1"), Some(Fix::Replace)),
    ] {
        let mut json = as_shown();
        json["spec"]["selector"] = json!({});
        *json.pointer_mut(at).unwrap() = value;
        let seen = ServiceSeen::of(&serde_json::from_value(json).unwrap()).unwrap();
        assert_eq!(seen.fix(&wanted), expected, "{at}");
    }
    let seen = ServiceSeen::of(&serde_json::from_value(as_shown()).unwrap()).unwrap();
    assert!(seen.is_owned_by("uid-of-sql") && seen.is_owned_by_any(&wanted.key.object) && seen.is_labelled());
}

//! What is told by a pod's status.

use super::*;

/// 2025-02-16T19:14:50Z.
const SINCE: u64 = 1_739_733_290_000;

fn running() -> Value {
    json!({"name": "main", "ready": true, "restartCount": 0, "containerID": "containerd://a", "image": "i", "imageID": "i",
           "state": {"running": {"startedAt": "2025-02-16T19:14:00Z"}}})
}

fn with_status(containers: Value) -> Value {
    let mut pod = pod(json!({"containers": [{"name": "main"}, {"name": "aibrix-runtime"}], "nodeName": "node-a"}));
    pod["status"]["containerStatuses"] = containers;
    pod
}

#[test]
fn a_ready_pod_is_an_engine() {
    let facts = facts(&with_status(json!([running()])));
    let now = Timestamp::from_millis(SINCE + 7_000);
    let seen = facts.seen(now, Some("zone-n".into())).unwrap();
    assert_eq!(seen.id, EngineId::new(Namespace::default_namespace(), "engine-0"));
    assert_eq!((seen.ready, seen.ready_for, seen.terminating, seen.trusted), (true, Some(7_000), false, false));
    assert_eq!(seen.boot, Some(Boot::new(format!("{UID}/containerd://a#0"))));
    let address =
        Address { host: "10.244.0.7".into(), port: 8000, node: Some("node-a".into()), zone: Some("zone-n".into()) };
    assert_eq!(seen.address, address);
    assert_eq!(facts.access().unwrap().base_url, "http://10.244.0.7:8000");
    assert_eq!(facts.seen(Timestamp::ZERO, None).unwrap().ready_for, Some(0), "its clock is ahead of ours");
}

#[test]
fn another_life_of_the_engine_is_another_boot_and_a_sidecars_is_not() {
    let boot = |engine: Value, sidecar: Value| facts(&with_status(json!([sidecar, engine]))).boot;
    let mut sidecar = running();
    sidecar["name"] = json!("aibrix-runtime");
    let first = boot(running(), sidecar.clone());
    sidecar["restartCount"] = json!(5);
    sidecar["containerID"] = json!("containerd://z");
    assert_eq!(boot(running(), sidecar.clone()), first);
    let mut again = running();
    again["restartCount"] = json!(1);
    again["containerID"] = json!("containerd://b");
    assert_ne!(boot(again, sidecar.clone()), first);
    let mut unborn = running();
    unborn["containerID"] = json!("");
    assert_eq!(boot(unborn, sidecar), None);
    let mut replaced = with_status(json!([running()]));
    replaced["metadata"]["uid"] = json!("another");
    assert_ne!(facts(&replaced).boot, first, "another pod of the same name");
}

#[test]
fn i1_a_dead_container_is_not_ready_however_late_the_condition_is() {
    let dead = [
        json!({"ready": false}),
        json!({"state": {"terminated": {"exitCode": 137}}}),
        json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}}),
    ];
    for change in dead {
        let mut status = running();
        for (key, value) in change.as_object().unwrap() {
            status[key] = value.clone();
        }
        let facts = facts(&with_status(json!([status])));
        assert_eq!((facts.ready, facts.ready_since), (false, None), "{change}");
        assert!(
            facts.seen(Timestamp::from_millis(SINCE), None).is_some_and(|seen| !seen.ready && seen.ready_for.is_none())
        );
    }
    let mut sidecar = running();
    sidecar["name"] = json!("aibrix-runtime");
    sidecar["ready"] = json!(false);
    assert!(facts(&with_status(json!([running(), sidecar]))).ready, "the condition tells of the others");
    assert!(facts(&with_status(json!([]))).ready, "nothing is known of its containers");
}

#[test]
fn a_pod_that_leaves_has_left_or_has_no_address_is_not_ready() {
    let ready = with_status(json!([running()]));
    let mut not = ready.clone();
    not["status"]["conditions"][0]["status"] = json!("False");
    assert!(!facts(&not).ready);

    let mut leaving = ready.clone();
    leaving["metadata"]["deletionTimestamp"] = json!("2025-02-16T20:00:00Z");
    let seen = facts(&leaving).seen(Timestamp::ZERO, None).unwrap();
    assert_eq!((seen.ready, seen.terminating), (false, true));

    for phase in ["Succeeded", "Failed"] {
        let mut ended = ready.clone();
        ended["status"]["phase"] = json!(phase);
        let facts = facts(&ended);
        assert_eq!((facts.ready, facts.finished, facts.seen(Timestamp::ZERO, None)), (false, true, None));
    }

    let mut nowhere = ready;
    nowhere["status"]["podIP"] = json!(null);
    nowhere["status"]["podIPs"] = json!(null);
    let nowhere = facts(&nowhere);
    assert_eq!((nowhere.ready, nowhere.seen(Timestamp::ZERO, None), nowhere.access()), (false, None, None));

    let mut bare = pod(json!({"containers": [{"name": "main"}]}));
    bare["status"] = json!(null);
    assert!(!facts(&bare).ready);
    bare["spec"] = json!(null);
    assert_eq!(facts(&bare).engine, None);
}

#[test]
fn we_speak_ipv4_where_there_is_a_choice_and_keep_one_address_of_each_family() {
    let mut pod = with_status(json!([running()]));
    pod["status"]["podIPs"] = json!([{"ip": "fd00::7"}, {"ip": "10.244.0.7"}, {"ip": "10.244.0.8"}]);
    let facts_of_both = facts(&pod);
    assert_eq!(facts_of_both.addresses, ["fd00::7".parse::<IpAddr>().unwrap(), "10.244.0.7".parse().unwrap()]);
    assert_eq!(facts_of_both.access().unwrap().base_url, "http://10.244.0.7:8000");
    pod["status"]["podIP"] = json!("fd00::7");
    pod["status"]["podIPs"] = json!([{"ip": "fd00::7"}, {"ip": "nonsense"}]);
    assert_eq!(facts(&pod).access().unwrap().base_url, "http://[fd00::7]:8000");
}

#[test]
fn a_pods_own_zone_comes_before_its_nodes() {
    let mut pod = with_status(json!([running()]));
    pod["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "zone-p"});
    let seen = facts(&pod).seen(Timestamp::ZERO, Some("zone-n".into())).unwrap();
    assert_eq!(seen.address.zone.as_deref(), Some("zone-p"));
}

#[test]
fn what_does_not_matter_here_makes_no_difference() {
    let pod = with_status(json!([running()]));
    let mut touched = pod.clone();
    touched["metadata"]["resourceVersion"] = json!("99");
    touched["metadata"]["annotations"] = json!({"example.com/x": "y"});
    touched["status"]["conditions"].as_array_mut().unwrap().push(json!({"type": "Custom", "status": "True"}));
    assert_eq!(facts(&pod), facts(&touched));
    assert_eq!(facts(&pod).seen(Timestamp::ZERO, None), facts(&touched).seen(Timestamp::ZERO, None));
}

#[test]
fn a_pod_without_a_namespace_is_refused() {
    let mut pod = with_status(json!([]));
    pod["metadata"]["namespace"] = json!(null);
    assert!(PodFacts::of(&serde_json::from_value(pod).unwrap()).is_err());
}

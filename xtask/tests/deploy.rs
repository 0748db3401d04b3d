//! What `deploy/` and `samples/kubernetes/` must be, as far as their text alone tells. That a cluster takes them is for the
//! tests that have one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use xtask::Workspace;

fn root() -> PathBuf {
    Workspace::find().unwrap().root().to_path_buf()
}

fn yaml_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every object below `dir`; kustomizations and patches are none.
fn objects(dir: &str) -> Vec<Value> {
    let read = |path: &PathBuf| serde_saphyr::from_multiple::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let documents = yaml_files(&root().join(dir)).iter().flat_map(read).collect::<Vec<_>>();
    documents.into_iter().filter(|object| object["metadata"]["name"].is_string()).collect()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn deployments() -> Vec<Value> {
    let all: Vec<_> = ["deploy", "samples/kubernetes"].into_iter().flat_map(objects).collect();
    of_kind(&all, "Deployment").into_iter().cloned().collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn every_file_of_deploy_is_named_by_a_kustomization() {
    let deploy = root().join("deploy");
    let mut named = BTreeSet::new();
    let files = yaml_files(&deploy);
    for file in files.iter().filter(|file| file.ends_with("kustomization.yaml")) {
        let kustomization: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        let patches = list(&kustomization["patches"]).iter().map(|patch| &patch["path"]);
        for entry in list(&kustomization["resources"]).iter().chain(patches) {
            let path = file.parent().unwrap().join(entry.as_str().unwrap()).canonicalize().unwrap();
            named.insert(if path.is_dir() { path.join("kustomization.yaml") } else { path });
        }
    }
    let entrances = ["kustomization.yaml", "namespaced/kustomization.yaml"].map(|path| deploy.join(path));
    for file in files {
        let file = file.canonicalize().unwrap();
        assert!(named.contains(&file) || entrances.contains(&file), "{} is applied by nothing", file.display());
    }
}

#[test]
fn every_container_is_what_the_restricted_level_asks_for_and_cannot_write_its_root() {
    for deployment in deployments() {
        let (name, pod) = (&deployment["metadata"]["name"], &deployment["spec"]["template"]["spec"]);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for container in list(&pod["containers"]) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(security["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{name}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        }
    }
}

#[test]
fn images_have_this_version_and_no_registry() {
    let version = format!(":{}", env!("CARGO_PKG_VERSION"));
    for deployment in deployments() {
        for container in list(&deployment["spec"]["template"]["spec"]["containers"]) {
            let image = container["image"].as_str().unwrap();
            let plain = image.strip_suffix(&version).is_some_and(|name| !name.contains(['/', ':']));
            assert!(plain, "{image} is not NAME{version}");
        }
    }
}

#[test]
fn selectors_match_their_pods_and_probes_and_services_name_ports_that_are_there() {
    let base = objects("deploy/base");
    for deployment in of_kind(&base, "Deployment") {
        let (name, template) = (&deployment["metadata"]["name"], &deployment["spec"]["template"]);
        let labels = template["metadata"]["labels"].as_object().unwrap();
        let selects =
            |selector: &Value| selector.as_object().unwrap().iter().all(|(key, value)| labels.get(key) == Some(value));
        assert!(selects(&deployment["spec"]["selector"]["matchLabels"]), "{name}");
        let container = &template["spec"]["containers"][0];
        let ports: Vec<_> = list(&container["ports"]).iter().map(|port| &port["name"]).collect();
        for probe in ["livenessProbe", "readinessProbe"] {
            assert!(ports.contains(&&container[probe]["httpGet"]["port"]), "{name}: {probe}");
        }
        let own = |kind: &str| {
            let found = of_kind(&base, kind).into_iter().find(|object| object["metadata"]["name"] == *name);
            found.unwrap_or_else(|| panic!("{name} has no {kind}")).clone()
        };
        let service = own("Service");
        assert!(selects(&service["spec"]["selector"]), "{name}");
        assert!(list(&service["spec"]["ports"]).iter().all(|port| ports.contains(&&port["targetPort"])), "{name}");
        assert!(selects(&own("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]), "{name}");
        assert!(selects(&own("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]), "{name}");
        assert_eq!(own("ServiceAccount")["metadata"]["name"], template["spec"]["serviceAccountName"]);
    }
}

#[test]
fn the_router_is_given_more_time_to_end_than_it_asks_for() {
    let base = objects("deploy/base");
    let router =
        of_kind(&base, "Deployment").into_iter().find(|it| it["metadata"]["name"] == "longshore-router").unwrap();
    let pod = &router["spec"]["template"]["spec"];
    let seconds = |flag: &str| -> u64 {
        let args = list(&pod["containers"][0]["args"]).iter().filter_map(Value::as_str);
        args.filter_map(|arg| arg.strip_prefix(flag)).next().unwrap().parse().unwrap()
    };
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > seconds("--linger=") + seconds("--drain="), "{grace}");
}

#[test]
fn the_namespace_enforces_the_restricted_level() {
    let all = objects("deploy");
    let [namespace] = of_kind(&all, "Namespace").try_into().unwrap();
    assert_eq!(namespace["metadata"]["name"], xtask::deploy::rbac::HOME);
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "restricted");
}

#[test]
fn the_samples_for_a_cluster_are_valid_adapters() {
    let all = objects("samples/kubernetes");
    let adapters = of_kind(&all, "ModelAdapter");
    assert_eq!(adapters.len(), 2);
    for adapter in adapters {
        let adapter = serde_json::from_value(adapter.clone()).unwrap();
        assert_eq!(longshore_api::violations(&adapter, longshore_api::RelativePaths::Refused), []);
    }
}

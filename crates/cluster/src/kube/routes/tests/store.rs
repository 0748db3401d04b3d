//! An API server for EndpointSlices and Services, in this process: uids, versions, preconditions, and field owners as far
//! as applying goes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// (plural, namespace, name)
pub(super) type Key = (String, String, String);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub uid: String,
    pub version: u64,
    /// Each field by its path, as applying tells fields apart.
    pub fields: BTreeMap<String, Value>,
    /// Who owns which field.
    owners: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Put(Key, Value),
    Gone(Key, String),
}

#[derive(Default)]
pub(super) struct Store {
    pub objects: BTreeMap<Key, Object>,
    last: u64,
    pub events: Vec<Event>,
    /// Writes that changed something, as `verb plural/name`.
    pub writes: Vec<String>,
}

pub(super) type Answer = (u16, Value);

fn status(code: u16, reason: &str, message: &str) -> Answer {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

fn flatten(body: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    for map in ["labels", "annotations"] {
        for (key, value) in body["metadata"][map].as_object().into_iter().flatten() {
            fields.insert(format!("{map} {key}"), value.clone());
        }
    }
    for owner in body["metadata"]["ownerReferences"].as_array().into_iter().flatten() {
        fields.insert(format!("owner {}", owner["uid"].as_str().unwrap()), owner.clone());
    }
    for name in ["addressType", "endpoints", "ports"] {
        if let Some(value) = body.get(name) {
            fields.insert(name.to_owned(), value.clone());
        }
    }
    for name in ["type", "clusterIP"] {
        if let Some(value) = body["spec"].get(name) {
            fields.insert(format!("spec {name}"), value.clone());
        }
    }
    for (key, value) in body["spec"]["selector"].as_object().into_iter().flatten() {
        fields.insert(format!("selector {key}"), value.clone());
    }
    for port in body["spec"]["ports"].as_array().into_iter().flatten() {
        fields.insert(format!("port {}", port["port"]), port.clone());
    }
    fields
}

impl Object {
    pub(super) fn json(&self, key: &Key) -> Value {
        let (plural, namespace, name) = key;
        let of = |prefix: &str| {
            let strip = |(path, value): (&String, &Value)| Some((path.strip_prefix(prefix)?.to_owned(), value.clone()));
            self.fields.iter().filter_map(strip).collect::<Map<_, _>>()
        };
        let managers: BTreeSet<_> = self.owners.values().flatten().collect();
        let managed: Vec<_> = managers
            .iter()
            .filter_map(|owner| owner.split_once('/'))
            .map(|(manager, operation)| json!({"manager": manager, "operation": operation}))
            .collect();
        let mut json = json!({"metadata": {
            "name": name, "namespace": namespace, "uid": self.uid, "resourceVersion": self.version.to_string(),
            "labels": of("labels "), "annotations": of("annotations "),
            "ownerReferences": of("owner ").values().collect::<Vec<_>>(), "managedFields": managed,
        }});
        if plural == "services" {
            json["spec"] = json!({
                "type": self.fields.get("spec type"), "clusterIP": self.fields.get("spec clusterIP"),
                "selector": of("selector "), "ports": of("port ").values().collect::<Vec<_>>(),
            });
        } else {
            for name in ["addressType", "endpoints", "ports"] {
                json[name] = self.fields.get(name).cloned().unwrap_or_default();
            }
        }
        json
    }
}

impl Store {
    pub(super) fn get(&self, key: &Key) -> Answer {
        match self.objects.get(key) {
            Some(object) => (200, object.json(key)),
            None => status(404, "NotFound", "not found"),
        }
    }

    pub(super) fn create(&mut self, key: &Key, manager: &str, body: &Value) -> Answer {
        if self.objects.contains_key(key) {
            return status(409, "AlreadyExists", "already exists");
        }
        let fields = flatten(body);
        let owners = fields.keys().map(|path| (path.clone(), BTreeSet::from([format!("{manager}/Update")]))).collect();
        self.write("create", key, manager, fields, owners)
    }

    pub(super) fn apply(&mut self, key: &Key, manager: &str, force: bool, body: &Value) -> Answer {
        let me = format!("{manager}/Apply");
        let (mut fields, mut owners) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<String>>::new());
        let uid = body["metadata"]["uid"].as_str();
        match self.objects.get(key) {
            Some(object) => {
                if let Some(error) = self.other_life(key, uid) {
                    return error;
                }
                (fields, owners) = (object.fields.clone(), object.owners.clone());
            }
            None if uid.is_some() => return status(409, "Conflict", "uid mismatch: no existing object was found"),
            None => {}
        }
        let wanted = flatten(body);
        let others = |path: &String| owners.get(path).is_some_and(|all| all.iter().any(|owner| *owner != me));
        if !force && wanted.iter().any(|(path, value)| fields.get(path).is_some_and(|now| now != value) && others(path))
        {
            return status(409, "Conflict", "Apply failed with 1 conflict");
        }
        for (path, all) in &mut owners {
            if all.remove(&me) && all.is_empty() && !wanted.contains_key(path) {
                fields.remove(path);
            }
        }
        for (path, value) in wanted {
            // Who forces a field to another value takes it from the others.
            if fields.get(&path) != Some(&value) {
                owners.remove(&path);
            }
            owners.entry(path.clone()).or_default().insert(me.clone());
            fields.insert(path, value);
        }
        owners.retain(|path, _| fields.contains_key(path));
        self.write("apply", key, manager, fields, owners)
    }

    pub(super) fn merge(&mut self, key: &Key, manager: &str, patch: &Value) -> Answer {
        let Some(object) = self.objects.get(key) else { return status(404, "NotFound", "not found") };
        if let Some(error) = self.other_life(key, patch["metadata"]["uid"].as_str()) {
            return error;
        }
        let version = patch["metadata"]["resourceVersion"].as_str();
        if version.is_some_and(|version| version != object.version.to_string()) {
            return status(409, "Conflict", "the object has been modified");
        }
        let before = object.json(key);
        let mut after = before.clone();
        merge(&mut after, patch);
        let fields = flatten(&after);
        let mut owners = object.owners.clone();
        for (path, value) in &fields {
            if object.fields.get(path) != Some(value) {
                owners.insert(path.clone(), BTreeSet::from([format!("{manager}/Update")]));
            }
        }
        owners.retain(|path, _| fields.contains_key(path));
        self.write("merge", key, manager, fields, owners)
    }

    pub(super) fn delete(&mut self, key: &Key, uid: Option<&str>) -> Answer {
        let Some(object) = self.objects.get(key) else { return status(404, "NotFound", "not found") };
        if uid.is_some_and(|uid| uid != object.uid) {
            return status(409, "Conflict", "the UID in the precondition does not match");
        }
        self.last += 1;
        if let Some(object) = self.objects.remove(key) {
            self.writes.push(format!("delete {}/{}", key.0, key.2));
            self.events.push(Event::Gone(key.clone(), object.uid.clone()));
        }
        (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    fn other_life(&self, key: &Key, uid: Option<&str>) -> Option<Answer> {
        let object = self.objects.get(key)?;
        if uid.is_none_or(|uid| uid == object.uid) {
            return None;
        }
        let (code, mut body) = status(422, "Invalid", "metadata.uid: field is immutable");
        body["details"] = json!({"causes": [{"reason": "FieldValueInvalid", "field": "metadata.uid"}]});
        Some((code, body))
    }

    fn write(
        &mut self,
        verb: &str,
        key: &Key,
        manager: &str,
        fields: BTreeMap<String, Value>,
        owners: BTreeMap<String, BTreeSet<String>>,
    ) -> Answer {
        if fields.keys().filter(|path| path.starts_with("port ")).count() > 1 {
            return status(422, "Invalid", "spec.ports[1].name: Duplicate value");
        }
        let owners_of =
            |fields: &BTreeMap<String, Value>| fields.keys().filter(|path| path.starts_with("owner ")).count();
        if owners_of(&fields) > 1 {
            return status(422, "Invalid", "Only one reference can have Controller set to true");
        }
        let before = self.objects.get(key);
        let immutable = ["addressType", "spec clusterIP"];
        if before.is_some_and(|before| immutable.iter().any(|path| before.fields.get(*path) != fields.get(*path))) {
            return status(422, "Invalid", "field is immutable");
        }
        if let Some(before) = before
            && before.fields == fields
            && before.owners == owners
        {
            return (200, before.json(key));
        }
        self.last += 1;
        let uid = before.map_or_else(|| format!("uid-{}", self.last), |before| before.uid.clone());
        let object = Object { uid, version: self.last, fields, owners };
        let json = object.json(key);
        self.objects.insert(key.clone(), object);
        if manager == "longshore-controller" {
            self.writes.push(format!("{verb} {}/{}", key.0, key.2));
        }
        self.events.push(Event::Put(key.clone(), json.clone()));
        (200, json)
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

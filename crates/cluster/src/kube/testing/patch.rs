//! JSON patches and merge patches.

use serde_json::{Value, json};

/// One operation of a JSON patch; none where it fails.
pub(super) fn operate(object: &mut Value, operation: &Value) -> Option<()> {
    let (path, value) = (operation["path"].as_str()?, &operation["value"]);
    let (parent, last) = path.rsplit_once('/')?;
    match operation["op"].as_str()? {
        // To a test of null, what is not there is null: Kubernetes' own reading.
        "test" => (object.pointer(path).unwrap_or(&Value::Null) == value).then_some(()),
        "add" => match object.pointer_mut(parent)? {
            Value::Array(list) if last == "-" => {
                list.push(value.clone());
                Some(())
            }
            Value::Object(map) => {
                map.insert(last.to_owned(), value.clone());
                Some(())
            }
            _ => None,
        },
        "remove" => match object.pointer_mut(parent)? {
            Value::Array(list) => {
                let at: usize = last.parse().ok()?;
                (at < list.len()).then(|| list.remove(at)).map(drop)
            }
            Value::Object(map) => map.remove(last).map(drop),
            _ => None,
        },
        _ => None,
    }
}

/// RFC 7386.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, change) in changes {
        if change.is_null() {
            if let Some(map) = object.as_object_mut() {
                map.remove(key);
            }
        } else {
            merge(&mut object[key], change);
        }
    }
}

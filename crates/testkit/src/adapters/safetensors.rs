//! Writes the safetensors format: a length, a JSON header, and the tensors one behind the other.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// A matrix of `f32`, row by row.
pub(super) struct Tensor {
    pub(super) shape: [usize; 2],
    pub(super) values: Vec<f32>,
}

/// The bytes of a file with these tensors. The header is padded with spaces to a multiple of eight, as the format's own
/// library does, so that the tensors are aligned.
pub(super) fn write(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut offset = 0;
    for (name, tensor) in tensors {
        let end = offset + 4 * tensor.values.len();
        header.insert(name.clone(), json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [offset, end]}));
        offset = end;
    }
    let mut header = Value::Object(header).to_string();
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    bytes.extend(tensors.values().flat_map(|tensor| &tensor.values).flat_map(|value| value.to_le_bytes()));
    bytes
}

//! Reads the header of a safetensors file, with the refusals of the format's own library.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Type, shape and place of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) shape: Vec<usize>,
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Bits per element of each type of the format.
const TYPES: [(&str, usize); 16] = [
    ("BOOL", 8),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// The tensors of the file `bytes`, by name, or why the library does not read it.
pub(super) fn read(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    /// The library's limit on headers.
    const LONGEST: u64 = 100_000_000;
    let (length, behind) = bytes.split_first_chunk::<8>().ok_or("header too small")?;
    let length = u64::from_le_bytes(*length);
    if length > LONGEST {
        return Err("header too large".into());
    }
    let length =
        usize::try_from(length).ok().filter(|length| *length <= behind.len()).ok_or("invalid header length")?;
    let (header, data) = behind.split_at(length);
    let header = std::str::from_utf8(header).map_err(|error| format!("invalid UTF-8 in header: {error}"))?;
    let json = |error: serde_json::Error| format!("invalid JSON in header: {error}");
    let mut entries: BTreeMap<String, Value> = serde_json::from_str(header).map_err(json)?;
    entries.remove("__metadata__");
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let info: Info = serde_json::from_value(entry).map_err(json)?;
        let bits = TYPES.iter().find(|(dtype, _)| *dtype == info.dtype).map(|(_, bits)| *bits);
        let bits = bits.ok_or_else(|| format!("invalid JSON in header: unknown variant `{}`", info.dtype))?;
        tensors.push((name, info, bits));
    }
    tensors.sort_by_key(|(_, info, _)| info.data_offsets);
    let mut end = 0;
    for (name, info, bits) in &tensors {
        let [from, to] = info.data_offsets;
        if from != end || to < from {
            return Err(format!("invalid offset for tensor `{name}`"));
        }
        if (to - from) * 8 != info.shape.iter().product::<usize>() * bits {
            return Err("invalid shape, data type, or offset for tensor".into());
        }
        end = to;
    }
    if end != data.len() {
        return Err("incomplete metadata, file not fully covered".into());
    }
    Ok(tensors.into_iter().map(|(name, info, _)| (name, Tensor { shape: info.shape })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    /// What safetensors 0.6 says.
    #[test]
    fn files_are_refused_as_the_library_refuses_them() {
        let one = |offsets: &str| format!(r#"{{"t":{{"dtype":"F32","shape":[2],"data_offsets":{offsets}}}}}"#);
        for (bytes, message) in [
            (vec![], "header too small"),
            (b"abc".to_vec(), "header too small"),
            (vec![0xff; 64], "header too large"),
            (vec![16, 0, 0, 0, 0, 0, 0, 0], "invalid header length"),
            (
                vec![1, 0, 0, 0, 0, 0, 0, 0, 0xff],
                "invalid UTF-8 in header: invalid utf-8 sequence of 1 bytes from index 0",
            ),
            (file("nope", 0), "invalid JSON in header: expected ident at line 1 column 2"),
            (file(r#"{"a":{}}"#, 0), "invalid JSON in header: missing field `dtype`"),
            (file("{}", 4), "incomplete metadata, file not fully covered"),
            (file(&one("[0,8]"), 4), "incomplete metadata, file not fully covered"),
            (file(&one("[4,12]"), 12), "invalid offset for tensor `t`"),
            (file(&one("[0,4]"), 4), "invalid shape, data type, or offset for tensor"),
        ] {
            assert_eq!(read(&bytes).unwrap_err(), message);
        }
    }

    #[test]
    fn a_good_file_gives_its_tensors() {
        let header = r#"{"__metadata__":{"format":"pt"},"t":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}  "#;
        let tensors = read(&file(header, 12)).unwrap();
        assert_eq!(tensors["t"].shape, [2, 3]);
    }
}

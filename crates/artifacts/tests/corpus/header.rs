//! Files that are no safetensors files.

use super::Case;
use super::adapter::{Adapter, WEIGHTS, safetensors};

pub fn cases() -> Vec<Case> {
    let mut cases = lengths();
    cases.extend(json());
    cases.extend(entries());
    cases.extend(large());
    cases.extend(other_formats());
    cases
}

fn file(name: &str, reason: &'static str, bytes: impl Fn() -> Vec<u8> + 'static) -> Case {
    Case::replaced(format!("weights: {name}"), reason, WEIGHTS, bytes)
}

/// A file with this header, unpadded, and 8 bytes behind it.
fn raw(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, &[0; 8]].concat()
}

fn lengths() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        ("a length longer than the file", 1 << 20),
        ("a length one too long", 9),
        ("a length of 32 MiB and a byte", (32 << 20) + 1),
        ("a length of 4 GiB", 1 << 32),
        ("a length of 2^63", 1 << 63),
        ("a length of 2^64 - 1", u64::MAX),
    ]
    .map(|(name, length): (_, u64)| {
        file(name, "WeightsInvalid", move || [&length.to_le_bytes()[..], b"{}      "].concat())
    })
    .into();
    cases.push(file("a length of 0", "WeightsInvalid", || vec![0; 8]));
    cases.push(file("no bytes", "WeightsTruncated", Vec::new));
    cases.push(file("7 bytes", "WeightsTruncated", || vec![0; 7]));
    let sound = Adapter::tiny(1).weights();
    for (name, cut, reason) in [
        ("cut in the header", 60, "WeightsInvalid"),
        ("cut behind the header", sound.len() - 448, "WeightsTruncated"),
        ("cut before the last byte", sound.len() - 1, "WeightsTruncated"),
    ] {
        let bytes = sound[..cut].to_vec();
        cases.push(file(name, reason, move || bytes.clone()));
    }
    cases.push(file("a byte more", "WeightsInvalid", move || [&sound[..], b"\0"].concat()));
    cases
}

fn json() -> Vec<Case> {
    let texts: [(&str, &[u8]); 13] = [
        ("a list", b"[]"),
        ("null", b"null"),
        ("a space before the object", b" {}"),
        ("a byte order mark", b"\xef\xbb\xbf{}"),
        ("an object without an end", b"{"),
        ("two objects", b"{}{}"),
        ("a NUL behind the object", b"{}\0"),
        ("a comma too many", b"{,}"),
        ("a comment", b"{/* */}"),
        ("a key without quotes", b"{a:1}"),
        ("UTF-16", b"{\0}\0"),
        ("a name that is not UTF-8", b"{\"\xff\xfe\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"),
        ("half a surrogate pair", br#"{"\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#),
    ];
    texts.map(|(name, text)| file(&format!("the header is {name}"), "WeightsInvalid", || raw(text))).into()
}

fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn entries() -> Vec<Case> {
    let a = || entry("a", "F32", "[2]", "[0,8]");
    let one = |dtype, shape, offsets| vec![entry("a", dtype, shape, offsets)];
    let cases = [
        ("overlap", vec![a(), entry("b", "F32", "[2]", "[4,12]")]),
        ("the same bytes twice", vec![a(), entry("b", "F32", "[2]", "[0,8]")]),
        ("a gap", vec![a(), entry("b", "F32", "[1]", "[12,16]")]),
        ("a gap at the front", one("F32", "[2]", "[8,16]")),
        ("an end before the beginning", one("F32", "[2]", "[8,0]")),
        ("an unknown type", one("F31", "[2]", "[0,8]")),
        ("a type in small letters", one("f32", "[2]", "[0,8]")),
        ("a shape of 2^96 elements", one("F32", "[4294967296,4294967296,4294967296]", "[0,8]")),
        ("a shape of 2^62 elements", one("F32", "[4611686018427387904]", "[0,8]")),
        ("offsets of 2^64 - 1", one("U8", "[18446744073709551615]", "[0,18446744073709551615]")),
        ("offsets of 2^64", one("U8", "[1]", "[0,18446744073709551616]")),
        ("fewer bytes than the shape", one("F32", "[3]", "[0,8]")),
        ("more bytes than the shape", one("F32", "[1]", "[0,8]")),
        ("half a byte", one("F4", "[1]", "[0,1]")),
        ("a negative dimension", one("F32", "[-2]", "[0,8]")),
        ("a fraction of a dimension", one("F32", "[2.0]", "[0,8]")),
        ("a dimension as text", one("F32", "[\"2\"]", "[0,8]")),
        ("9 dimensions", one("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]")),
        ("a shape that is a number", one("F32", "2", "[0,8]")),
        ("one offset", one("F32", "[2]", "[0]")),
        ("three offsets", one("F32", "[2]", "[0,4,8]")),
        ("negative offsets", one("F32", "[2]", "[-8,0]")),
        ("a tensor twice", vec![a(), entry("a", "F32", "[1]", "[8,12]")]),
        ("a tensor twice, once escaped", vec![a(), entry("\\u0061", "F32", "[1]", "[8,12]")]),
        ("a field twice", vec![a().replace("\"shape\":[2]", "\"shape\":[2],\"shape\":[2]")]),
        ("an unknown field", vec![a().replace("\"shape\":[2]", "\"shape\":[2],\"stride\":1")]),
        (
            "an unknown field that is not shown as it is",
            vec![a().replace("shape", &format!("{}\u{7f}", "x".repeat(9000)))],
        ),
        ("no type", vec![a().replace("\"dtype\":\"F32\",", "")]),
        ("no shape", vec![a().replace("\"shape\":[2],", "")]),
        ("no offsets", vec![r#""a":{"dtype":"F32","shape":[2]}"#.into()]),
        ("a tensor that is a list", vec![r#""a":["F32",[2],[0,8]]"#.into()]),
        ("a tensor that is null", vec![r#""a":null"#.into()]),
        ("no name", vec![entry("", "F32", "[2]", "[0,8]")]),
        ("a name of 1025 bytes", vec![entry(&"n".repeat(1025), "F32", "[2]", "[0,8]")]),
        ("NaN for a dimension", one("F32", "[NaN]", "[0,8]")),
        ("metadata twice", vec![r#""__metadata__":{}"#.into(), a(), r#""__metadata__":{}"#.into()]),
        ("a key of the metadata twice", vec![r#""__metadata__":{"a":"1","a":"2"}"#.into(), a()]),
        ("a number in the metadata", vec![r#""__metadata__":{"a":1}"#.into(), a()]),
        ("metadata that is a text", vec![r#""__metadata__":"pt""#.into(), a()]),
        ("an object in the metadata", vec![r#""__metadata__":{"a":{}}"#.into(), a()]),
    ];
    cases
        .map(|(name, entries)| {
            let header = format!("{{{}}}", entries.join(","));
            file(name, "WeightsInvalid", move || safetensors(&header, &[0; 8]))
        })
        .into()
}

fn large() -> Vec<Case> {
    let deep = |open: &'static str| move || safetensors(&format!("{{\"a\":{}", open.repeat(1 << 20)), &[]);
    let metadata = |inner: String| raw(format!("{{\"__metadata__\":{{{inner}}}}}").as_bytes());
    vec![
        file("a million lists within each other", "WeightsInvalid", deep("[")),
        file("a million objects within each other", "WeightsInvalid", deep("{\"a\":")),
        file("metadata of 10 MB", "WeightsInvalid", move || metadata(format!(r#""a":"{}""#, "x".repeat(10_000_000)))),
        file("metadata with a million keys", "WeightsInvalid", move || {
            metadata((0..1_000_000).map(|n| format!(r#""{n}":"""#)).collect::<Vec<_>>().join(","))
        }),
        file("300,000 tensors", "WeightsInvalid", || {
            let tensors = (0..300_000).map(|n| entry(&n.to_string(), "F32", "[0]", "[0,0]"));
            raw(format!("{{{}}}", tensors.collect::<Vec<_>>().join(",")).as_bytes())
        }),
        file("190,000 tensors, each without its half", "PairIncomplete", || {
            let tensors = (0..190_000).map(|n| entry(&format!("{n}.lora_A.weight"), "F32", "[2,0]", "[0,0]"));
            safetensors(&format!("{{{}}}", tensors.collect::<Vec<_>>().join(",")), &[])
        }),
        file("32 MB of spaces", "WeightsEmpty", || safetensors(&format!("{{}}{}", " ".repeat(32_000_000)), &[])),
        file("32 MB of escapes in a name", "WeightsInvalid", || {
            safetensors(&format!("{{\"{}\":1}}", "\\n".repeat(16_000_000)), &[])
        }),
    ]
}

fn other_formats() -> Vec<Case> {
    let long = |start: &'static [u8]| move || [start, &[b' '; 4096]].concat();
    vec![
        file("a Git LFS pointer", "LfsPointer", || {
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n".to_vec()
        }),
        file("an HTML page", "WeightsInvalid", long(b"<!DOCTYPE html><html>404 Not Found</html>")),
        file(
            "an XML error",
            "WeightsInvalid",
            long(b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>"),
        ),
        file("a JSON error", "WeightsInvalid", long(b"{\"error\":\"Invalid credentials\"}")),
        file("a zip file of PyTorch's", "PickleRefused", long(b"PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0archive/data.pkl")),
        file("a pickle", "PickleRefused", long(b"\x80\x02}q\0X\x04\0\0\0")),
        file("a gzip file", "WeightsInvalid", long(b"\x1f\x8b\x08\0\0\0\0\0\0\x03")),
        file("a GGUF file", "WeightsInvalid", long(b"GGUF\x03\0\0\0\0\0\0\0")),
    ]
}

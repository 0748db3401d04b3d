use proptest::prelude::*;

use super::*;
use crate::ModelField;

/// The form with these raw parts, each headers, an empty line and a value.
fn form(parts: &[&str]) -> Vec<u8> {
    let mut body = String::new();
    for part in parts {
        body.push_str("--XX\r\n");
        body.push_str(part);
        body.push_str("\r\n");
    }
    body.push_str("--XX--\r\n");
    body.into_bytes()
}

fn boundary() -> Boundary {
    Boundary::in_content_type("multipart/form-data; boundary=XX").unwrap()
}

fn name(body: &[u8]) -> Result<String, ModelError> {
    ModelField::in_multipart(body, &boundary()).map(|field| field.name().to_owned())
}

const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\r\n--X\r\n\r\n--XY";
const MODEL: &str = "Content-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-sv";

#[test]
fn the_field_model_is_found_before_and_behind_a_file() {
    assert_eq!(name(&form(&[FILE, MODEL])).as_deref(), Ok("whisper-sv"));
    assert_eq!(name(&form(&[MODEL, FILE])).as_deref(), Ok("whisper-sv"));
    let unquoted = "content-disposition:form-data;name=model\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nw";
    assert_eq!(name(&form(&[unquoted])).as_deref(), Ok("w"));
}

#[test]
fn a_form_without_one_usable_model_says_what_is_wrong() {
    assert_eq!(name(&form(&[])), Err(ModelError::Missing));
    assert_eq!(name(&form(&[FILE])), Err(ModelError::Missing));
    assert_eq!(name(&form(&[MODEL, FILE, MODEL])), Err(ModelError::Duplicate));
    let file = "Content-Disposition: form-data; name=\"model\"; filename=\"m\"\r\n\r\nw";
    assert_eq!(name(&form(&[file])), Err(ModelError::NotAString));
}

#[test]
fn i1_what_two_readers_could_take_differently_is_refused() {
    for part in [
        // No or no plain name.
        "Content-Type: text/plain\r\n\r\nw",
        "Content-Disposition: form-data\r\n\r\nw",
        "Content-Disposition: form-data; name=\"mod\\el\"\r\n\r\nw",
        "Content-Disposition: form-data; name=\"mod%65l\"\r\n\r\nw",
        "Content-Disposition: form-data; name*=utf-8''model\r\n\r\nw",
        "Content-Disposition: form-data; name*0=mod; name*1=el\r\n\r\nw",
        "Content-Disposition: form-data; name=\"a\"; name=\"model\"\r\n\r\nw",
        "Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw",
        "Content-Disposition: form-data; name=\"model\" x\r\n\r\nw",
        "Content-Disposition: form-data; name=mo del\r\n\r\nw",
        "Content-Disposition: form-data; name=\"model\r\n\r\nw",
        "Content-Disposition: attachment; name=\"model\"\r\n\r\nw",
        // Folded, broken or encoded headers.
        "Content-Disposition: form-data;\r\n name=\"model\"\r\n\r\nw",
        "Content-Disposition: form-data; name=\"a\"\nX: y\r\n\r\nw",
        "Content-Disposition : form-data; name=\"model\"\r\n\r\nw",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64\r\n\r\ndw==",
        "Content-Disposition: form-data; name=\"model\"\r\nw",
    ] {
        let found = name(&form(&[part]));
        assert!(matches!(found, Err(ModelError::BadForm(_))), "{part:?}: {found:?}");
    }
    for body in [
        &b""[..],
        b"preamble\r\n--XX\r\n",
        b"\r\n--XX--",
        b"--XX",
        b"--XX \r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw\r\n--XX--",
        b"--XX\nContent-Disposition: form-data; name=\"model\"\n\nw\n--XX--",
        b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw",
        b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nw\r\n--XX",
        b"--XX--\r\nmore",
    ] {
        let found = name(body);
        assert!(matches!(found, Err(ModelError::BadForm(_))), "{body:?}: {found:?}");
    }
}

#[test]
fn parts_and_their_headers_are_bounded() {
    let part = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";
    assert_eq!(name(&form(&[part; MAX_PARTS])), Err(ModelError::Missing));
    assert!(matches!(name(&form(&[part; MAX_PARTS + 1])), Err(ModelError::BadForm(_))));
    let long = format!("X: {}\r\n{MODEL}", "x".repeat(MAX_HEADERS));
    assert!(matches!(name(&form(&[&long])), Err(ModelError::BadForm(_))));
}

#[test]
fn a_content_type_is_read_as_clients_write_it() {
    for (text, found) in [
        ("multipart/form-data; boundary=XX", Some("XX")),
        ("Multipart/Form-Data;boundary=\"XX\"; charset=UTF-8", Some("XX")),
        (
            "multipart/form-data; boundary=----WebKitFormBoundary7MA4YWxkTrZu0gW",
            Some("----WebKitFormBoundary7MA4YWxkTrZu0gW"),
        ),
        ("multipart/form-data", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; boundary=\"\"", None),
        ("multipart/form-data; boundary=a; boundary=b", None),
        ("multipart/form-data; boundary=a; boundary*0=b", None),
        ("multipart/form-data; boundary=\"a b\"", None),
        ("multipart/form-data; boundary=XX; charset=utf-7", None),
        ("multipart/form-data; boundary=XX; charset=cp037", None),
        ("multipart/mixed; boundary=XX", None),
        ("application/json", None),
    ] {
        let boundary = Boundary::in_content_type(text);
        assert_eq!(boundary.as_ref().ok().map(|b| b.0.as_str()), found, "{text}");
    }
    assert!(Boundary::in_content_type(&format!("multipart/form-data; boundary={}", "x".repeat(71))).is_err());
}

#[test]
fn only_the_fields_value_is_replaced() {
    let body = form(&[FILE, MODEL]);
    let field = ModelField::in_multipart(&body, &boundary()).unwrap();
    let renamed = field.renamed(&body, "v2");
    assert_eq!(renamed, form(&[FILE, &MODEL.replace("whisper-sv", "v2")]));
    assert_eq!(name(&renamed).as_deref(), Ok("v2"));
}

proptest! {
    #[test]
    fn a_form_that_was_written_reads_back(
        before in proptest::collection::vec(any::<u8>(), 0..200),
        model in "[ -~]{0,40}",
        after in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut body = Vec::new();
        for (name, value) in [("x", before.as_slice()), ("model", model.as_bytes()), ("y", after.as_slice())] {
            prop_assume!(memmem::find(value, b"--XX").is_none());
            body.extend_from_slice(format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes());
            body.extend_from_slice(value);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--XX--\r\n");
        prop_assert_eq!(name(&body), Ok(model));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut body in Just(form(&[FILE, MODEL])), edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8)) {
        for (at, with) in edits {
            let at = at.index(body.len());
            body[at] = with;
        }
        if let Ok(field) = ModelField::in_multipart(&body, &boundary()) {
            prop_assert_eq!(name(&field.renamed(&body, "v2")), Ok("v2".to_owned()));
        }
    }
}

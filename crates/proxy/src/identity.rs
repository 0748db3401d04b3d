//! The ids that tie one request's traces together: passed on where the client has sent them, made where not.

use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderValue};

use crate::headers::{REQUEST_ID, TRACEPARENT};

/// A client's own id is passed on up to this length.
const MAX_REQUEST_ID: usize = 128;

/// The ids of one request.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) request_id: HeaderValue,
    traceparent: HeaderValue,
}

impl Identity {
    /// What these headers say, completed.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let given = |name, valid: fn(&[u8]) -> bool| {
            let mut values = headers.get_all(name).iter();
            // Two different ids are no id.
            let only = values.next().filter(|_| values.next().is_none());
            only.filter(|value| valid(value.as_bytes())).cloned()
        };
        Self {
            request_id: given(REQUEST_ID, is_request_id)
                .unwrap_or_else(|| value(&format!("{:016x}{:016x}", random(), random()))),
            traceparent: given(TRACEPARENT, is_traceparent).unwrap_or_else(new_traceparent),
        }
    }

    /// Puts both into the headers of a request to an engine.
    pub(crate) fn put(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.request_id.clone());
        headers.insert(TRACEPARENT, self.traceparent.clone());
    }
}

/// A trace begun here. It is marked as sampled, so that an engine that samples by its parent does as it would without us.
fn new_traceparent() -> HeaderValue {
    // All zeros would be no id; a bit that is always set makes that impossible.
    value(&format!("00-{:016x}{:016x}-{:016x}-01", random(), random(), random() | 1))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal digits and dashes are allowed in a header")
}

/// Not a secret: 64 bits that are unlikely to come again. Each `RandomState` has other keys than the one before it, from
/// a start that the system made random.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0_u8)
}

fn is_request_id(text: &[u8]) -> bool {
    (1..=MAX_REQUEST_ID).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

/// `00-<32 hex>-<16 hex>-<2 hex>`, or a later version that begins so (W3C Trace Context, section 3.2).
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let id = |part: &[u8]| hex(part) && part.iter().any(|byte| *byte != b'0');
    let Some((known, rest)) = text.split_at_checked(55) else { return false };
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let (version, flags) = (&known[..2], &known[53..]);
    dashes
        && hex(version)
        && version != b"ff"
        && id(&known[3..35])
        && id(&known[36..52])
        && hex(flags)
        && (rest.is_empty() || (version != b"00" && rest[0] == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_client_has_sent_is_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, "abc-123".parse().unwrap());
        headers.insert(TRACEPARENT, PARENT.parse().unwrap());
        let mut forwarded = HeaderMap::new();
        Identity::of(&headers).put(&mut forwarded);
        assert_eq!(forwarded, headers);
    }

    #[test]
    fn what_is_missing_or_unusable_is_made_and_never_twice_the_same() {
        let (one, other) = (Identity::of(&HeaderMap::new()), Identity::of(&HeaderMap::new()));
        assert_ne!(one.request_id, other.request_id);
        assert_ne!(one.traceparent, other.traceparent);
        assert!(is_traceparent(one.traceparent.as_bytes()), "{:?}", one.traceparent);
        for bad in ["", "a b", &"x".repeat(MAX_REQUEST_ID + 1)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, bad.parse().unwrap());
            assert_ne!(Identity::of(&headers).request_id.as_bytes(), bad.as_bytes());
        }
        let mut twice = HeaderMap::new();
        twice.append(REQUEST_ID, "a".parse().unwrap());
        twice.append(REQUEST_ID, "b".parse().unwrap());
        assert_eq!(Identity::of(&twice).request_id.len(), 32);
    }

    #[test]
    fn a_malformed_traceparent_is_recognised() {
        assert!(is_traceparent(PARENT.as_bytes()));
        assert!(is_traceparent(PARENT.replacen("00", "01", 1).as_bytes()));
        assert!(is_traceparent(format!("{}-more", PARENT.replacen("00", "01", 1)).as_bytes()));
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-more"),
            &format!("{PARENT}0"),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }
}

//! Signatures of version 4, as Amazon's documentation of the algorithm has them.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::hex;

/// What stands for itself in a name or value of a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same in a path.
const PATH: &AsciiSet = &PLAIN.remove(b'/');

/// What is wrong with a request's credentials: the status and the store's word for it.
pub(super) type Refused = (u16, &'static str);

/// The parts of an `Authorization` header.
struct Claim<'h> {
    key: &'h str,
    /// `date/region/s3/aws4_request`.
    scope: &'h str,
    headers: &'h str,
    signature: &'h str,
}

impl<'h> Claim<'h> {
    fn of(headers: &'h HeaderMap) -> Option<Self> {
        let text = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| text.split(',').find_map(|part| part.trim().strip_prefix(name));
        let (key, scope) = part("Credential=")?.split_once('/')?;
        Some(Self { key, scope, headers: part("SignedHeaders=")?, signature: part("Signature=")? })
    }
}

/// The key that a request says that it is signed with.
pub(super) fn claimed(headers: &HeaderMap) -> Option<String> {
    Claim::of(headers).map(|claim| claim.key.to_owned())
}

/// Holds a signature against the secret that goes with its key, and its region against ours.
pub(super) fn check(request: &Parts, secret: &str, region: &str) -> Result<(), Refused> {
    let malformed = (400, "AuthorizationHeaderMalformed");
    let claim = Claim::of(&request.headers).ok_or(malformed)?;
    let scope: Vec<&str> = claim.scope.split('/').collect();
    let &[date, theirs, "s3", "aws4_request"] = scope.as_slice() else { return Err(malformed) };
    if theirs != region {
        return Err(malformed);
    }
    let header =
        |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    let signed: Vec<&str> = claim.headers.split(';').collect();
    let needed = ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
    // What is not signed could have been changed by anybody.
    if needed.iter().any(|name| request.headers.contains_key(*name) && !signed.contains(name)) {
        return Err((403, "AccessDenied"));
    }
    let headers: String = signed.iter().map(|name| format!("{name}:{}\n", header(name))).collect();
    let pairs = request.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut query: Vec<String> = pairs.map(canonical_pair).collect();
    query.sort_unstable();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{}\n{}",
        request.method,
        encoded(request.uri.path(), PATH),
        query.join("&"),
        claim.headers,
        header("x-amz-content-sha256"),
    );
    let hash = hex(&Sha256::digest(&canonical));
    let text = format!("AWS4-HMAC-SHA256\n{}\n{}\n{hash}", header("x-amz-date"), claim.scope);
    match signature(secret, date, region, &text) == claim.signature {
        true => Ok(()),
        false => Err((403, "SignatureDoesNotMatch")),
    }
}

/// However a client has encoded it, the signature is of one encoding.
fn encoded(text: &str, set: &'static AsciiSet) -> String {
    utf8_percent_encode(&percent_decode_str(text).decode_utf8_lossy(), set).to_string()
}

fn canonical_pair(pair: &str) -> String {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    format!("{}={}", encoded(name, PLAIN), encoded(value, PLAIN))
}

fn signature(secret: &str, date: &str, region: &str, text: &str) -> String {
    let chain = [date, region, "s3", "aws4_request", text];
    let key = format!("AWS4{secret}").into_bytes();
    hex(&chain.iter().fold(key, |key, part| hmac(&key, part.as_bytes()).to_vec()))
}

/// RFC 2104, with SHA-256, whose blocks have 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    match key.len() {
        0..=64 => block[..key.len()].copy_from_slice(key),
        _ => block[..32].copy_from_slice(&Sha256::digest(key)),
    }
    let with = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(with(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(with(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_arithmetic_is_that_of_rfc_4231() {
        let case = |key: &[u8], text: &[u8]| hex(&hmac(key, text));
        assert_eq!(case(&[0x0b; 20], b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(case(&[0xaa; 131], long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    /// The example of Amazon's own documentation ("GET Object", with a range).
    #[test]
    fn amazons_own_example_is_let_in_and_any_change_of_it_is_not() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let request = |range: &str| {
            let authorization = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
                 SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
                 Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
            let request = Request::get("https://examplebucket.s3.amazonaws.com/test.txt")
                .header("host", "examplebucket.s3.amazonaws.com")
                .header("range", range)
                .header("x-amz-content-sha256", empty)
                .header("x-amz-date", "20130524T000000Z")
                .header("authorization", authorization);
            request.body(()).unwrap().into_parts().0
        };
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(check(&request("bytes=0-9"), secret, "us-east-1"), Ok(()));
        assert_eq!(check(&request("bytes=0-8"), secret, "us-east-1"), Err((403, "SignatureDoesNotMatch")));
        assert_eq!(check(&request("bytes=0-9"), "other", "us-east-1"), Err((403, "SignatureDoesNotMatch")));
        assert_eq!(check(&request("bytes=0-9"), secret, "eu-west-1"), Err((400, "AuthorizationHeaderMalformed")));
        assert_eq!(claimed(&request("bytes=0-9").headers).as_deref(), Some("AKIAIOSFODNN7EXAMPLE"));
    }
}

//! The bearer token.

use std::hint::black_box;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use longshore_types::Secret;

use super::error::ApiError;

/// Lets only requests through that carry `token`.
pub(super) async fn bearer(State(token): State<Secret>, request: Request, next: Next) -> Response {
    match presented(request.headers()) {
        Some(given) if same(given.as_bytes(), token.expose().as_bytes()) => next.run(request).await,
        _ => ApiError::unauthorized().into_response(),
    }
}

/// The token of an `Authorization: Bearer` header. The scheme's case does not matter (RFC 9110, 11.1).
fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether both are equal, in a time that depends only on the length of `given`: a comparison that stops at the first
/// difference tells by its duration how much of a guess was right. An empty token is never right.
fn same(given: &[u8], token: &[u8]) -> bool {
    let mut difference = usize::from(given.len() != token.len()) | usize::from(token.is_empty());
    for (index, byte) in given.iter().enumerate() {
        let expected = token.get(index).copied().unwrap_or(0);
        difference |= black_box(usize::from(byte ^ expected));
    }
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_the_token() {
        assert!(same(b"hunter2", b"hunter2"));
        for wrong in [&b""[..], b"hunter", b"hunter22", b"Hunter2", b"hunter2\0"] {
            assert!(!same(wrong, b"hunter2"), "{wrong:?}");
        }
        assert!(!same(b"", b""), "an empty token opens nothing");
    }
}

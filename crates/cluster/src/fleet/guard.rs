//! Who may ask.

mod accounts;
mod cache;
mod token_file;

use std::hint::black_box;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use longshore_types::Secret;

use super::error::ApiError;

pub use accounts::{AUDIENCE, Accounts};
pub use token_file::TokenFile;

/// Who may ask: whoever carries a bearer token that opens one of its doors, or, where it has none, everybody.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    doors: Vec<Door>,
}

#[derive(Clone, Debug)]
enum Door {
    Token(Secret),
    File(Arc<TokenFile>),
    Accounts(Arc<Accounts>),
}

/// What a door says to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It opens.
    Open,
    /// Whether it opens cannot be told now.
    Unknown(&'static str),
    /// The token is somebody's who may not ask.
    NotAllowed(String),
    /// The token is nobody's.
    Nobody,
}

impl Guard {
    /// Everybody may ask. For what only this machine can connect to.
    pub fn open() -> Self {
        Self::default()
    }

    /// Whoever has this token, too.
    #[must_use]
    pub fn or_token(self, token: Secret) -> Self {
        self.or(Door::Token(token))
    }

    /// Whoever has the token in this file, too.
    #[must_use]
    pub fn or_file(self, file: TokenFile) -> Self {
        self.or(Door::File(Arc::new(file)))
    }

    /// These accounts of a cluster, too.
    #[must_use]
    pub fn or_accounts(self, accounts: Accounts) -> Self {
        self.or(Door::Accounts(Arc::new(accounts)))
    }

    fn or(mut self, door: Door) -> Self {
        self.doors.push(door);
        self
    }

    /// Whether a request with these headers may pass.
    async fn admit(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.doors.is_empty() {
            return Ok(());
        }
        let Some(given) = presented(headers) else { return Err(ApiError::unauthorized()) };
        let (mut unknown, mut not_allowed) = (None, None);
        for door in &self.doors {
            let verdict = match door {
                Door::Token(token) => compared(given, token),
                Door::File(file) => file.check(given).await,
                Door::Accounts(accounts) => accounts.check(given).await,
            };
            match verdict {
                Verdict::Open => return Ok(()),
                Verdict::Unknown(why) => unknown = Some(why),
                Verdict::NotAllowed(account) => not_allowed = Some(account),
                Verdict::Nobody => {}
            }
        }
        // What cannot be told is not refused: a client that is told 503 tries again, one that is told 401 need not.
        match (unknown, not_allowed) {
            (Some(why), _) => Err(ApiError::unavailable(why)),
            (None, Some(account)) => Err(ApiError::forbidden(&account)),
            (None, None) => Err(ApiError::unauthorized()),
        }
    }
}

/// `routes`, for those whom `guard` admits.
pub fn guarded(routes: Router, guard: Guard) -> Router {
    routes.layer(middleware::from_fn_with_state(guard, check))
}

/// Lets only requests through that the guard admits.
pub(super) async fn check(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match guard.admit(request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The token of an `Authorization: Bearer` header. The scheme's case does not matter (RFC 9110, 11.1).
fn presented(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

fn compared(given: &str, token: &Secret) -> Verdict {
    if same(given.as_bytes(), token.expose().as_bytes()) { Verdict::Open } else { Verdict::Nobody }
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

    #[tokio::test]
    async fn any_door_will_do() {
        let guard = Guard::open().or_token(Secret::new("one")).or_token(Secret::new("two"));
        let headers =
            |value: &str| [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect::<HeaderMap>();
        for right in ["Bearer one", "bearer two"] {
            assert!(guard.admit(&headers(right)).await.is_ok(), "{right}");
        }
        for wrong in ["Bearer three", "Bearer ", "Basic one", "one"] {
            assert!(guard.admit(&headers(wrong)).await.is_err(), "{wrong}");
        }
        assert!(Guard::open().admit(&HeaderMap::new()).await.is_ok());
    }

    #[test]
    fn i8_a_guard_does_not_show_its_tokens() {
        let shown = format!("{:?}", Guard::open().or_token(Secret::new("hunter2")));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

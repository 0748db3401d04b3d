//! Who asks, and what they may pull.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::answer::{Reply, json_reply, refusal};
use super::{Grant, Guard, Shared, State, User};

/// How long tokens are said to be good, in seconds, as Docker Hub says it.
const LIFETIME: u64 = 300;

/// Whether whoever shows `authorization` may pull from `repository`, or the answer to one who may not.
pub(super) fn admit(
    shared: &Shared,
    state: &State,
    repository: &str,
    authorization: Option<&str>,
) -> Result<(), Box<Reply>> {
    let private = state.private.contains(repository);
    let bearer = authorization.and_then(|text| text.strip_prefix("Bearer ")).and_then(|token| state.tokens.get(token));
    let denied = || Err(Box::new(refusal(StatusCode::FORBIDDEN, "DENIED", "requested access is denied")));
    match state.guard {
        _ if bearer.is_some_and(|grant| grant.repositories.iter().any(|one| one == repository)) => Ok(()),
        Guard::Open if private => denied(),
        Guard::Open => Ok(()),
        Guard::Basic => match (authorization, user_of(state, authorization)) {
            (_, Some(user)) if !private || user.may_pull.iter().any(|one| one == repository) => Ok(()),
            (_, Some(_)) => denied(),
            (None, None) if !private => Ok(()),
            (_, None) => Err(Box::new(challenge(r#"Basic realm="registry""#))),
        },
        Guard::Token => {
            let scope = format!(r#",scope="repository:{repository}:pull""#);
            Err(Box::new(challenge(&format!("{}{scope}", bearer_challenge(shared, state)))))
        }
    }
}

/// What clients ask for first, to see that this is a registry, and what it wants to be shown.
pub(super) fn greet(shared: &Shared, state: &State, authorization: Option<&str>) -> Reply {
    let token = authorization.and_then(|text| text.strip_prefix("Bearer "));
    match state.guard {
        Guard::Basic if user_of(state, authorization).is_none() => challenge(r#"Basic realm="registry""#),
        Guard::Token if !token.is_some_and(|token| state.tokens.contains_key(token)) => {
            challenge(&bearer_challenge(shared, state))
        }
        _ => json_reply(&json!({})),
    }
}

fn bearer_challenge(shared: &Shared, state: &State) -> String {
    let here = shared.here;
    let realm = state.faults.realm.clone().unwrap_or_else(|| format!("http://{here}/token"));
    format!(r#"Bearer realm="{realm}",service="{here}""#)
}

fn challenge(text: &str) -> Reply {
    let mut reply = refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
    reply.headers_mut().extend(HeaderValue::from_str(text).ok().map(|value| (WWW_AUTHENTICATE, value)));
    reply
}

fn user_of<'s>(state: &'s State, authorization: Option<&str>) -> Option<&'s User> {
    let pair = STANDARD.decode(authorization?.strip_prefix("Basic ")?).ok()?;
    let pair = String::from_utf8(pair).ok()?;
    let (name, password) = pair.split_once(':')?;
    state.users.iter().find(|user| user.name == name && user.password == password)
}

/// Gives out a token for what `query` asks for, as far as whoever asks may have it.
pub(super) fn give_token(state: &mut State, query: &str, authorization: Option<&str>) -> Reply {
    let user = user_of(state, authorization).cloned();
    if authorization.is_some() && user.is_none() {
        return refusal(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect username or password");
    }
    let decoded = query.replace("%3A", ":").replace("%2F", "/");
    let scopes = decoded.split('&').filter_map(|pair| pair.strip_prefix("scope=repository:"));
    let asked = scopes.filter_map(|scope| scope.rsplit_once(':')).map(|(repository, _)| repository.to_owned());
    // One who may not pull gets a token too, which is good for nothing: that is how Docker Hub has it.
    let may = |one: &String| {
        !state.private.contains(one) || user.as_ref().is_some_and(|user| user.may_pull.iter().any(|its| its == one))
    };
    let repositories = asked.filter(may).collect();
    state.given += 1;
    let token = format!("given-{}", state.given);
    state.tokens.insert(token.clone(), Grant { repositories, lasting: false });
    json_reply(&json!({"token": token, "expires_in": LIFETIME}))
}

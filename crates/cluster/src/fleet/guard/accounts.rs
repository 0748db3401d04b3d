//! Accounts of a cluster, told by their tokens.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{Instant, timeout};

use super::Verdict;
use super::cache::{Cache, Key, Known};

/// What a token must be made for. One that is made for the API server would let whoever gets hold of it here act there.
pub const AUDIENCE: &str = "longshore";

/// How long the API server may take to tell, its queue included.
const WITHIN: Duration = Duration::from_secs(3);

/// Reviews at once; also, one token has one review at a time. A flood of bad tokens is not passed on as a flood.
const TURNS: usize = 8;

/// No token is longer: those of a cluster are about 1 KiB.
const LONGEST: usize = 16 << 10;

/// Lets accounts of a cluster in, by `TokenReview`. Needs the right to create `tokenreviews`.
///
/// A good token is asked about again after a minute, a bad one after 5 s. While the API server does not answer, what was
/// good stays good for up to 5 minutes; of others it cannot be told.
pub struct Accounts {
    client: Client,
    allowed: BTreeSet<String>,
    cache: Mutex<Cache>,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts").field("allowed", &self.allowed).finish_non_exhaustive()
    }
}

impl Accounts {
    /// Those accounts by their user names: `system:serviceaccount:longshore-system:longshore-router`.
    pub fn new(client: Client, allowed: impl IntoIterator<Item = String>) -> Self {
        let turns = std::array::from_fn(|_| tokio::sync::Mutex::default());
        Self { client, allowed: allowed.into_iter().collect(), cache: Mutex::default(), turns }
    }

    pub(super) async fn check(&self, token: &str) -> Verdict {
        if token.len() > LONGEST {
            return Verdict::Nobody;
        }
        let key = Key::of(token);
        if let Some(known) = self.fresh(key) {
            return known.into();
        }
        match timeout(WITHIN, self.learn(key, token)).await {
            Ok(Ok(known)) => known.into(),
            Ok(Err(why)) => self.untold(key, why),
            Err(_) => self.untold(key, "whose token this is cannot be told: the API server does not answer"),
        }
    }

    /// Asks, unless another request with the same token has just done so.
    async fn learn(&self, key: Key, token: &str) -> Result<Known, &'static str> {
        let _turn = self.turns[key.lot(TURNS)].lock().await;
        if let Some(known) = self.fresh(key) {
            return Ok(known);
        }
        let known = self.review(token).await?;
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).learn(key, known.clone(), Instant::now());
        Ok(known)
    }

    async fn review(&self, token: &str) -> Result<Known, &'static str> {
        let spec = TokenReviewSpec { audiences: Some(vec![AUDIENCE.to_owned()]), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &review).await {
            Ok(review) => Ok(self.judge(review.status.unwrap_or_default())),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                tracing::warn!(
                    message = status.message,
                    "Not allowed to create tokenreviews: no account can be let in"
                );
                Err("whose token this is cannot be told: the controller may not create tokenreviews")
            }
            // Not shown as it is: it speaks of a request that carried a token.
            Err(_) => Err("whose token this is cannot be told: the API server does not say"),
        }
    }

    fn judge(&self, status: TokenReviewStatus) -> Known {
        let ours = status.audiences.is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE));
        if status.authenticated != Some(true) || !ours {
            return Known::Nobody;
        }
        match status.user.and_then(|user| user.username) {
            Some(account) if self.allowed.contains(&account) => Known::Good,
            Some(account) => Known::NotAllowed(account),
            None => Known::Nobody,
        }
    }

    fn fresh(&self, key: Key) -> Option<Known> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).fresh(key, Instant::now())
    }

    fn untold(&self, key: Key, why: &'static str) -> Verdict {
        let good = self.cache.lock().unwrap_or_else(PoisonError::into_inner).was_good(key, Instant::now());
        if good { Verdict::Open } else { Verdict::Unknown(why) }
    }
}

impl From<Known> for Verdict {
    fn from(known: Known) -> Self {
        match known {
            Known::Good => Self::Open,
            Known::NotAllowed(account) => Self::NotAllowed(account),
            Known::Nobody => Self::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use axum::{Json, Router, routing::post};
    use serde_json::{Value, json};
    use tokio::time::advance;

    use super::*;

    const ROUTER: &str = "system:serviceaccount:longshore-system:longshore-router";
    const SECOND: Duration = Duration::from_secs(1);

    const GOOD: u8 = 0;
    const HANGS: u8 = 1;
    const FORBIDS: u8 = 2;
    const FAILS: u8 = 3;

    #[derive(Default)]
    struct Server {
        reviews: AtomicU32,
        way: AtomicU8,
    }

    impl Server {
        async fn answer(&self, review: Value) -> Response {
            self.reviews.fetch_add(1, Ordering::SeqCst);
            match self.way.load(Ordering::SeqCst) {
                HANGS => return std::future::pending().await,
                FORBIDS => return refusal(StatusCode::FORBIDDEN),
                FAILS => return refusal(StatusCode::INTERNAL_SERVER_ERROR),
                _ => tokio::task::yield_now().await,
            }
            assert_eq!(review["spec"]["audiences"], json!([AUDIENCE]));
            let status = match review["spec"]["token"].as_str().unwrap() {
                "router" => json!({"authenticated": true, "audiences": [AUDIENCE], "user": {"username": ROUTER}}),
                "other" => json!({"authenticated": true, "audiences": [AUDIENCE], "user": {"username": "jane"}}),
                // An API server that knows no audiences leaves them out, and then the token is made for itself.
                "elsewhere" => json!({"authenticated": true, "user": {"username": ROUTER}}),
                "strange" => json!({"authenticated": true, "audiences": ["vault"], "user": {"username": ROUTER}}),
                "nameless" => json!({"authenticated": true, "audiences": [AUDIENCE]}),
                _ => json!({"error": "invalid bearer token"}),
            };
            Json(json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {}, "status": status
            }))
            .into_response()
        }

        fn reviews(&self) -> u32 {
            self.reviews.load(Ordering::SeqCst)
        }
    }

    fn refusal(code: StatusCode) -> Response {
        let body =
            json!({"kind": "Status", "status": "Failure", "message": "no", "reason": "no", "code": code.as_u16()});
        (code, Json(body)).into_response()
    }

    fn world() -> (Arc<Server>, Arc<Accounts>) {
        let server = Arc::new(Server::default());
        let answer = {
            let server = server.clone();
            move |Json(review): Json<Value>| async move { server.answer(review).await }
        };
        let router = Router::new().route("/apis/authentication.k8s.io/v1/tokenreviews", post(answer));
        let client = Client::new(router.into_service::<kube::client::Body>(), "default");
        (server, Arc::new(Accounts::new(client, [ROUTER.to_owned()])))
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_token_of_an_allowed_account_that_is_made_for_us_opens() {
        let (_, accounts) = world();
        assert_eq!(accounts.check("router").await, Verdict::Open);
        assert_eq!(accounts.check("other").await, Verdict::NotAllowed("jane".to_owned()));
        for nobody in ["elsewhere", "strange", "nameless", "guess", &"x".repeat(LONGEST + 1)] {
            assert_eq!(accounts.check(nobody).await, Verdict::Nobody, "{nobody:.20}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_token_is_asked_about_once_a_minute_also_by_many_at_once() {
        let (server, accounts) = world();
        let all = (0..20).map(|_| accounts.check("router"));
        assert!(futures::future::join_all(all).await.iter().all(|verdict| *verdict == Verdict::Open));
        assert_eq!(server.reviews(), 1);
        advance(59 * SECOND).await;
        accounts.check("router").await;
        assert_eq!(server.reviews(), 1);
        advance(SECOND).await;
        accounts.check("router").await;
        assert_eq!(server.reviews(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_api_server_is_away_known_accounts_stay_and_others_are_told_to_come_back() {
        for way in [HANGS, FORBIDS, FAILS] {
            let (server, accounts) = world();
            accounts.check("router").await;
            server.way.store(way, Ordering::SeqCst);
            advance(120 * SECOND).await;
            assert_eq!(accounts.check("router").await, Verdict::Open);
            assert!(matches!(accounts.check("new").await, Verdict::Unknown(_)));
            advance(180 * SECOND).await;
            assert!(matches!(accounts.check("router").await, Verdict::Unknown(_)), "five minutes are over");
            server.way.store(GOOD, Ordering::SeqCst);
            assert_eq!(accounts.check("router").await, Verdict::Open);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn i11_a_review_that_hangs_holds_up_nobody_who_is_known() {
        let (server, accounts) = world();
        accounts.check("router").await;
        server.way.store(HANGS, Ordering::SeqCst);
        let flood: Vec<_> = (0..50)
            .map(|bad| {
                let accounts = accounts.clone();
                tokio::spawn(async move { accounts.check(&format!("bad {bad}")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let asked = Instant::now();
        assert_eq!(accounts.check("router").await, Verdict::Open);
        assert_eq!(asked.elapsed(), Duration::ZERO, "in paused time this is exact");
        for verdict in futures::future::join_all(flood).await {
            assert!(matches!(verdict.unwrap(), Verdict::Unknown(_)));
        }
        assert!(server.reviews() <= 1 + u32::try_from(TURNS).unwrap());
    }
}

//! A source whose every move is known.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use longshore_artifacts::{Credentials, Error, Fingerprint, Order, Origin, Source, Staging};
use longshore_types::{ArtifactUrl, Scheme, Secret};

use crate::adapter::Adapter;

/// Has the adapter `Adapter::tiny(n)` at `oci://shelf/adapter:<n>`.
#[derive(Default)]
pub struct Shelf {
    /// Tokens that are let in; everybody is where there are none.
    pub tokens: Vec<&'static str>,
    /// Between two chunks of 256 bytes.
    pub pace: Duration,
    /// Whether it tells no sizes.
    pub unsized_: bool,
    /// Added to each reference's fingerprint.
    pub revision: AtomicUsize,
    /// Fetches that were begun.
    pub fetches: AtomicUsize,
    /// The tokens of those who were admitted.
    pub admitted: Mutex<Vec<String>>,
}

impl Shelf {
    pub fn url(n: u8) -> ArtifactUrl {
        format!("oci://shelf/adapter:{n}").parse().unwrap()
    }

    /// The order of whoever has `token`.
    pub fn order(n: u8, token: &str) -> Order {
        let credentials = Credentials::new([("token", Secret::new(token))]);
        Order { origin: Origin { url: Self::url(n), credentials }, ..Order::public(Self::url(n)) }
    }

    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

fn number(origin: &Origin) -> u8 {
    origin.url.as_written().rsplit(':').next().unwrap().parse().unwrap()
}

#[async_trait]
impl Source for Shelf {
    fn schemes(&self) -> &'static [Scheme] {
        &[Scheme::Oci]
    }
    fn takes(&self) -> &'static str {
        "what is on the shelf"
    }
    async fn fingerprint(&self, origin: &Origin) -> Result<Fingerprint, Error> {
        let token = origin.credentials.get(&["token"]).map(|token| token.expose().to_owned()).unwrap_or_default();
        if !self.tokens.is_empty() && !self.tokens.contains(&token.as_str()) {
            return Err(Error::AccessDenied {
                what: origin.url.to_string(),
                whom: "this credential",
                status: "403 Forbidden".into(),
                advice: "use another".into(),
            });
        }
        self.admitted.lock().unwrap().push(token);
        Ok(Fingerprint::new(format!("{} {}", number(origin), self.revision.load(Ordering::Relaxed)), true))
    }
    async fn fetch(&self, origin: &Origin, mut staging: Staging) -> Result<Staging, Error> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        for (name, bytes) in Adapter::tiny(number(origin)).files() {
            let mut file = staging.file(&name, (!self.unsized_).then_some(bytes.len() as u64))?;
            for chunk in bytes.chunks(256) {
                file.write(chunk)?;
                tokio::time::sleep(self.pace).await;
            }
            file.finish()?;
        }
        Ok(staging)
    }
}

//! The way to an engine: one shared client, one base URL and one key per engine, and a bound on every answer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use longshore_types::{Address, Secret};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, Response, Url, redirect};

use crate::error::{Call, Error};

/// How long a connection may take. An engine is in the same cluster or on the same machine, and the controller counts on
/// this bound when it stops acting before its Lease lapses.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection is kept: one second less than uvicorn's `--timeout-keep-alive`, 5 s, which vLLM uses.
/// A connection that the engine closes just as a request is sent on it would look like a reset.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The client that all engines share, with [`CONNECT_TIMEOUT`].
///
/// # Errors
/// As [`http_client_with`].
pub fn http_client() -> Result<Client, Error> {
    http_client_with(CONNECT_TIMEOUT)
}

/// A client that follows no redirect (it would carry the key elsewhere), asks no proxy of the environment (engines are
/// near, and the proxy would see the key), and keeps connections only as long as engines do.
///
/// # Errors
/// [`Error::NoTlsProvider`] where the process has not installed rustls's provider, [`Error::Client`] where the system
/// gives no certificates.
pub fn http_client_with(connect_timeout: Duration) -> Result<Client, Error> {
    // reqwest would panic.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(Error::NoTlsProvider);
    }
    Client::builder()
        .user_agent(concat!("longshore/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .tcp_nodelay(true)
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(4)
        .build()
        .map_err(|error| Error::Client(error.without_url()))
}

/// Where an engine's API begins: `http://host:port`, or with a path where a gateway stands before it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |rule| Err(Error::BaseUrl { rule });
        let Ok(url) = Url::parse(text) else { return bad("write http://host:port") };
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return bad("it begins with http:// or https:// and a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return bad("it names no user or password: an engine takes an api key");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return bad("it has neither query nor fragment");
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl TryFrom<&Address> for BaseUrl {
    type Error = Error;
    fn try_from(address: &Address) -> Result<Self, Error> {
        format!("http://{}", address.authority()).parse()
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One question to one engine.
pub(crate) struct Question<'a> {
    pub client: &'a Client,
    pub base: &'a BaseUrl,
    pub call: Call,
    /// A JSON text to post.
    pub body: Option<String>,
    pub key: Option<&'a Secret>,
    /// For everything: connection, head and body.
    pub within: Duration,
}

impl Question<'_> {
    /// Asks, and returns as soon as the answer's head is there, whatever its status.
    pub(crate) async fn ask(self) -> Result<Answer, Error> {
        let Self { client, base, call, body, key, within } = self;
        let url = format!("{base}{}", call.path());
        let mut request = match body {
            Some(body) => client.post(url).header("content-type", "application/json").body(body),
            None => client.get(url),
        };
        if let Some(key) = key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose())).map_err(|_| Error::Key)?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.timeout(within).send().await.map_err(|error| Error::from_client(call, within, error))?;
        Ok(Answer { response, call, within })
    }
}

/// An answer whose body has yet to come, within the question's deadline.
pub(crate) struct Answer {
    response: Response,
    call: Call,
    within: Duration,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Hands on the body piece by piece.
    pub(crate) async fn read(mut self, limit: usize, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut length = 0_usize;
        while let Some(chunk) =
            self.response.chunk().await.map_err(|error| Error::from_client(self.call, self.within, error))?
        {
            length = length.saturating_add(chunk.len());
            if length > limit {
                return Err(Error::TooLarge { call: self.call, limit });
            }
            take(&chunk);
        }
        Ok(())
    }

    /// The whole body.
    pub(crate) async fn bytes(self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.read(limit, |chunk| bytes.extend_from_slice(chunk)).await?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_has_a_host_and_perhaps_a_path() {
        for (text, kept) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
            ("https://gateway.example/engines/a/", "https://gateway.example/engines/a"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().as_str(), kept);
        }
        for bad in ["", "localhost:8000", "ftp://h/", "http://", "http://h/?q=1", "http://h/#f", "/v1"] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_becomes_a_base_url() {
        let url = BaseUrl::try_from(&Address::new("fd00::1", 8000)).unwrap();
        assert_eq!(url.as_str(), "http://[fd00::1]:8000");
        assert!(BaseUrl::try_from(&Address::new("no host", 8000)).is_err());
    }

    #[test]
    fn i8_a_password_in_a_url_is_refused_and_not_shown() {
        let error = "http://user:marked@host:8000".parse::<BaseUrl>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("marked"));
        assert_eq!(error.reason(), "Misconfigured");
    }
}

//! Requests to a controller.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use longshore_types::Secret;

const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Where a controller's fleet API is: `http://host:port`, with a path before `/v1` where one stands in front of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    authority: Authority,
    prefix: String,
}

/// A text that names no controller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a controller's address: {rule}")]
pub struct InvalidController {
    rule: &'static str,
}

impl FromStr for Controller {
    type Err = InvalidController;

    fn from_str(text: &str) -> Result<Self, InvalidController> {
        let invalid = |rule| InvalidController { rule };
        let uri: Uri = text.parse().map_err(|_| invalid("write `http://host:port`"))?;
        if uri.scheme() != Some(&Scheme::HTTP) {
            return Err(invalid("it must begin with `http://`"));
        }
        if uri.query().is_some() {
            return Err(invalid("it must have no query"));
        }
        let authority = uri.authority().cloned().ok_or(invalid("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("a user or password does not belong here"));
        }
        if authority.host().is_empty() {
            return Err(invalid("it names no host"));
        }
        Ok(Self { authority, prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl Controller {
    /// The one at this address.
    pub(super) fn at(address: SocketAddr) -> Self {
        let authority = address.to_string().parse().expect("an address and a port are an authority");
        Self { authority, prefix: String::new() }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

/// What is shown to a controller that asks who is there.
#[derive(Clone, Debug)]
pub enum Token {
    /// This one.
    Fixed(Secret),
    /// The one in this file, read anew for each connection: the tokens of ServiceAccounts are replaced every hour.
    File(PathBuf),
}

/// Talks to controllers.
#[derive(Clone, Debug)]
pub(super) struct HttpClient {
    client: Client<HttpConnector, Full<Bytes>>,
    token: Option<Token>,
}

/// What went wrong on the way.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// The request could not be made up.
    #[error("the request could not be made")]
    Request(#[from] http::Error),
    /// The file with the token could not be read.
    #[error("the token in {} cannot be read", path.display())]
    NoToken { path: PathBuf, source: io::Error },
    /// The token has characters that no header can carry.
    #[error("the token is not a line of plain characters")]
    BadToken,
    /// There was no answer.
    #[error("the controller does not answer")]
    NoAnswer(#[from] hyper_util::client::legacy::Error),
}

impl HttpClient {
    pub(super) fn new(token: Option<Token>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, token }
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, HttpError> {
        let read;
        let token = match &self.token {
            None => return Ok(None),
            Some(Token::Fixed(token)) => token.expose(),
            Some(Token::File(path)) => {
                let no_token = |source| HttpError::NoToken { path: path.clone(), source };
                read = tokio::fs::read_to_string(path).await.map_err(no_token)?;
                read.trim()
            }
        };
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| HttpError::BadToken)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Sends one request to `controller`. `path` begins with `/v1`.
    pub(super) async fn send(
        &self,
        controller: &Controller,
        method: Method,
        path: &str,
        headers: &[(header::HeaderName, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, HttpError> {
        let Controller { authority, prefix } = controller;
        let uri = Uri::builder()
            .scheme("http")
            .authority(authority.clone())
            .path_and_query(format!("{prefix}{path}"))
            .build()?;
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if let Some(authorization) = self.authorization().await? {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        Ok(self.client.request(request.body(Full::new(body))?).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controllers_address_is_read_as_it_is_written() {
        for (text, shown) in [
            ("http://controller:9090", "http://controller:9090"),
            ("http://controller:9090/", "http://controller:9090"),
            ("http://[::1]:9090/longshore/", "http://[::1]:9090/longshore"),
        ] {
            assert_eq!(text.parse::<Controller>().unwrap().to_string(), shown);
        }
        for address in ["10.0.0.1:9090", "[fd00::1]:9090"] {
            assert_eq!(Controller::at(address.parse().unwrap()).to_string(), format!("http://{address}"));
        }
        for bad in ["", "controller:9090", "https://controller", "http://", "http://c/?x=1", "ftp://c", "/x"] {
            assert!(bad.parse::<Controller>().is_err(), "{bad}");
        }
    }

    #[test]
    fn i8_a_password_is_refused_and_not_shown() {
        let error = "http://user:hunter2@controller:9090".parse::<Controller>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let client = HttpClient::new(Some(Token::Fixed(Secret::new("hunter2"))));
        assert!(!format!("{client:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn i8_a_token_that_cannot_be_sent_is_not_shown_in_the_error() {
        let client = HttpClient::new(Some(Token::Fixed(Secret::new("hunter2\n"))));
        let error = client.authorization().await.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let client = HttpClient::new(Some(Token::File("/nowhere/token".into())));
        assert_eq!(client.authorization().await.unwrap_err().to_string(), "the token in /nowhere/token cannot be read");
    }
}

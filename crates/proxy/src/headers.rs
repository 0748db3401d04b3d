//! Which headers pass, in both directions.

use http::header::{self, HeaderMap, HeaderName};

/// What served a request: `<name>@<first 12 hex digits of the digest>`. On answers by an adapter, and only there.
pub(crate) const SERVED_BY: HeaderName = HeaderName::from_static("x-longshore-adapter");
/// Ties the log lines of client, router and engine together.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// W3C Trace Context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Headers that speak of one connection (RFC 9110, section 7.6.1), besides those that `Connection` names.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What of a request does not reach the engine, besides. Length and host are made anew; the proxy has answered `Expect`
/// by reading the body; and the last is how vLLM's SageMaker paths name an adapter, which is not for clients to say twice.
const NOT_FORWARDED: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::HOST,
    header::EXPECT,
    SERVED_BY,
    HeaderName::from_static("x-amzn-sagemaker-adapter-identifier"),
];

/// The headers of a request as the engine gets them.
pub(crate) fn for_engine(mut headers: HeaderMap) -> HeaderMap {
    strip_hop_by_hop(&mut headers);
    for name in &NOT_FORWARDED {
        headers.remove(name);
    }
    headers
}

/// Makes an engine's headers fit for the client. What the engine says of `x-longshore-adapter` is not believed.
pub(crate) fn for_client(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(SERVED_BY);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_speaks_of_one_connection_stays_there() {
        let sent = headers(&[
            ("connection", "close, X-Private"),
            ("connection", "x-second"),
            ("x-private", "1"),
            ("x-second", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic eA=="),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("host", "router"),
            ("content-length", "7"),
            ("authorization", "Bearer t"),
            ("x-kept", "a"),
            ("x-kept", "b"),
        ]);
        assert_eq!(for_engine(sent), headers(&[("authorization", "Bearer t"), ("x-kept", "a"), ("x-kept", "b")]));
    }

    #[test]
    fn i1_neither_client_nor_engine_can_say_what_served() {
        assert_eq!(
            for_engine(headers(&[("X-Longshore-Adapter", "a@b"), ("X-Amzn-SageMaker-Adapter-Identifier", "a")])),
            headers(&[])
        );
        let mut answer = headers(&[("x-longshore-adapter", "a@b"), ("content-length", "3")]);
        for_client(&mut answer);
        assert_eq!(answer, headers(&[("content-length", "3")]));
    }
}

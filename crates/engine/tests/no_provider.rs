//! In a process of its own, which installs no TLS provider.

#[test]
fn a_client_without_a_tls_provider_is_an_error_and_no_panic() {
    let error = longshore_engine::http_client().unwrap_err();
    assert_eq!(error.to_string(), "this process has installed no rustls provider");
    assert_eq!(error.reason(), "Misconfigured");
}

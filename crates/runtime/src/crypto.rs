//! Which cryptography TLS uses.

/// Makes `ring` the process's TLS provider. Call it first thing in every `main`, and in every test that builds an HTTP
/// client: without a provider such a client panics when it is built. Calling it again does nothing.
pub fn install() {
    // The error only says that a provider is installed already, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    #[test]
    fn installing_twice_leaves_one_provider() {
        super::install();
        super::install();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}

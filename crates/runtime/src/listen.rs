//! Where a server listens.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

use crate::Error;

/// An address to listen on: `host:port`, `[ipv6]:port`, or `:port` for all interfaces as Go programs write it. Port 0
/// takes any free port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    host: Option<String>,
    port: u16,
}

impl Listen {
    /// Whether only this machine can connect.
    pub fn is_loopback(&self) -> bool {
        let host = self.host.as_deref().map(|host| host.trim_matches(['[', ']']));
        host.is_some_and(|host| host == "localhost" || host.parse().is_ok_and(|host: IpAddr| host.is_loopback()))
    }

    /// Begins to listen. `flag` is the flag that the address comes from; the error tells people to change it.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(&self, flag: &'static str) -> Result<TcpListener, Error> {
        self.try_bind().await.map_err(|source| Error::Bind { address: self.to_string(), flag, source })
    }

    async fn try_bind(&self) -> io::Result<TcpListener> {
        if let Some(host) = &self.host {
            return TcpListener::bind((host.as_str(), self.port)).await;
        }
        // All interfaces: one IPv6 socket takes IPv4 as well. Where the kernel has no IPv6, IPv4 alone. Any other
        // failure must not fall through: a port that is in use on IPv6 would then seem to work and answer half the world.
        match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, self.port))).await {
            Err(error) if no_ipv6(&error) => {
                TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port))).await
            }
            bound => bound,
        }
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self { host: Some(address.ip().to_string()), port: address.port() }
    }
}

impl FromStr for Listen {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::Address { text: text.chars().take(64).collect() };
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let port = port.parse().map_err(|_| invalid())?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                let ip: Ipv6Addr = inner.strip_suffix(']').and_then(|ip| ip.parse().ok()).ok_or_else(invalid)?;
                Some(ip.to_string())
            }
            None if host.is_empty() => None,
            // A bare IPv6 address cannot be told from one with a port.
            None if host.contains(':') || host.contains(char::is_whitespace) => return Err(invalid()),
            None => Some(host.to_owned()),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => write!(f, ":{}", self.port),
            Some(host) if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in [":8081", "127.0.0.1:0", "localhost:9090", "[::1]:8080", "0.0.0.0:65535"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "8081", "localhost", "localhost:", ":65536", "::1:80", "[::1]", "[x]:1", "[::1:80", "a b:1"] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.to_string().contains("host:port"), "{text}: {error}");
            assert_eq!(error.reason(), "InvalidAddress");
        }
    }

    #[tokio::test]
    async fn a_port_in_use_says_which_flag_to_change() {
        let first = "127.0.0.1:0".parse::<Listen>().unwrap().bind("--admin").await.unwrap();
        let taken = Listen::from(first.local_addr().unwrap());
        let error = taken.bind("--admin").await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {taken}: port in use: choose another with --admin"));
        assert_eq!(error.reason(), "BindFailed");
        assert!(error.is_transient());
    }

    #[tokio::test]
    async fn an_address_of_another_machine_says_so() {
        // 192.0.2.0/24 is set aside for documentation (RFC 5737), so no machine has an address in it.
        let error = "192.0.2.1:0".parse::<Listen>().unwrap().bind("--listen").await.unwrap_err();
        assert!(error.to_string().ends_with("choose another with --listen"), "{error}");
        assert!(!error.is_transient());
    }
}

//! Which addresses may be reached.
//!
//! Whoever declares an adapter says what is fetched, from inside the cluster and with its address. So what only machines of
//! the cluster may talk to is not talked to on their word: a cloud's metadata service hands out the node's own credentials.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::error::Error;

/// What may be reached beside public addresses.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Whether loopback and private addresses may be reached on anybody's word.
    pub private: bool,
    /// Hosts, as `host:port`, that a person has configured: they may be private.
    pub trusted: BTreeSet<String>,
}

impl Reach {
    /// Trusts the host of `url` with its port.
    pub(crate) fn trust(&mut self, url: &Url) {
        self.trusted.extend(authority(url));
    }

    pub(crate) fn is_trusted(&self, url: &Url) -> bool {
        authority(url).is_some_and(|authority| self.trusted.contains(&authority))
    }

    /// Refuses a URL whose host is an address that may not be reached. Names are looked at when they are resolved.
    pub(crate) fn admit(&self, url: &Url) -> Result<(), Error> {
        self.admit_as(url, self.is_trusted(url))
    }

    /// The same, where somebody else knows whether a person has configured its host.
    pub(crate) fn admit_as(&self, url: &Url, trusted: bool) -> Result<(), Error> {
        let host = url.host_str().unwrap_or_default();
        match host.trim_matches(['[', ']']).parse() {
            Ok(address) => self.judge(host, address, trusted).map_err(Error::from),
            Err(_) => Ok(()),
        }
    }

    /// Of the addresses that a name stands for, those that may be reached.
    fn admissible(
        &self,
        host: &str,
        found: impl IntoIterator<Item = SocketAddr>,
        trusted: bool,
    ) -> Result<Vec<SocketAddr>, Refused> {
        let (mut good, mut refused) = (Vec::new(), None);
        for address in found {
            match self.judge(host, address.ip(), trusted) {
                Ok(()) => good.push(address),
                Err(why) => refused = Some(why),
            }
        }
        match refused {
            Some(refused) if good.is_empty() => Err(refused),
            _ => Ok(good),
        }
    }

    fn judge(&self, host: &str, address: IpAddr, trusted: bool) -> Result<(), Refused> {
        let (kind, advice) = match kind_of(address) {
            Kind::Public => return Ok(()),
            Kind::Private(_) if trusted || self.private => return Ok(()),
            Kind::Private(kind) => (kind, "it is only reached where --allow-private-addresses says so"),
            Kind::Never(kind) => (kind, "it is never reached"),
        };
        Err(Refused { host: host.to_owned(), address, kind, advice })
    }
}

/// `host:port`. Names differ by neither case nor a dot at the end; the parser has seen to the former.
pub(crate) fn authority(url: &Url) -> Option<String> {
    Some(format!("{}:{}", url.host_str()?.trim_end_matches('.'), url.port_or_known_default()?))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Public,
    Private(&'static str),
    Never(&'static str),
}

/// By the registries of special-purpose addresses (RFC 6890 and its successors).
fn kind_of(address: IpAddr) -> Kind {
    match address {
        IpAddr::V4(v4) => kind_of_v4(v4),
        IpAddr::V6(v6) => kind_of_v6(v6),
    }
}

fn kind_of_v4(address: Ipv4Addr) -> Kind {
    match address.octets() {
        [169, 254, ..] => Kind::Never("a link-local address"),
        // Alibaba's, Oracle's and Azure's; the last hands out a machine's own keys and looks like a public address.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => Kind::Never("a cloud's metadata service"),
        [0, ..] => Kind::Never("an address of no host"),
        [224..=239, ..] => Kind::Never("a multicast address"),
        [240..=255, ..] => Kind::Never("a reserved address"),
        [127, ..] => Kind::Private("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Kind::Private("a private address"),
        [100, 64..=127, ..] => Kind::Private("a shared private address"),
        [192, 0, 0, _] | [198, 18..=19, ..] => Kind::Private("a special-purpose address"),
        _ => Kind::Public,
    }
}

fn kind_of_v6(address: Ipv6Addr) -> Kind {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Kind::Never("an address of no host"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Private("a loopback address"),
        // Addresses that stand for an IPv4 one: compatible, mapped, translated, by NAT64 and by 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => kind_of_v4(embedded(high, low)),
        // NAT64 of a site's own: what it leads to counts, and it is the site's.
        [0x64, 0xff9b, 1, .., high, low] => match kind_of_v4(embedded(high, low)) {
            never @ Kind::Never(_) => never,
            _ => Kind::Private("a special-purpose address"),
        },
        // Amazon's services for its own machines, Google's metadata service, Scaleway's.
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] | [0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42] => {
            Kind::Never("a cloud's metadata service")
        }
        [first, ..] if first & 0xffc0 == 0xfe80 => Kind::Never("a link-local address"),
        [first, ..] if first & 0xff00 == 0xff00 => Kind::Never("a multicast address"),
        [first, ..] if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 => Kind::Private("a private address"),
        // Protocols' own, Teredo's tunnels among them, and segment routing.
        [0x2001, 0..=0x1ff, ..] | [0x5f00, ..] => Kind::Private("a special-purpose address"),
        _ => Kind::Public,
    }
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

/// Resolves names, and gives no address out that may not be reached: what was looked at is what is connected to.
pub(crate) struct Resolver {
    pub(crate) reach: Arc<Reach>,
    pub(crate) trusting: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, trusting) = (self.reach.clone(), self.trusting);
        Box::pin(async move {
            let host = name.as_str().to_owned();
            // The port is the connector's business.
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(Box::new(reach.admissible(&host, found, trusting)?.into_iter()) as Addrs)
        })
    }
}

/// Why an address is not connected to, on its way through the client.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{host} is at {address}, which is {kind}: {advice}")]
pub(crate) struct Refused {
    host: String,
    address: IpAddr,
    kind: &'static str,
    advice: &'static str,
}

impl From<Refused> for Error {
    fn from(Refused { host, address, kind, advice }: Refused) -> Self {
        Self::AddressRefused { host, address: address.to_string(), kind, advice }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(reach: &Reach, url: &str) -> bool {
        reach.admit(&url.parse().unwrap()).is_ok()
    }

    #[test]
    fn nobody_reaches_a_metadata_service() {
        let reach = Reach { private: true, trusted: ["169.254.169.254:80".into()].into() };
        for never in [
            "http://169.254.169.254/latest/meta-data",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[fe80::1]/",
            "http://[::ffff:0:169.254.169.254]/",
            "http://[::169.254.169.254]/",
            "http://[64:ff9b:1::a9fe:a9fe]/",
            "http://[fd00:ec2::254]/",
            "http://[fd00:ec2::23]/",
            "http://[fd20:ce::254]/",
            "http://[fd00:42::42]/",
            "http://168.63.129.16/",
            "http://192.0.0.192/",
            "http://100.100.100.200/",
            "http://0.0.0.0/",
            "http://0/",
            "http://2852039166/",
            "http://0xa9.0xfe.0xa9.0xfe/",
            "http://[::]/",
            "http://[::2]/",
            "http://169.254.169.254./",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
        ] {
            assert!(!admitted(&reach, never), "{never}");
        }
    }

    #[test]
    fn private_addresses_are_reached_where_somebody_says_so() {
        let (wary, open) = (Reach::default(), Reach { private: true, ..Reach::default() });
        let mut trusting = Reach::default();
        trusting.trust(&"http://10.1.2.3:9000".parse().unwrap());
        for private in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "127.1",
            "017700000001",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "[::1]",
            "[fc00::1]",
            "[fec0::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:0:10.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b:1::8.8.8.8]",
            "[2002:a00:1::]",
            "[2001::1]",
        ] {
            let url = format!("http://{private}/x");
            assert!(!admitted(&wary, &url) && admitted(&open, &url), "{url}");
            assert!(!admitted(&trusting, &url), "{url}: another port is another server");
        }
        assert!(admitted(&trusting, "http://10.1.2.3:9000/bucket"));
        for public in ["http://192.0.2.1/", "http://8.8.8.8/", "http://[2606:4700::1]/", "http://[64:ff9b::8.8.8.8]/"] {
            assert!(admitted(&wary, public), "{public}");
        }
    }

    #[test]
    fn of_several_addresses_those_are_left_that_may_be_reached() {
        let found = ["10.0.0.1:0", "8.8.8.8:0", "169.254.169.254:0", "[::1]:0", "[2606:4700::1]:0"];
        let found = found.map(|address| address.parse().unwrap());
        let left = |reach: &Reach, trusted| -> Vec<String> {
            let left = reach.admissible("host", found, trusted).unwrap();
            left.iter().map(|address| address.ip().to_string()).collect()
        };
        let (wary, open) = (Reach::default(), Reach { private: true, ..Reach::default() });
        assert_eq!(left(&wary, false), ["8.8.8.8", "2606:4700::1"]);
        assert_eq!(left(&open, false), ["10.0.0.1", "8.8.8.8", "::1", "2606:4700::1"]);
        assert_eq!(left(&wary, true), left(&open, false));
        let refused = wary.admissible("metadata.internal", [found[2]], true).unwrap_err();
        assert_eq!(
            Error::from(refused).to_string(),
            "metadata.internal is at 169.254.169.254, which is a link-local address: it is never reached"
        );
        assert!(wary.admissible("host", [], false).unwrap().is_empty());
    }

    #[test]
    fn a_trusted_host_is_trusted_by_name_and_port() {
        let mut reach = Reach::default();
        reach.trust(&"https://Hub.Internal/path".parse().unwrap());
        let trusted = |url: &str| reach.is_trusted(&url.parse().unwrap());
        assert!(
            trusted("https://hub.internal/")
                && trusted("https://hub.internal:443/x")
                && trusted("https://hub.internal./")
        );
        assert!(!trusted("http://hub.internal/") && !trusted("https://hub.internal:444/"));
        assert!(!trusted("https://x.hub.internal/") && !trusted("https://hub.internal.evil.example/"));
    }

    #[tokio::test]
    async fn a_name_is_refused_by_what_it_stands_for() {
        let resolve = |private| {
            let reach = Arc::new(Reach { private, ..Reach::default() });
            Resolver { reach, trusting: false }.resolve("localhost".parse().unwrap())
        };
        assert!(resolve(true).await.is_ok());
        let Err(error) = resolve(false).await else { panic!("localhost is not public") };
        assert!(error.to_string().contains("loopback"), "{error}");
    }
}

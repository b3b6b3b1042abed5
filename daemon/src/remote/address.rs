//! Which addresses may be connected to: a pure rule, so that it can be tried on every kind of address.
//!
//! A registry is wherever the user says that it is. What a registry *names* (a redirect, a token realm, an upload
//! location) is somebody else's word, and could point this machine at services that trust it because it is near: a
//! cloud's metadata service, a database on loopback, a router's page. So a registry's word leads outward only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How near an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nearness {
    /// Never connected to: link-local (cloud metadata lives there), unspecified, multicast, broadcast, reserved.
    Never,
    /// This machine.
    Loopback,
    /// This site: RFC 1918, RFC 6598 (shared by carriers and clouds), unique local, site-local, benchmark networks.
    Private,
    /// Everywhere else.
    Public,
}

/// How far inward a connection may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// Public addresses only.
    Public,
    /// Private ones too.
    Private,
    /// Loopback ones too.
    Anywhere,
}

impl Reach {
    /// Says whether `address` may be connected to.
    pub(super) fn permits(self, address: IpAddr) -> bool {
        match nearness(address) {
            Nearness::Never => false,
            Nearness::Public => true,
            Nearness::Private => matches!(self, Self::Private | Self::Anywhere),
            Nearness::Loopback => matches!(self, Self::Anywhere),
        }
    }

    /// Returns how far inward an answer from `peer` may lead: where that is itself, and no nearer.
    ///
    /// It is the address that the answer came from: what its name is said to be at now may be another one, which is how a
    /// rebinding name server would bring a far registry near.
    pub(super) fn led_by(peer: Option<SocketAddr>) -> Self {
        match peer.map(|peer| nearness(peer.ip())) {
            Some(Nearness::Loopback) => Self::Anywhere,
            Some(Nearness::Private) => Self::Private,
            Some(Nearness::Public | Nearness::Never) | None => Self::Public,
        }
    }
}

/// Says that an address was not connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAddress {
    /// The host as it was named.
    pub host: String,
    /// One of its addresses.
    pub address: IpAddr,
}

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match nearness(self.address) {
            Nearness::Never => "a link-local or reserved address",
            Nearness::Loopback => "a loopback address",
            Nearness::Private => "a private address",
            Nearness::Public => "an address",
        };
        if self.host == self.address.to_string() {
            write!(f, "{} is {kind}", self.host)
        } else {
            write!(f, "{} is at {}, {kind}", self.host, self.address)
        }
    }
}

impl std::error::Error for RefusedAddress {}

/// Says how near an address is; one that carries another (mapped, translated, tunnelled) is as near as that one.
pub(super) fn nearness(address: IpAddr) -> Nearness {
    match address {
        IpAddr::V4(address) => nearness_v4(address),
        IpAddr::V6(address) => nearness_v6(address),
    }
}

/// The IANA IPv4 Special-Purpose Address Registry (RFC 6890).
fn nearness_v4(address: Ipv4Addr) -> Nearness {
    match address.octets() {
        [127, ..] => Nearness::Loopback,
        // 0.0.0.0/8 is this host to some systems; 240.0.0.0/4 has the broadcast address.
        [0 | 224..=255, ..] | [169, 254, ..] => Nearness::Never,
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Nearness::Private,
        // IETF protocol assignments, benchmarking, and the three nets for documentation.
        [192, 0, 0, _] | [198, 18..=19, ..] => Nearness::Private,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Nearness::Private,
        _ => Nearness::Public,
    }
}

/// The IANA IPv6 Special-Purpose Address Registry (RFC 6890).
fn nearness_v6(address: Ipv6Addr) -> Nearness {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        nearness_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Nearness::Loopback,
        [0, 0, 0, 0, 0, 0, 0, 0] => Nearness::Never,
        // ::ffff:0:0/96 mapped, ::ffff:0:0:0/96 translated (SIIT), ::/96 compatible, 64:ff9b::/96 translated (NAT64).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // 2002::/16, 6to4.
        [0x2002, high, low, ..] => embedded(high, low),
        // 64:ff9b:1::/48 is translated by a local rule; 2001::/32, Teredo, hides a client's address.
        [0x64, 0xff9b, ..] | [0x2001, 0, ..] => Nearness::Never,
        [0x2001, 0xdb8, ..] => Nearness::Private,
        [first, ..] => match first {
            0xfe80..=0xfebf | 0xff00..=0xffff => Nearness::Never,
            0xfc00..=0xfdff | 0xfec0..=0xfeff => Nearness::Private,
            // Only 2000::/3 is given out for global use.
            0x2000..=0x3fff => Nearness::Public,
            _ => Nearness::Never,
        },
    }
}

/// Returns the address that a URL's host is, where it is one rather than a name.
///
/// The URL standard has already brought `0x7f.1`, `2130706433` and `127.1` into dotted form.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.parse().ok()
}

/// Says whether a host, without its port, is this machine by its very spelling.
pub(super) fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || literal(host).is_some_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Nearness {
        nearness(text.parse().expect(text))
    }

    #[test]
    fn every_kind_of_address() {
        for (expected, addresses) in [
            (Nearness::Loopback, &["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"][..]),
            (Nearness::Loopback, &["2002:7f00:1::", "::127.0.0.1", "::ffff:0:127.0.0.1"]),
            (Nearness::Private, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1"]),
            (Nearness::Private, &["100.127.255.255", "100.100.100.200", "198.18.0.1", "192.0.0.192", "203.0.113.1"]),
            (Nearness::Private, &["fc00::1", "fd00:ec2::254", "fec0::1", "::ffff:10.1.2.3", "64:ff9b::10.0.0.1"]),
            (Nearness::Private, &["2002:a00:1::1", "2001:db8::1"]),
            (Nearness::Never, &["0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "240.0.0.1", "255.255.255.255"]),
            (Nearness::Never, &["::", "fe80::1", "febf::1", "ff02::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]),
            (Nearness::Never, &["::ffff:0.0.0.0", "64:ff9b:1::1", "2001::1", "100::1", "4000::1", "2002:a9fe:a9fe::"]),
            (Nearness::Public, &["8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1"]),
            (Nearness::Public, &["2606:4700::1111", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]),
        ] {
            for address in addresses {
                assert_eq!(of(address), expected, "{address}");
            }
        }
    }

    #[test]
    fn what_each_reach_permits() {
        for (address, public, private, anywhere) in [
            ("8.8.8.8", true, true, true),
            ("10.0.0.1", false, true, true),
            ("127.0.0.1", false, false, true),
            ("169.254.169.254", false, false, false),
            ("fe80::1", false, false, false),
            ("0.0.0.0", false, false, false),
        ] {
            let address = address.parse().expect(address);
            let permitted = [Reach::Public, Reach::Private, Reach::Anywhere].map(|reach| reach.permits(address));
            assert_eq!(permitted, [public, private, anywhere], "{address}");
        }
    }

    #[test]
    fn an_answer_leads_no_nearer_than_it_came_from() {
        for (peer, expected) in [
            ("8.8.8.8:443", Reach::Public),
            ("10.0.0.1:443", Reach::Private),
            ("127.0.0.1:5000", Reach::Anywhere),
            ("[::1]:5000", Reach::Anywhere),
            ("[::ffff:10.0.0.1]:443", Reach::Private),
            ("[2606:4700::1111]:443", Reach::Public),
            ("169.254.1.1:80", Reach::Public),
        ] {
            assert_eq!(Reach::led_by(Some(peer.parse().expect(peer))), expected, "{peer}");
        }
        assert_eq!(Reach::led_by(None), Reach::Public);
    }

    #[test]
    fn addresses_in_disguise_are_seen_through() {
        for text in
            ["http://0x7f.1/", "http://2130706433/", "http://127.1/", "http://0177.0.0.1/", "http://[::ffff:7f00:1]/"]
        {
            let url = reqwest::Url::parse(text).expect(text);
            let address = url.host_str().and_then(literal).expect(text);
            assert_eq!(nearness(address), Nearness::Loopback, "{text}");
        }
    }

    #[test]
    fn loopback_by_spelling() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("localhost.example.org", false),
            ("127.0.0.1.example.org", false),
            ("10.0.0.1", false),
        ] {
            assert_eq!(is_loopback_host(host), expected, "{host}");
        }
    }
}

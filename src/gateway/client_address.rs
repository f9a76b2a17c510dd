//! Whose request it is: the peer, or whom a trusted proxy names.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::settings::ProxyRule;

/// The client's address. `X-Forwarded-For` counts only when the peer is a trusted proxy; from its right end the first
/// address that is none is the client's, since everything to the left of it may be made up.
pub fn client_address<'a>(
    peer: Option<SocketAddr>,
    forwarded_for: impl DoubleEndedIterator<Item = &'a str>,
    trusts_proxy: &ProxyRule,
) -> IpAddr {
    let mut client = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip().to_canonical());
    for hop in forwarded_for.rev().flat_map(|line| line.rsplit(',')) {
        if !trusts_proxy(client) {
            return client;
        }
        // What is no address hides the client: the proxy that passed it on is the last known.
        let Some(address) = parse(hop.trim()) else { return client };
        client = address;
    }
    client
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn parse(hop: &str) -> Option<IpAddr> {
    let unbracketed = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    let address = unbracketed.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let rule: ProxyRule = Arc::new(|ip| ip.to_string().starts_with("10."));
        let cases: &[(&str, &[&str], &str)] = &[
            ("1.2.3.4:5", &[], "1.2.3.4"),
            ("1.2.3.4:5", &["9.9.9.9"], "1.2.3.4"),
            ("10.0.0.1:5", &["9.9.9.9"], "9.9.9.9"),
            ("10.0.0.1:5", &["8.8.8.8, 9.9.9.9, 10.0.0.2"], "9.9.9.9"),
            ("10.0.0.1:5", &["8.8.8.8", "9.9.9.9"], "9.9.9.9"),
            ("10.0.0.1:5", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1:5", &["8.8.8.8, unknown"], "10.0.0.1"),
            ("10.0.0.1:5", &["8.8.8.8, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1:5", &[""], "10.0.0.1"),
            ("10.0.0.1:5", &["9.9.9.9:1234"], "9.9.9.9"),
            ("10.0.0.1:5", &["[2001:db8::1]:1234"], "2001:db8::1"),
            ("10.0.0.1:5", &["2001:db8::1"], "2001:db8::1"),
            ("[::ffff:10.0.0.1]:5", &["[2001:db8::1]"], "2001:db8::1"),
        ];
        for (peer, lines, expected) in cases {
            let client = client_address(Some(peer.parse().unwrap()), lines.iter().copied(), &rule);
            assert_eq!(client.to_string(), *expected, "{peer} {lines:?}");
        }
        assert_eq!(client_address(None, [].into_iter(), &rule), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
}

//! `host:port`, checked and compared without DNS.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A checked address. Equal addresses have the same host and port, however they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// In lower case, because DNS ignores case, and without the trailing dot that keeps a resolver from
    /// searching.
    Name(String),
}

impl Address {
    /// Whether this is `0.0.0.0` or `[::]`: all addresses of a machine to listen on, and no address to
    /// connect to.
    pub(crate) fn is_unspecified(&self) -> bool {
        matches!(self.host, Host::Ip(ip) if ip.is_unspecified())
    }

    /// Whether one process cannot listen on both addresses.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        let same_host = self.host == other.host || self.is_unspecified() || other.is_unspecified();
        self.port == other.port && same_host
    }
}

impl FromStr for Address {
    /// What is wrong. An error message puts it behind the address.
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return Err("has a scheme");
        }
        let (host, port) = text.rsplit_once(':').ok_or("has no port")?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let ip = rest.strip_suffix(']').ok_or("lacks a bracket")?;
                let ip: Ipv6Addr = ip.parse().map_err(|_| "has no IPv6 address in brackets")?;
                Host::Ip(ip.into())
            }
            None if host.is_empty() => return Err("has no host"),
            None if host.contains(':') => return Err("has an IPv6 address without brackets"),
            None => match host.parse() {
                Ok(ip) => Host::Ip(IpAddr::V4(ip)),
                Err(_) if is_name(relative(host)) => {
                    Host::Name(relative(host).to_ascii_lowercase())
                }
                Err(_) => return Err("has a host that is neither a DNS name nor an IP address"),
            },
        };
        // `parse` alone accepts "+1".
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port > 0);
        let port = port.ok_or("has no port from 1 to 65535")?;
        Ok(Self { host, port })
    }
}

/// `host` without the trailing dot of an absolute DNS name.
fn relative(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether `host` can be a DNS name. Underscores are legal here, because container networks use them.
fn is_name(host: &str) -> bool {
    let labels = || host.split('.');
    let is_label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(legal)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in a number is a malformed IP address, such as 10.0.0.256.
    let ends_in_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    host.len() <= 253 && labels().all(is_label) && !labels().next_back().is_some_and(ends_in_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse()
            .unwrap_or_else(|problem| panic!("{text} {problem}"))
    }

    #[test]
    fn names_and_ips_are_addresses() {
        for text in [
            "kvstore-1:7379",
            "kv_1.default.svc.cluster.local:1",
            "3com.example:65535",
            "kvstore-1.example.:7379",
            "127.0.0.1:6379",
            "0.0.0.0:6379",
            "[::1]:6379",
            "[2001:db8::7]:6379",
        ] {
            address(text);
        }
    }

    #[test]
    fn an_invalid_address_is_refused_with_the_reason() {
        let label = "a".repeat(64);
        let name = ["a"; 128].join(".");
        for (text, problem) in [
            ("", "has no port"),
            ("kvstore-1", "has no port"),
            ("http://kvstore-1:7379", "has a scheme"),
            (":7379", "has no host"),
            ("::1:7379", "has an IPv6 address without brackets"),
            ("[::1:7379", "lacks a bracket"),
            ("[kvstore-1]:7379", "has no IPv6 address in brackets"),
            ("[127.0.0.1]:7379", "has no IPv6 address in brackets"),
            ("kvstore-1:", "has no port from 1 to 65535"),
            ("kvstore-1:0", "has no port from 1 to 65535"),
            ("kvstore-1:65536", "has no port from 1 to 65535"),
            ("kvstore-1:+1", "has no port from 1 to 65535"),
            ("kvstore-1:http", "has no port from 1 to 65535"),
            ("kvstore-1:7379/", "has no port from 1 to 65535"),
        ] {
            assert_eq!(text.parse::<Address>(), Err(problem), "{text}");
        }
        for host in [
            "kv store",
            "-kv",
            "kv-",
            "kv..a",
            "kv..",
            ".",
            "10.0.0.256",
            "1",
            &label,
            &name,
        ] {
            let problem = "has a host that is neither a DNS name nor an IP address";
            assert_eq!(
                format!("{host}:1").parse::<Address>(),
                Err(problem),
                "{host}"
            );
        }
    }

    #[test]
    fn the_same_address_written_twice_is_equal() {
        assert_eq!(address("KVstore-1:7379"), address("kvstore-1:07379"));
        assert_eq!(address("kvstore-1.:7379"), address("kvstore-1:7379"));
        assert_eq!(address("[::1]:1"), address("[0:0:0:0:0:0:0:1]:1"));
        assert_ne!(address("kvstore-1:1"), address("kvstore-1:2"));
        assert_ne!(address("127.0.0.1:1"), address("localhost:1"));
    }

    #[test]
    fn a_port_is_listened_on_once() {
        for (left, right, clash) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("kvstore-1:1", "[::]:1", true),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "0.0.0.0:2", false),
        ] {
            assert_eq!(
                address(left).clashes(&address(right)),
                clash,
                "{left} {right}"
            );
        }
    }
}

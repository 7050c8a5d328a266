//! Where other servers are reached: every founder, at something that can be an address, and whoever
//! else is named. May not look names up: they may be known only later.

use std::collections::BTreeMap;

use quorate_control::members::Members;

use crate::runtime::MULTICAST;

/// What is wrong with the addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// A MASTER that cannot be reached.
    #[error("dial: no address for MASTER '{0}'; give --dial {0}=HOST:PORT, or `dial:` in the file")]
    Missing(String),
    /// A server that others have to reach.
    #[error(
        "peer: other servers cannot reach this one at {0}; give --advertise HOST:PORT, or \
         `advertise:` in the file"
    )]
    Unreachable(std::net::SocketAddr),
    /// Nowhere to join.
    #[error("join: '{address}' is no address: {reason}; give --join HOST:PORT or --join multicast")]
    Seed {
        /// As given.
        address: String,
        /// Why not.
        reason: String,
    },
    /// Nowhere to be reached.
    #[error("advertise: '{address}' is no address: {reason}; give --advertise HOST:PORT")]
    Advertised {
        /// As given.
        address: String,
        /// Why not.
        reason: String,
    },
    /// It is none.
    #[error(
        "dial: '{address}' of MASTER '{name}' is no address: {reason}; give --dial \
         {name}=HOST:PORT, or `dial:` in the file"
    )]
    Address {
        /// Whose.
        name: String,
        /// As given.
        address: String,
        /// Why not.
        reason: String,
    },
}

/// Reads a flag's value; what the address is worth is seen with all settings together.
///
/// # Errors
/// No name, or nothing behind it.
pub(super) fn parse(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => {
            Ok((name.to_owned(), address.to_owned()))
        }
        _ => Err("expected NAME=HOST:PORT".to_owned()),
    }
}

/// A legal address for every founder but this one; servers that join may have one, too. Its own is
/// none that it dials, so that all servers can be given the same list.
///
/// # Errors
/// One is missing, or no address.
pub(super) fn check(
    dial: &BTreeMap<String, String>,
    members: &Members,
    own: &str,
) -> Result<(), DialError> {
    let others = || members.names().iter().filter(|name| *name != own);
    if let Some(missing) = others().find(|name| !dial.contains_key(*name)) {
        return Err(DialError::Missing(missing.clone()));
    }
    for (name, address) in dial {
        check_address(address).map_err(|reason| {
            let (name, address) = (name.clone(), address.clone());
            DialError::Address { name, address, reason }
        })?;
    }
    Ok(())
}

/// Where a server asks to be taken in, and where others reach it.
///
/// # Errors
/// One of the addresses is none.
pub(super) fn check_join(seeds: &[String], advertise: Option<&str>) -> Result<(), DialError> {
    for address in seeds.iter().filter(|seed| *seed != MULTICAST) {
        check_address(address)
            .map_err(|reason| DialError::Seed { address: address.clone(), reason })?;
    }
    advertise.map_or(Ok(()), check_address).map_err(|reason| {
        let address = advertise.unwrap_or_default().to_owned();
        DialError::Advertised { address, reason }
    })
}

fn check_address(address: &str) -> Result<(), String> {
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err("it has no port".to_owned());
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!("port '{port}' is not a number from 1 to 65535"));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match bare {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err(format!("'{host}' is no IPv6 address")),
        None if host.contains('/') => Err("it is a host and a port, no URL".to_owned()),
        None if host.contains(':') => Err("an IPv6 address stands in brackets".to_owned()),
        None if host.is_empty() => Err("it has no host".to_owned()),
        None if host.chars().all(is_host) => Ok(()),
        None => Err(format!("'{host}' is neither a name nor an IP address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_an_address_is_taken() {
        for good in ["127.0.0.1:1", "node-2.example:65535", "n_2:2434", "[::1]:2434"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for (bad, reason) in [
            ("foo:99999", "port '99999' is not a number from 1 to 65535"),
            ("foo:0", "port '0' is not"),
            ("foo:", "port '' is not"),
            ("foo:-1", "port '-1' is not"),
            ("foo:http", "port 'http' is not"),
            ("foo", "it has no port"),
            (":2434", "it has no host"),
            ("::1:2434", "an IPv6 address stands in brackets"),
            ("[::1:2434", "an IPv6 address stands in brackets"),
            ("[foo]:2434", "'[foo]' is no IPv6 address"),
            ("a b:2434", "'a b' is neither a name nor an IP address"),
            ("http://foo:2434", "it is a host and a port, no URL"),
        ] {
            let error = check_address(bad).unwrap_err();
            assert!(error.contains(reason), "{reason} in {error}");
        }
    }

    #[test]
    fn every_other_master_has_one() {
        let members: Members = "n1,n2,n3".parse().unwrap();
        let dial = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(name, at)| ((*name).to_owned(), (*at).to_owned()));
            check(&owned.collect(), &members, "n1").map_err(|error| error.to_string())
        };
        assert_eq!(dial(&[("n2", "b:1"), ("n3", "c:1")]), Ok(()));
        let missing = dial(&[("n2", "b:1")]).unwrap_err();
        assert!(missing.contains("'n3'") && missing.contains("--dial n3=HOST:PORT"), "{missing}");
        assert_eq!(dial(&[("n2", "b:1"), ("n3", "c:1"), ("n4", "d:1")]), Ok(()), "it may join");
        let all = dial(&[("n1", "a:1"), ("n2", "b:1"), ("n3", "c:1")]);
        assert_eq!(all, Ok(()), "all servers can be given the same list");
        let seeds = |seed: &str| check_join(&[seed.to_owned()], Some("a:1"));
        assert_eq!(seeds("b:1"), Ok(()));
        let bad = seeds("b").unwrap_err().to_string();
        assert!(bad.contains("'b' is no address: it has no port; give --join"), "{bad}");
        let bad = check_join(&[], Some("a:x")).unwrap_err().to_string();
        assert!(bad.contains("'a:x' is no address") && bad.contains("--advertise"), "{bad}");
        let bad = dial(&[("n2", "foo:99999"), ("n3", "c:1")]).unwrap_err();
        for part in ["dial:", "'foo:99999'", "'n2'", "1 to 65535", "--dial n2=HOST:PORT"] {
            assert!(bad.contains(part), "{part} in {bad}");
        }
    }
}

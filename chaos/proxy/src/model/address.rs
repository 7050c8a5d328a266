//! Listen and upstream addresses as clients write them.
//! Resolves names for listening; dialling resolves its own at each attempt.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Refusal;

/// Splits `host:port`, with brackets round an IPv6 host taken off.
///
/// # Errors
/// `Invalid` when the port is absent or not a number below 65,536.
fn split<'a>(what: &str, address: &'a str) -> Result<(&'a str, u16), Refusal> {
    let bad = || Refusal::Invalid(format!("{what}: {address:?} is not host:port"));
    let (host, port) = address.rsplit_once(':').ok_or_else(bad)?;
    let port = port.parse::<u16>().map_err(|_| bad())?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    Ok((host, port))
}

/// Checks that an upstream address can be dialled at all: a host and a non-zero port.
///
/// # Errors
/// `Invalid` saying what is wrong with it.
pub(crate) fn check_upstream(address: &str) -> Result<(), Refusal> {
    let (host, port) = split("upstream", address)?;
    if host.is_empty() || port == 0 {
        let problem = format!("upstream: {address:?} needs a host and a port above 0");
        return Err(Refusal::Invalid(problem));
    }
    Ok(())
}

/// Resolves where to listen. An empty address is any free port of loopback, an empty host is
/// every IPv4 interface; of a name's addresses the first IPv4 one is taken, else the first.
///
/// # Errors
/// `Invalid` when it is not `host:port` or the name does not resolve.
pub(crate) async fn resolve_listen(address: &str) -> Result<SocketAddr, Refusal> {
    if address.is_empty() {
        return Ok((Ipv4Addr::LOCALHOST, 0).into());
    }
    let (host, port) = split("listen", address)?;
    if host.is_empty() {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((ip, port).into());
    }
    let found = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| Refusal::Invalid(format!("listen: {host}: {error}")))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| Refusal::Invalid(format!("listen: {host} has no address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listen_addresses_as_clients_write_them() {
        for (written, meant) in [
            ("", "127.0.0.1:0"),
            (":80", "0.0.0.0:80"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("[::1]:5", "[::1]:5"),
            ("localhost:7", "127.0.0.1:7"),
        ] {
            let resolved = resolve_listen(written).await.unwrap();
            assert_eq!(resolved.to_string(), meant, "{written:?}");
        }
        for bad in ["127.0.0.1", "127.0.0.1:port", "127.0.0.1:70000"] {
            assert!(resolve_listen(bad).await.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn upstream_needs_host_and_port() {
        assert!(check_upstream("node-1:2480").is_ok());
        for bad in ["node-1", ":2480", "node-1:0", "node-1:x", ""] {
            assert!(check_upstream(bad).is_err(), "{bad:?}");
        }
    }
}

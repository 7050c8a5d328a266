//! How servers of one network find each other without being told an address: each says by multicast
//! DNS (RFC 6762 and 6763) of which cluster it is and where it is reached, and one that joins asks
//! who there is of its cluster. Names are looked up here, too. May not decide who is taken in:
//! whoever is found is a seed like one that was configured, and has to know the password.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use tokio::net::lookup_host;

use super::shared::Shared;

/// In the place of a seed's address: whoever is found by multicast.
pub(crate) const MULTICAST: &str = "multicast";

/// What servers are found as.
const SERVICE: &str = "_quorate._tcp.local.";
/// Servers that are remembered: anybody may say anything on a network.
const SERVERS_MAX: usize = 1_024;
/// Longest wait for one name, while other seeds may be there.
const LOOK_UP: Duration = Duration::from_secs(2);
/// Keys of what they say of themselves.
const CLUSTER: &str = "cluster";
const ADDRESS: &str = "address";

/// Says where this server is, and hears where others are, as long as it lives.
pub(crate) struct Discovery {
    daemon: ServiceDaemon,
    cluster: String,
    /// Where this server listens for others.
    ip: IpAddr,
    others: Mutex<Others>,
}

/// Other servers of the cluster, by the name that multicast DNS has for them.
struct Others {
    events: Receiver<ServiceEvent>,
    addresses: BTreeMap<String, String>,
}

impl Discovery {
    /// Listens on the network of `ip`, which may stand for all interfaces.
    ///
    /// # Errors
    /// The system gives no socket.
    pub(crate) fn start(cluster: &str, ip: IpAddr) -> Result<Self, mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        if !ip.is_unspecified() {
            // Not on networks where nobody could reach it.
            daemon.disable_interface(IfKind::All)?;
            daemon.enable_interface(IfKind::Addr(ip))?;
        }
        let events = daemon.browse(SERVICE)?;
        let others = Mutex::new(Others { events, addresses: BTreeMap::new() });
        Ok(Self { daemon, cluster: cluster.to_owned(), ip, others })
    }

    /// Tells others where this server is, once it is in the cluster, since before that it is no
    /// seed. Ends with the server's tasks.
    pub(super) async fn announce(self: Arc<Self>, shared: Arc<Shared>) {
        let Some(address) = &shared.address else { return };
        let mut changes = shared.changes.subscribe();
        while !shared.is_member() {
            if changes.changed().await.is_err() {
                return;
            }
        }
        match self.register(&shared, address) {
            Ok(()) => tracing::info!(address, "others of the network can find this server"),
            Err(error) => tracing::warn!(%error, "others cannot find this server by multicast"),
        }
        std::future::pending().await
    }

    fn register(&self, shared: &Shared, address: &str) -> Result<(), mdns_sd::Error> {
        let port = shared.listeners.peer.map_or(0, |at| at.port());
        // The identity, because names of servers of two clusters may be the same.
        let (instance, host) = (shared.node.to_string(), format!("{}.local.", shared.node));
        let says = [("name", &shared.name[..]), (CLUSTER, &self.cluster), (ADDRESS, address)];
        let info = if self.ip.is_unspecified() {
            ServiceInfo::new(SERVICE, &instance, &host, "", port, &says[..])?.enable_addr_auto()
        } else {
            ServiceInfo::new(SERVICE, &instance, &host, self.ip, port, &says[..])?
        };
        self.daemon.register(info)
    }

    /// Where other servers of the cluster are, as far as they were heard.
    fn found(&self) -> BTreeSet<String> {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let Others { events, addresses } = &mut *others;
        // The library ends a search whose news nobody took for long.
        if events.is_disconnected() {
            match self.daemon.browse(SERVICE) {
                Ok(again) => *events = again,
                Err(error) => tracing::warn!(%error, "servers are not looked for by multicast"),
            }
        }
        for event in events.try_iter() {
            // The other events are about the search itself.
            if let ServiceEvent::ServiceResolved(service) = event {
                let said = |key| service.txt_properties.get_property_val_str(key);
                if let (Some(cluster), Some(address)) = (said(CLUSTER), said(ADDRESS))
                    && cluster == self.cluster
                    && addresses.len() < SERVERS_MAX
                {
                    addresses.insert(service.fullname.clone(), address.to_owned());
                }
            } else if let ServiceEvent::ServiceRemoved(_, name) = event {
                addresses.remove(&name);
            }
        }
        addresses.values().cloned().collect()
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        // Says goodbye, so that nobody asks a server that has gone.
        if let Err(error) = self.daemon.shutdown() {
            tracing::debug!(%error, "multicast DNS has ended already");
        }
    }
}

/// Every address that these seeds stand for now: a name may have several, and multicast whoever is
/// there. With each seed that stands for none: why.
pub(super) async fn addresses(
    seeds: &[String],
    discovery: Option<&Discovery>,
) -> (Vec<String>, Vec<(String, String)>) {
    let (mut found, mut failed) = (Vec::<String>::new(), Vec::new());
    for seed in seeds {
        if seed == MULTICAST {
            let others = discovery.map(Discovery::found).unwrap_or_default();
            if others.is_empty() {
                failed.push((seed.clone(), "no server of this cluster was heard".to_owned()));
            }
            found.extend(others);
            continue;
        }
        match tokio::time::timeout(LOOK_UP, lookup_host(seed)).await {
            Ok(Ok(addresses)) => found.extend(addresses.map(|address| address.to_string())),
            Ok(Err(error)) => failed.push((seed.clone(), error.to_string())),
            Err(late) => failed.push((seed.clone(), format!("its name is not looked up: {late}"))),
        }
    }
    (found, failed)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// FEATURES: S13
    #[tokio::test]
    async fn a_name_stands_for_all_of_its_addresses_and_multicast_for_nobody_unheard() {
        let seeds = ["127.0.0.1:1", "[::1]:2", "no-such-host.invalid:3", MULTICAST];
        let (found, failed) = addresses(&seeds.map(str::to_owned), None).await;
        assert_eq!(found, ["127.0.0.1:1", "[::1]:2"]);
        let failed: Vec<&str> = failed.iter().map(|(seed, _)| &seed[..]).collect();
        assert_eq!(failed, seeds[2..]);
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let alone = Discovery::start("nobody-is-in-this-cluster", local).unwrap();
        assert_eq!(addresses(&[MULTICAST.to_owned()], Some(&alone)).await.0, Vec::<String>::new());
    }
}

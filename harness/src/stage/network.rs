//! The links of the cluster: proxy entries, where they lead, and the rules on them as the sum of
//! the faults in force. Proof that rules bite lives in `canary.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use quorate_check::history::Nanos;

use super::extension::{CutKind, Effective, Lease, LinkState, RuleChange};
use super::node_api::Announcement;
use super::proxy_client::{Entry, EntryChange, ProxyClient};
use super::proxy_process::ProxyProcess;
use super::rules::{Rule, Rules, Sum};
use super::toxics;
use super::{Link, StageError, host};
use crate::folder::SoundnessFinding;
use crate::run::parts::Clock;

/// Where an entry leads before its server has said where it listens.
const NOWHERE: &str = "127.0.0.1:1";
/// After this time without a word from the harness the proxy heals every link.
const LEASE_TTL: Duration = Duration::from_secs(5);
/// Time between two renewals: three may be lost.
pub(crate) const LEASE_RENEWAL: Duration = Duration::from_millis(1_250);

/// The links.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) proxy: ProxyClient,
    /// The own proxy; `None` when a Toxiproxy is used that runs already.
    process: Option<ProxyProcess>,
    /// Where the proxy listens.
    near: Ipv4Addr,
    /// Where the proxy finds the harness.
    home: Ipv4Addr,
    addresses: BTreeMap<Link, SocketAddr>,
    lease: Lease,
    /// Rules by fault name, then link. One at a time changes them, so that steps do not cross.
    rules: tokio::sync::Mutex<Rules>,
    /// Links whose connections a fault has broken: their bytes need not balance to the last one.
    disturbed: Mutex<BTreeSet<Link>>,
}

impl Network {
    /// Creates an entry for each of the links; none of them listens yet, so that no byte is lost on
    /// the way to a server that is not there. `near` and `home` are the addresses of the fields.
    pub(crate) async fn establish(
        proxy: ProxyClient,
        process: Option<ProxyProcess>,
        (near, home): (Ipv4Addr, Ipv4Addr),
        links: Vec<Link>,
        seed: u64,
    ) -> Result<Self, StageError> {
        if let Some((name, entry)) = proxy.entries().await?.pop_first() {
            let toxics = entry.toxics.len();
            let reason = format!("entry {name} with {toxics} toxics is left from another run");
            return Err(StageError::NotClean(reason));
        }
        // Toxiproxy gives a port up while an entry does not listen; ours keeps a free one.
        let ports = match &process {
            Some(_) => vec![0; links.len()],
            None => host::free_ports(links.len())?,
        };
        let lease =
            Lease { holder: format!("quorate-{seed}"), ttl_ms: millis(LEASE_TTL), covers: "all" };
        let mut network = Self {
            proxy,
            process,
            near,
            home,
            addresses: BTreeMap::new(),
            lease,
            rules: tokio::sync::Mutex::default(),
            disturbed: Mutex::default(),
        };
        for (link, port) in links.into_iter().zip(ports) {
            let address = network.create(&link, port).await?;
            network.addresses.insert(link, address);
        }
        network.renew_lease().await?;
        Ok(network)
    }

    async fn create(&self, link: &Link, port: u16) -> Result<SocketAddr, StageError> {
        let entry = Entry {
            name: link.to_string(),
            listen: SocketAddr::from((self.near, port)).to_string(),
            upstream: NOWHERE.to_string(),
            enabled: false,
            toxics: Vec::new(),
        };
        let created = self.proxy.create(&entry).await?;
        created.listen.parse().map_err(|error| StageError::ProxyUnexpected {
            request: format!("creating {link}"),
            reason: format!("listens on {:?}: {error}", created.listen),
        })
    }

    /// Where the proxy listens.
    pub(crate) fn near(&self) -> Ipv4Addr {
        self.near
    }

    /// Where the proxy finds the harness.
    pub(crate) fn home(&self) -> Ipv4Addr {
        self.home
    }

    /// Where a link listens.
    pub(crate) fn address(&self, link: &Link) -> Option<SocketAddr> {
        self.addresses.get(link).copied()
    }

    /// The links between servers that run through it.
    pub(crate) fn between_servers(&self) -> Vec<Link> {
        self.addresses.keys().filter(|link| !link.is_client()).cloned().collect()
    }

    /// True when the proxy is the project's own, with cuts, fine delays and counters.
    pub(crate) fn is_own(&self) -> bool {
        self.process.is_some()
    }

    /// Leads every link to a server to where it listens now.
    pub(crate) async fn aim(&self, server: &str, said: &Announcement) -> Result<(), StageError> {
        let entries = self.proxy.entries().await?;
        for link in self.addresses.keys().filter(|link| link.to == server) {
            let target = if link.is_client() { Some(said.http) } else { said.peer };
            let upstream = target.map_or_else(|| NOWHERE.to_string(), |peer| peer.to_string());
            let name = link.to_string();
            // A change of nothing would still end the connections of some proxies.
            if entries.get(&name).is_some_and(|entry| entry.upstream == upstream) {
                continue;
            }
            let change = EntryChange { upstream: Some(upstream), enabled: None };
            self.proxy.update(&name, &change).await?;
        }
        Ok(())
    }

    /// Lets every link listen, when all of them lead somewhere.
    pub(crate) async fn open(&self) -> Result<(), StageError> {
        for link in self.addresses.keys() {
            let change = EntryChange { upstream: None, enabled: Some(true) };
            self.proxy.update(&link.to_string(), &change).await?;
        }
        Ok(())
    }

    /// Process id of the own proxy.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(ProxyProcess::pid)
    }

    /// Says so when the lease ran out in between: the proxy then healed what it should not have.
    pub(crate) async fn lease_finding(&self) -> Result<Option<SoundnessFinding>, StageError> {
        if !self.is_own() {
            return Ok(None);
        }
        let expired = self.proxy.leases_expired().await?;
        Ok((expired > 0).then(|| SoundnessFinding {
            code: "lease_expired".to_string(),
            fatal: true,
            detail: format!("the proxy heard nothing for {LEASE_TTL:?} {expired} times and healed"),
        }))
    }

    /// Tells the proxy that the harness is alive.
    async fn renew_lease(&self) -> Result<(), StageError> {
        if self.is_own() { self.proxy.renew(&self.lease).await } else { Ok(()) }
    }

    /// What it takes to tell it that again; `None` if it would not understand.
    pub(crate) fn own_lease(&self) -> Option<(ProxyClient, Lease)> {
        self.is_own().then(|| (self.proxy.clone(), self.lease.clone()))
    }

    /// The lease that every step carries.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Puts a fault's rules in force. The time is that of the one step, if it was one.
    pub(crate) async fn apply(
        &self,
        fault: &str,
        of_fault: BTreeMap<Link, Rule>,
        clock: Clock,
    ) -> Result<Nanos, StageError> {
        let mut rules = self.rules.lock().await;
        let before = rules.clone();
        let links: Vec<Link> = of_fault.keys().cloned().collect();
        let breaks = |rule: &Rule| matches!(rule, Rule::Cut(cut) if cut.kind != CutKind::Silent);
        let broken = of_fault.iter().filter(|(_, rule)| breaks(rule));
        self.disturb(&broken.map(|(link, _)| link.clone()).collect::<Vec<_>>());
        rules.insert(fault.to_string(), of_fault);
        self.change(&before, &rules, &links, clock).await
    }

    /// Takes a fault's rules off, whatever of them is in force.
    pub(crate) async fn lift(
        &self,
        fault: &str,
        links: &[Link],
        clock: Clock,
    ) -> Result<Nanos, StageError> {
        let mut rules = self.rules.lock().await;
        let before = rules.clone();
        rules.remove(fault);
        let changed = self.change(&before, &rules, links, clock).await;
        if changed.is_err() {
            // Not lifted: the next attempt must find it again.
            *rules = before;
        }
        changed
    }

    async fn change(
        &self,
        before: &Rules,
        after: &Rules,
        links: &[Link],
        clock: Clock,
    ) -> Result<Nanos, StageError> {
        let mut changes = Vec::new();
        for link in links {
            let (old, new) = (Sum::of(before, link), Sum::of(after, link));
            if self.is_own() {
                let name = vec![link.to_string()];
                let (cut, delay) = (Some(new.cut), Some(new.fine()));
                changes.push(RuleChange { links: name, cut, delay });
            } else if old.cut != new.cut {
                let enabled = Some(new.cut.is_none());
                let change = EntryChange { upstream: None, enabled };
                self.proxy.update(&link.to_string(), &change).await?;
            }
        }
        self.change_toxics(before, after, links).await?;
        if changes.is_empty() {
            return Ok(clock.now());
        }
        let effective = self.proxy.step(&changes, &self.lease).await?;
        Ok(on_clock(effective, clock))
    }

    /// Delays in whole milliseconds are standard toxics, on any proxy.
    async fn change_toxics(
        &self,
        before: &Rules,
        after: &Rules,
        links: &[Link],
    ) -> Result<(), StageError> {
        let coarse = |rules, link: &&Link| Sum::of(rules, link).coarse();
        let off = |link: &&Link| coarse(after, link).is_none();
        let gone: Vec<Link> = links.iter().filter(off).cloned().collect();
        if before != after && gone.iter().any(|link| Sum::of(before, link).delay.is_some()) {
            toxics::undelay(&self.proxy, &gone).await?;
        }
        let fresh = links.iter().filter(|link| coarse(before, link).is_none() && !off(link));
        let fresh: Vec<Link> = fresh.cloned().collect();
        match fresh.first().and_then(|link| Sum::of(after, link).coarse()) {
            Some(delay) => toxics::delay(&self.proxy, &fresh, delay).await,
            None => Ok(()),
        }
    }

    /// State and counters of the links between servers.
    pub(crate) async fn states(&self) -> Result<BTreeMap<Link, LinkState>, StageError> {
        let mut states = self.proxy.links().await?;
        let known = self.addresses.keys().filter_map(|link| {
            let state = states.remove(&link.to_string())?;
            Some((link.clone(), state))
        });
        Ok(known.collect())
    }

    /// Notes that connections of these links were broken.
    pub(crate) fn disturb(&self, links: &[Link]) {
        let mut disturbed = self.disturbed.lock().unwrap_or_else(PoisonError::into_inner);
        disturbed.extend(links.iter().cloned());
    }

    /// Whether connections of the link were broken on purpose.
    pub(crate) fn is_disturbed(&self, link: &Link) -> bool {
        self.disturbed.lock().unwrap_or_else(PoisonError::into_inner).contains(link)
    }

    /// Removes the entries from a Toxiproxy, and ends the own proxy; true when that ended well.
    pub(crate) async fn close(&self) -> Result<bool, StageError> {
        match &self.process {
            Some(process) => process.stop().await,
            None => {
                for link in self.addresses.keys() {
                    self.proxy.delete(&link.to_string()).await?;
                }
                Ok(true)
            }
        }
    }
}

/// A time of the proxy on the run's clock; both read the machine's monotonic clock.
fn on_clock(effective: Effective, clock: Clock) -> Nanos {
    let now = clock.now();
    let Ok(machine) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return now;
    };
    let machine = Duration::from(machine);
    let ago = machine.saturating_sub(Duration::from_micros(effective.monotonic_us));
    now.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

//! Bytes on each link as servers counted them against bytes as the proxy counted them. A server
//! that talks past the proxy shows here, and no fault of a run would have met that traffic.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::extension::LinkState;
use super::network::Network;
use super::node_api::{label, metrics};
use super::{Link, StageError};
use crate::folder::SoundnessFinding;

/// Longest wait for the counts to meet: servers go on pinging each other while they are read, and
/// on a busy machine links may break and come back meanwhile, each time losing bytes in flight.
const LIMIT: Duration = Duration::from_secs(6);
/// Rounds of readings there are in any case: a machine that is slow enough to have fewer of them
/// within the limit has not shown that anything passed the proxy by. Each has time limits itself.
const ROUNDS_MIN: usize = 5;
/// Time between two readings.
const POLL: Duration = Duration::from_millis(20);
/// Longest wait for a server's counters.
const METRICS_LIMIT: Duration = Duration::from_millis(500);
/// The counter that servers keep.
const METRIC: &str = "quorate_link_bytes_total";

/// One of the four places where the bytes of a link are counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    DialerSent,
    DialerReceived,
    AcceptorSent,
    AcceptorReceived,
}

impl Place {
    const ALL: [Self; 4] =
        [Self::DialerSent, Self::DialerReceived, Self::AcceptorSent, Self::AcceptorReceived];

    /// Labels of the server's counter.
    fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::DialerSent => ("dialer", "sent"),
            Self::DialerReceived => ("dialer", "received"),
            Self::AcceptorSent => ("acceptor", "sent"),
            Self::AcceptorReceived => ("acceptor", "received"),
        }
    }

    /// What the proxy counted there.
    fn at_proxy(self, state: &LinkState) -> u64 {
        match self {
            Self::DialerSent => state.bytes.upstream.received_bytes,
            Self::AcceptorReceived => state.bytes.upstream.delivered_bytes,
            Self::AcceptorSent => state.bytes.downstream.received_bytes,
            Self::DialerReceived => state.bytes.downstream.delivered_bytes,
        }
    }
}

/// Two counts of the same bytes: the server's, and the proxy's before and after it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    server: i128,
    before: i128,
    after: i128,
}

impl Reading {
    /// True when nothing passed the proxy meanwhile.
    fn is_still(&self) -> bool {
        self.before == self.after
    }

    /// Whether the server may have counted this much more than the proxy.
    fn allows(&self, surplus: i128) -> bool {
        (self.server - self.after..=self.server - self.before).contains(&surplus)
    }

    /// Whether both may show the same surplus.
    fn agrees(&self, other: &Self) -> bool {
        let low = |reading: &Self| reading.server - reading.after;
        self.allows(low(other)) || other.allows(low(self))
    }
}

/// How the readings of one place are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// No connection was ever broken: the counts must meet.
    Equal,
    /// Bytes in flight were lost with a connection, or a server counts from its restart: the
    /// counts must grow alike.
    Alike,
}

impl Rule {
    /// Judges still readings alone, in which a surplus cannot hide behind traffic.
    fn holds(self, readings: &[Reading]) -> bool {
        let still = readings.iter().filter(|reading| reading.is_still());
        self.holds_for(&still.collect::<Vec<_>>())
    }

    /// Judges all readings when traffic never let one be still.
    fn holds_at_last(self, readings: &[Reading]) -> bool {
        if readings.iter().any(Reading::is_still) {
            return self.holds(readings);
        }
        self.holds_for(&readings.iter().collect::<Vec<_>>())
    }

    fn holds_for(self, readings: &[&Reading]) -> bool {
        match self {
            Self::Equal => readings.iter().any(|reading| reading.allows(0)),
            Self::Alike => grew_alike(readings) || settled(readings),
        }
    }
}

/// Whether both counts grew by the same between two readings.
fn grew_alike(readings: &[&Reading]) -> bool {
    let same = |(at, first): (usize, &&Reading)| {
        let mut grown = readings[at + 1..].iter().filter(|second| second.before > first.after);
        grown.any(|second| second.agrees(first))
    };
    readings.iter().enumerate().any(same)
}

/// Whether the link is idle and nothing went past the proxy since it first was. A reading may catch
/// bytes between the two counters, so only what was read twice in a row counts.
fn settled(readings: &[&Reading]) -> bool {
    let pairs = || readings.windows(2);
    let mut still = pairs().filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
    let surplus = |reading: &Reading| reading.server - reading.after;
    let Some(first) = still.next() else { return false };
    pairs().last().is_some_and(|pair| pair[0] == pair[1])
        && still.all(|later| surplus(later) == surplus(first))
}

/// Compares the counts of every link between servers, to be called while all of them run.
pub(crate) async fn check(
    cluster: &Cluster,
    network: &Network,
) -> Result<Vec<SoundnessFinding>, StageError> {
    if !network.is_own() {
        let detail = "a foreign Toxiproxy counts no bytes: bypasses would go unseen".to_string();
        let code = "bytes_not_accounted".to_string();
        return Ok(vec![SoundnessFinding { code, fatal: false, detail }]);
    }
    let mut readings: BTreeMap<(Link, Place), Vec<Reading>> = BTreeMap::new();
    let mut rules: BTreeMap<Link, Rule> = BTreeMap::new();
    let deadline = Instant::now() + LIMIT;
    for round in 1.. {
        read(cluster, network, &mut readings, &mut rules).await?;
        let open = |((link, _), pairs): (&(Link, Place), &Vec<Reading>)| !rules[link].holds(pairs);
        // A look at the idle needs a second reading.
        let is_late = round >= ROUNDS_MIN && Instant::now() > deadline;
        if is_late || !readings.iter().any(open) {
            break;
        }
        tokio::time::sleep(POLL).await;
    }
    let mut findings = judge(&readings, &rules);
    findings.extend(left_out(&network.between_servers(), &rules));
    Ok(findings)
}

async fn read(
    cluster: &Cluster,
    network: &Network,
    readings: &mut BTreeMap<(Link, Place), Vec<Reading>>,
    rules: &mut BTreeMap<Link, Rule>,
) -> Result<(), StageError> {
    // The proxy's counts before and after every single server: a time in which nothing may have
    // passed for the counts to be compared. Round all servers it would be as many times longer than
    // the pauses of traffic as there are servers.
    let mut states = vec![network.states().await?];
    let mut counted = BTreeMap::new();
    for node in &cluster.nodes {
        let Some(life) = node.running() else { continue };
        // A server that does not answer leaves its places unread, which is judged as unequal.
        match metrics(life.said.http, METRICS_LIMIT).await {
            Ok(metrics) => {
                states.push(network.states().await?);
                counted.extend([(node.name(), (metrics, states.len() - 1))]);
            }
            Err(error) => tracing::warn!(node = node.name(), %error, "no metrics"),
        }
    }
    let last = &states[states.len() - 1];
    for link in network.between_servers() {
        let runs = |name: &str| cluster.node(name).is_ok_and(|node| node.running().is_some());
        // Who dials a dead server loses its greeting every time; there is nothing to compare.
        let at_last = last.get(&link).filter(|_| runs(&link.from) && runs(&link.to));
        let Some(at_last) = at_last else {
            // Read before its end was noticed.
            readings.retain(|(read, _), _| *read != link);
            rules.remove(&link);
            continue;
        };
        let broken = network.is_disturbed(&link) || has_broken(at_last);
        rules.insert(link.clone(), if broken { Rule::Alike } else { Rule::Equal });
        for place in Place::ALL {
            let (end, direction) = place.labels();
            let counter = if end == "dialer" { &link.from } else { &link.to };
            let pairs = readings.entry((link.clone(), place)).or_default();
            let Some((metrics, read)) = counted.get(counter.as_str()) else {
                continue;
            };
            let around = states[read - 1].get(&link).zip(states[*read].get(&link));
            let Some((before, after)) = around else { continue };
            let server = count(metrics, &link.to_string(), end, direction);
            let (before, after) = (place.at_proxy(before).into(), place.at_proxy(after).into());
            pairs.push(Reading { server, before, after });
        }
    }
    Ok(())
}

/// Whether the proxy saw a connection of the link end, for whatever reason.
fn has_broken(state: &LinkState) -> bool {
    let connections = state.connections;
    let discarded = state.bytes.upstream.discarded_bytes + state.bytes.downstream.discarded_bytes;
    connections.refused + connections.reset + discarded > 0
        || connections.accepted > connections.open
}

/// A counter's value; a server that never used the link has none.
fn count(metrics: &BTreeMap<String, f64>, link: &str, end: &str, direction: &str) -> i128 {
    let wanted = |name: &str| {
        name.starts_with(METRIC)
            && label(name, "link") == Some(link)
            && label(name, "end") == Some(end)
            && label(name, "direction") == Some(direction)
    };
    let found = metrics.iter().find(|(name, _)| wanted(name));
    #[allow(clippy::cast_possible_truncation, reason = "byte counts are whole, below 2^53")]
    let value = found.map_or(0, |(_, value)| *value as i128);
    value
}

/// Says which links could not be compared at all.
fn left_out(links: &[Link], rules: &BTreeMap<Link, Rule>) -> Option<SoundnessFinding> {
    let absent = links.iter().filter(|link| !rules.contains_key(link));
    let absent: Vec<String> = absent.map(ToString::to_string).collect();
    (!absent.is_empty()).then(|| SoundnessFinding {
        code: "bytes_not_accounted".to_string(),
        fatal: false,
        detail: format!("a server does not run at an end of {}", absent.join(", ")),
    })
}

fn judge(
    readings: &BTreeMap<(Link, Place), Vec<Reading>>,
    rules: &BTreeMap<Link, Rule>,
) -> Vec<SoundnessFinding> {
    let mut wrong = Vec::new();
    let mut unread = Vec::new();
    for ((link, place), pairs) in readings {
        let (end, direction) = place.labels();
        match pairs.last() {
            None => unread.push(format!("{link} {end}")),
            Some(last) if !rules[link].holds_at_last(pairs) => wrong.push(format!(
                "{link} {end} {direction}: server {} bytes, proxy {}",
                last.server, last.after
            )),
            Some(_) => {}
        }
    }
    let mut findings = Vec::new();
    let mut add = |code: &str, fatal: bool, detail: String| {
        findings.push(SoundnessFinding { code: code.to_string(), fatal, detail });
    };
    if !wrong.is_empty() {
        add("proxy_bypassed", true, wrong.join("; "));
    }
    unread.dedup();
    if !unread.is_empty() {
        let detail = format!("no counters from the servers of {}", unread.join(", "));
        add("bytes_not_accounted", true, detail);
    }
    let alike = rules.iter().filter(|(_, rule)| **rule == Rule::Alike);
    let alike: Vec<String> = alike.map(|(link, _)| link.to_string()).collect();
    if !alike.is_empty() {
        let detail = format!(
            "connections broke on {}: bytes in flight were lost, so only the growth of both \
             counts at the end was compared there",
            alike.join(", ")
        );
        add("bytes_partly_compared", false, detail);
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings of server and proxy, still ones.
    fn pairs(values: &[(i128, i128)]) -> Vec<Reading> {
        let still = |&(server, proxy)| Reading { server, before: proxy, after: proxy };
        values.iter().map(still).collect()
    }

    #[test]
    fn counts_of_a_whole_link_must_meet_once() {
        assert!(Rule::Equal.holds(&pairs(&[(10, 8), (12, 12)])));
        assert!(!Rule::Equal.holds(&pairs(&[(10, 8), (12, 10)])));
        assert!(!Rule::Equal.holds(&[]));
    }

    #[test]
    fn counts_of_a_broken_link_must_grow_alike() {
        assert!(Rule::Alike.holds(&pairs(&[(5, 100), (15, 110)])), "restarted server");
        assert!(Rule::Alike.holds(&pairs(&[(5, 5), (5, 5)])), "idle");
        assert!(!Rule::Alike.holds(&pairs(&[(5, 5), (9, 5)])), "traffic past the proxy");
        assert!(!Rule::Alike.holds(&pairs(&[(5, 5), (30, 15)])), "part of it past the proxy");
        assert!(!Rule::Alike.holds(&pairs(&[(5, 5)])), "one reading tells nothing");
    }

    #[test]
    fn a_reading_may_catch_bytes_on_their_way() {
        let sent = pairs(&[(252, 126), (252, 252), (252, 252)]);
        assert!(Rule::Alike.holds(&sent));
        assert!(!Rule::Alike.holds(&sent[..2]), "not yet idle");
        assert!(Rule::Alike.holds(&pairs(&[(126, 252), (252, 252), (252, 252)])));
        let past = pairs(&[(5, 5), (5, 5), (9, 5), (9, 5)]);
        assert!(!Rule::Alike.holds(&past), "past the proxy, then idle again");
    }

    #[test]
    fn readings_amid_traffic_count_only_when_there_are_no_others() {
        let amid = Reading { server: 12, before: 10, after: 15 };
        assert!(!Rule::Equal.holds(&[amid]));
        assert!(Rule::Equal.holds_at_last(&[amid]));
        let still = Reading { server: 22, before: 20, after: 20 };
        assert!(!Rule::Equal.holds_at_last(&[amid, still]), "a surplus of two");
        let later = Reading { server: 40, before: 38, after: 43 };
        assert!(Rule::Alike.holds_at_last(&[amid, later]));
        let past = Reading { server: 90, before: 38, after: 43 };
        assert!(!Rule::Alike.holds_at_last(&[amid, past]));
    }

    #[test]
    fn a_bypass_is_fatal_and_names_the_link() {
        let link = Link::new("n1", "n2");
        let readings = BTreeMap::from([((link.clone(), Place::DialerSent), pairs(&[(9, 2)]))]);
        let findings = judge(&readings, &BTreeMap::from([(link, Rule::Equal)]));
        assert_eq!(findings.len(), 1);
        assert!(findings[0].fatal && findings[0].code == "proxy_bypassed");
        assert!(findings[0].detail.contains("n1->n2 dialer sent: server 9 bytes, proxy 2"));
    }
}

//! Looks whether rules on links bite, and whether they are gone: by the proxy's counters, by
//! connections of our own that carry no byte, by an echo through an entry of our own.
//! May not change the rules of the cluster's links.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use quorate_check::history::Nanos;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::extension::{Cut, CutKind, LinkState, Streams};
use super::network::Network;
use super::{Link, StageError};
use crate::run::parts::Clock;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(5);
/// After this time a link without traffic of its own gets a connection of ours.
const QUIET: Duration = Duration::from_millis(250);
/// Longest wait for the kernel's answer to a connection on loopback.
const CONNECT_LIMIT: Duration = Duration::from_millis(200);

/// What was seen on the way to a proof.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) proven: Option<Nanos>,
    pub(crate) evidence: String,
}

/// Looks until every link shows that it is cut.
pub(crate) async fn cut_bites(
    network: &Network,
    cuts: &BTreeMap<Link, Cut>,
    before: &BTreeMap<Link, LinkState>,
    clock: Clock,
    deadline: Instant,
) -> Result<Seen, StageError> {
    let mut watch = Watch::new(cuts.keys(), clock, deadline);
    // Held open until the proof is there, and gone before the heal: a silent cut keeps them
    // from the server, and an empty connection is never dialled.
    let mut ours: BTreeMap<Link, TcpStream> = BTreeMap::new();
    while watch.goes_on() {
        let states = states(network).await?;
        for link in watch.pending() {
            let Some(cut) = cuts.get(&link) else { continue };
            let quiet = watch.begun.elapsed() > QUIET;
            let (sign, wants_ours) = match (cut.kind, cut.stream) {
                // To the dialler, a half-open cut that keeps the other end is a closed one.
                (CutKind::Closed, _) | (CutKind::HalfOpen, Streams::Downstream | Streams::Both) => {
                    (refused(network, &link, &states, before).await, false)
                }
                (CutKind::HalfOpen, Streams::Upstream) => (kept(&link, &states, before), true),
                (CutKind::Silent, stream) => (held(states.get(&link), stream), quiet),
            };
            if let Some(sign) = sign {
                watch.saw(&link, sign);
            } else if wants_ours && !ours.contains_key(&link) {
                ours.extend(connect(network, &link).await.map(|stream| (link, stream)));
            }
        }
        watch.pause().await;
    }
    Ok(watch.finish("not cut"))
}

/// Looks until every link shows that it is whole again.
pub(crate) async fn cut_is_gone(
    network: &Network,
    links: &[Link],
    kind: CutKind,
    clock: Clock,
    deadline: Instant,
) -> Result<Seen, StageError> {
    let mut watch = Watch::new(links, clock, deadline);
    let before = states(network).await?;
    while watch.goes_on() {
        let states = states(network).await?;
        for link in watch.pending() {
            let state = states.get(&link);
            let sign = match state.and_then(|state| state.cut) {
                Some(_) => Some("still cut by another fault".to_string()),
                None => match kind {
                    CutKind::Silent => flows(state, before.get(&link), watch.begun.elapsed()),
                    // The ends that were kept hear of it first.
                    CutKind::HalfOpen if half_open(state) > 0 => None,
                    CutKind::HalfOpen | CutKind::Closed => accepted(network, &link).await,
                },
            };
            if let Some(sign) = sign {
                watch.saw(&link, sign);
            }
        }
        watch.pause().await;
    }
    Ok(watch.finish("not healed"))
}

/// Looks until every link has been seen to hold bytes back, which a delay does to any traffic.
pub(crate) async fn delay_holds(
    network: &Network,
    links: &[Link],
    clock: Clock,
    deadline: Instant,
) -> Result<Seen, StageError> {
    let mut watch = Watch::new(links, clock, deadline);
    while watch.goes_on() {
        let states = states(network).await?;
        for link in watch.pending() {
            if let Some(sign) = held(states.get(&link), Streams::Both) {
                watch.saw(&link, sign);
            }
        }
        // Fine delays hold bytes shortly: look as often as the proxy answers.
        watch.looked = true;
    }
    Ok(watch.finish("no byte held back"))
}

/// A Toxiproxy has no counters; there only connections tell.
async fn states(network: &Network) -> Result<BTreeMap<Link, LinkState>, StageError> {
    if network.is_own() { network.states().await } else { Ok(BTreeMap::new()) }
}

/// What is held back in these directions. A connection needs both to be made.
fn held(state: Option<&LinkState>, streams: Streams) -> Option<String> {
    let state = state?;
    let (up, down) = (state.bytes.upstream.held_bytes, state.bytes.downstream.held_bytes);
    let (bytes, way) = match streams {
        Streams::Upstream => (up, " upstream"),
        Streams::Downstream => (down, " downstream"),
        Streams::Both => (up + down, ""),
    };
    match (bytes, state.connections.waiting) {
        (0, 0) => None,
        (0, waiting) => Some(format!("{waiting} connections held")),
        (bytes, _) => Some(format!("{bytes} bytes held{way}")),
    }
}

/// Closed means: what was open is reset, and the kernel refuses what is new.
async fn refused(
    network: &Network,
    link: &Link,
    states: &BTreeMap<Link, LinkState>,
    before: &BTreeMap<Link, LinkState>,
) -> Option<String> {
    let state = states.get(link);
    if state.is_some_and(|state| state.connections.open > 0) {
        return None;
    }
    let address = network.address(link)?;
    match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(_) | Err(_) => return None,
    }
    let ends = ends_of(state, before.get(link));
    Some(format!("{ends}, a new one refused"))
}

/// Half-open means to who keeps its end: what was open is no more, and what is new waits.
fn kept(
    link: &Link,
    states: &BTreeMap<Link, LinkState>,
    before: &BTreeMap<Link, LinkState>,
) -> Option<String> {
    let state = states.get(link)?;
    let (open, waiting) = (state.connections.open, state.connections.waiting);
    // A connection of ours is among those that wait.
    if waiting == 0 || open > waiting {
        return None;
    }
    let ends = ends_of(Some(state), before.get(link));
    Some(format!("{ends}, a new one waits"))
}

fn ends_of(state: Option<&LinkState>, before: Option<&LinkState>) -> String {
    let count = |state: Option<&LinkState>| state.map_or(0, |state| state.connections.reset);
    let reset = count(state).saturating_sub(count(before));
    match half_open(state) {
        0 => format!("{reset} connections reset"),
        kept => format!("{reset} connections reset at one end, {kept} ends kept at the other"),
    }
}

fn half_open(state: Option<&LinkState>) -> u64 {
    state.map_or(0, |state| state.connections.half_open)
}

async fn accepted(network: &Network, link: &Link) -> Option<String> {
    connect(network, link).await.map(|_| "a new connection accepted".to_string())
}

async fn connect(network: &Network, link: &Link) -> Option<TcpStream> {
    timeout(CONNECT_LIMIT, TcpStream::connect(network.address(link)?)).await.ok()?.ok()
}

/// Whole means: nothing held, and bytes arrive, unless nobody sends any.
fn flows(
    state: Option<&LinkState>,
    before: Option<&LinkState>,
    waited: Duration,
) -> Option<String> {
    let (state, before) = (state?, before?);
    if held(Some(state), Streams::Both).is_some() {
        return None;
    }
    let delivered = |state: &LinkState| {
        state.bytes.upstream.delivered_bytes + state.bytes.downstream.delivered_bytes
    };
    match delivered(state).saturating_sub(delivered(before)) {
        0 if waited < QUIET => None,
        0 => Some("nothing held, no traffic".to_string()),
        bytes => Some(format!("{bytes} bytes delivered")),
    }
}

/// A server of our own that sends everything back, until dropped.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start(address: Ipv4Addr) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    if let Err(error) = tokio::io::copy(&mut from, &mut to).await {
                        tracing::debug!(%error, "an echo ended");
                    }
                });
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Keeps count of which links have shown a sign.
struct Watch {
    signs: BTreeMap<Link, Option<String>>,
    clock: Clock,
    begun: Instant,
    deadline: Instant,
    looked: bool,
}

impl Watch {
    fn new<'a>(links: impl IntoIterator<Item = &'a Link>, clock: Clock, deadline: Instant) -> Self {
        let signs = links.into_iter().map(|link| (link.clone(), None)).collect();
        Self { signs, clock, begun: Instant::now(), deadline, looked: false }
    }

    fn pending(&self) -> Vec<Link> {
        let pending = self.signs.iter().filter(|(_, sign)| sign.is_none());
        pending.map(|(link, _)| link.clone()).collect()
    }

    /// At least one look is taken, however late it is.
    fn goes_on(&self) -> bool {
        let late = self.looked && Instant::now() >= self.deadline;
        !late && self.signs.values().any(Option::is_none)
    }

    fn saw(&mut self, link: &Link, sign: String) {
        self.signs.insert(link.clone(), Some(sign));
    }

    async fn pause(&mut self) {
        self.looked = true;
        if self.signs.values().any(Option::is_none) {
            tokio::time::sleep(POLL).await;
        }
    }

    fn finish(self, missing: &str) -> Seen {
        if self.signs.is_empty() {
            // Nothing to look at proves nothing.
            let evidence = "no link between servers is affected".to_string();
            return Seen { proven: None, evidence };
        }
        let complete = self.signs.values().all(Option::is_some);
        let proven = complete.then(|| self.clock.now());
        let line = |(link, sign): (&Link, &Option<String>)| {
            format!("{link}: {}", sign.as_deref().unwrap_or(missing))
        };
        let evidence = self.signs.iter().map(line).collect::<Vec<_>>().join("; ");
        Seen { proven, evidence }
    }
}

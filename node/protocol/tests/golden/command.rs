//! The commands of a script. Servers are `n1`, `n2`, …; clusters `c10`; records `#10:0`;
//! transactions `n1.2.3` (coordinator, boot, number); stamps `4@n1.2.3`.
//!
//! | command | what it does |
//! |---|---|
//! | `cluster masters=3 w=majority` | three servers with cluster 10 on each; `w=2`, `w=all` |
//! | `cluster c10=n1,n2,n3:2 c20=n3,n4:2` | clusters with their MASTERs and write quorum |
//! | `forget log=2 retention=100ms` | before `cluster`: when logs are cut, tombstones dropped |
//! | `replicas n2,n3 fan-out=1 kept=9` | before `cluster`: REPLICAs of all, and their tree |
//! | `witnesses n3` | before `cluster`: MASTERs that keep no content that everybody has |
//! | `given #10:0=a #10:1=b` | commits it through `n1` to everybody, prints nothing |
//! | `submit n1 c1 update #10:0=b …` | a client's transaction; see below |
//! | `read n1 r1 #10:0 [quorum=1] [deadline=500ms]` | a client's read, by majority |
//! | `session n1 c1 n2.1:3 #10:0=4@n1.1.2 … [deadline=500ms]` | is n1 as far as these? |
//! | `deliver [n1>n2] [kind]` | every matching message that is under way now; `*` is anybody |
//! | `drop …`, `duplicate …` | loses them; delivers them and keeps a copy under way |
//! | `pending` | prints what is under way |
//! | `settle` | delivers until nothing is under way |
//! | `hold-sync n1`, `sync n1`, `auto-sync n1` | durability by hand, once, and by itself again |
//! | `tick 5ms` | time passes, timers run |
//! | `run 5ms` | the same, and everything is delivered at once |
//! | `crash n2 [keep=1]` | power fails; that many unsynced batches happen to survive |
//! | `restart n2` | in a new boot, with connections to nobody |
//! | `restart n2 before n1 n3` | it believes n1 and n3 reachable before it knows the clusters |
//! | `connect n2` | n2 and every running server believe each other reachable |
//! | `peer n1 n2 down` | n1 believes n2 unreachable (`up`: reachable) |
//! | `cut n3`, `heal n3` | whatever n3 sends and is sent is lost; no more |
//! | `configure n1 cfg=2 c10=n1,n2:2 generation=2 owner=n1` | n1 applies control-plane state |
//! | `configure n1 cfg=2 c10=n1,n2:2 c20=n1,n2:2 closed=c20` | the same; cluster 20 was dropped |
//! | `configure n1 … next=n1,n2 [sealed=n1]` | its first cluster changes to these MASTERs: seal |
//! | `configure n1 … next=n1,n2 token=n1.1:3,n2.1:1 [synced=n1]` | the same: transfer |
//! | `configure n1 … next=n1,n2 unites [merging[=n1]] [quiet]` | its stages from W below a
//! majority |
//! | `configure n1 … loose=1-2` | W was below a majority in these generations |
//! | `configure n1 … entry=n1.1:3,n2.1:1 [turn=n2]` | what it needs, and who may align for it; the
//! generation is the first cluster's alone |
//! | `send n1 n2 prepare n1.1.9 update #10:0=x base=…` | a made-up Prepare; `age=5ms`, `cfg=2` |
//! | `send n2 n1 rejected n1.1.9 c10 round=7` | a made-up Rejected, promised to n2 |
//! | `choose n1 c1 #10:0=2@n3.1.1` | a client makes this content the one, through n1 |
//! | `compare n1 c10` | n1 compares these clusters with everybody |
//! | `status [n1]`, `outcome n1.1.2` | prints state; what each server knows of it |
//!
//! Operations are `create|update|delete|check #10:0[=image]`, each with an optional `base=current`
//! (the default), `base=absent`, `base=3` or `base=3@n1.1.2` behind it; `deadline=` (1 s) and
//! `wall=` (the age; the clock) hold for the whole transaction.

use quorate_api::{Boot, ClusterKey, Image, ItemId, ItemKey, NodeId, OpKind, Stamp, TxId};
use quorate_protocol::io::{
    Base, Change, Proposal, ReadQuorum, RelayConfig, SessionToken, Stage, Tick,
};

type Parsed<T> = Result<T, String>;

/// A cluster as a script names it: MASTERs and write quorum.
pub(crate) type Shape = (ClusterKey, Vec<NodeId>, usize);

/// Which messages.
#[derive(Debug, Default)]
pub(crate) struct Which {
    pub(crate) from: Option<NodeId>,
    pub(crate) to: Option<NodeId>,
    pub(crate) kind: Option<String>,
}

/// The operations and settings of a transaction.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) deadline: Tick,
    pub(crate) wall: Option<Tick>,
    pub(crate) cfg: u64,
}

/// What a configuration says of a change of its first cluster.
#[derive(Debug, Default)]
pub(crate) struct Changing {
    pub(crate) entry: SessionToken,
    pub(crate) turn: Option<NodeId>,
    pub(crate) change: Option<Change>,
    /// Generations with W below a majority.
    pub(crate) loose: Vec<(u32, u32)>,
}

/// See the module's doc.
#[derive(Debug)]
pub(crate) enum Command {
    Cluster(Vec<Shape>),
    Replicas(Vec<NodeId>, RelayConfig),
    Witnesses(Vec<NodeId>),
    Given(Vec<(ItemId, Image)>),
    Submit {
        server: NodeId,
        client: u64,
        body: Body,
    },
    Read {
        server: NodeId,
        client: u64,
        items: Vec<ItemId>,
        quorum: ReadQuorum,
        deadline: Tick,
    },
    Session {
        server: NodeId,
        client: u64,
        token: SessionToken,
        seen: Vec<(ItemId, Stamp)>,
        deadline: Tick,
    },
    Deliver(Which),
    Drop(Which),
    Duplicate(Which),
    Pending,
    Settle,
    Sync(NodeId, Syncing),
    Tick(Tick),
    Run(Tick),
    Crash {
        server: NodeId,
        keep: usize,
    },
    Restart(NodeId, Vec<NodeId>),
    Connect(NodeId),
    Peer {
        server: NodeId,
        peer: NodeId,
        up: bool,
    },
    Cut(NodeId, bool),
    Configure {
        server: NodeId,
        cfg: u64,
        generation: u32,
        /// Who creates records in all of them; nobody named: anybody.
        owner: Option<NodeId>,
        /// Which of them was dropped.
        closed: Option<ClusterKey>,
        change: Changing,
        shapes: Vec<Shape>,
    },
    SendPrepare {
        from: NodeId,
        to: NodeId,
        tx: TxId,
        body: Body,
    },
    SendRejected {
        from: NodeId,
        to: NodeId,
        tx: TxId,
        cluster: ClusterKey,
        round: u32,
    },
    Forget {
        log_entries: Option<u64>,
        retention: Option<Tick>,
    },
    Choose {
        server: NodeId,
        client: u64,
        item: ItemId,
        winner: Stamp,
    },
    Compare(NodeId, Vec<ClusterKey>),
    Status(Option<NodeId>),
    Outcome(TxId),
}

/// Durability of a server's writes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Syncing {
    Hold,
    Once,
    Auto,
}

impl Command {
    pub(crate) fn parse(line: &str) -> Parsed<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = words.split_first().ok_or("an empty command")?;
        let word = |at: usize| rest.get(at).copied().ok_or(format!("{name}: too few words"));
        let server = |at: usize| word(at).and_then(node);
        Ok(match *name {
            "cluster" => Self::Cluster(shapes(rest)?),
            "replicas" => Self::replicas(rest)?,
            "witnesses" => Self::Witnesses(rest.iter().map(|w| node(w)).collect::<Parsed<_>>()?),
            "given" => Self::Given(rest.iter().map(|w| written(w)).collect::<Parsed<_>>()?),
            "submit" => {
                let body = body(rest.get(2..).unwrap_or_default())?;
                Self::Submit { server: server(0)?, client: client(word(1)?)?, body }
            }
            "read" => Self::read(server(0)?, client(word(1)?)?, rest)?,
            "session" => {
                let entries = rest.iter().skip(2).filter(|w| w.starts_with('n'));
                let token = entries.map(|w| position(w)).collect::<Parsed<_>>()?;
                let deadline = setting(rest, "deadline").map_or(Ok(1_000_000), ticks)?;
                let seen = rest.iter().filter(|w| w.starts_with('#')).map(|w| seen(w));
                let seen = seen.collect::<Parsed<_>>()?;
                let (server, client) = (server(0)?, client(word(1)?)?);
                Self::Session { server, client, token, seen, deadline }
            }
            "deliver" => Self::Deliver(which(rest)?),
            "drop" => Self::Drop(which(rest)?),
            "duplicate" => Self::Duplicate(which(rest)?),
            "pending" => Self::Pending,
            "settle" => Self::Settle,
            "hold-sync" => Self::Sync(server(0)?, Syncing::Hold),
            "sync" => Self::Sync(server(0)?, Syncing::Once),
            "auto-sync" => Self::Sync(server(0)?, Syncing::Auto),
            "tick" => Self::Tick(ticks(word(0)?)?),
            "run" => Self::Run(ticks(word(0)?)?),
            "crash" => {
                let keep = setting(rest, "keep").map_or(Ok(0), number)?;
                Self::Crash { server: server(0)?, keep: usize::try_from(keep).unwrap_or(0) }
            }
            "restart" => {
                let before = rest.iter().skip(2).map(|w| node(w)).collect::<Parsed<_>>()?;
                Self::Restart(server(0)?, before)
            }
            "connect" => Self::Connect(server(0)?),
            "peer" => Self::Peer { server: server(0)?, peer: server(1)?, up: word(2)? == "up" },
            "cut" => Self::Cut(server(0)?, true),
            "heal" => Self::Cut(server(0)?, false),
            "configure" => Self::configure(rest)?,
            "send" if rest.get(2) == Some(&"rejected") => Self::rejected(rest)?,
            "send" => {
                let body = body(rest.get(4..).unwrap_or_default())?;
                Self::SendPrepare { from: server(0)?, to: server(1)?, tx: tx(word(3)?)?, body }
            }
            "forget" => Self::Forget {
                log_entries: setting(rest, "log").map(number).transpose()?,
                retention: setting(rest, "retention").map(ticks).transpose()?,
            },
            "choose" => {
                let (item, winner) = seen(word(2)?)?;
                Self::Choose { server: server(0)?, client: client(word(1)?)?, item, winner }
            }
            "compare" => {
                let clusters = rest.iter().skip(1).map(|w| cluster(w.trim_start_matches('c')));
                Self::Compare(server(0)?, clusters.collect::<Parsed<_>>()?)
            }
            "status" => Self::Status(rest.first().map(|w| node(w)).transpose()?),
            "outcome" => Self::Outcome(tx(word(0)?)?),
            other => return Err(format!("no such command: {other}")),
        })
    }

    /// `read SERVER CLIENT ITEM… quorum=N deadline=TICKS`
    fn read(server: NodeId, client: u64, rest: &[&str]) -> Parsed<Self> {
        let items = rest.iter().filter(|w| w.starts_with('#')).map(|w| item(w));
        let items = items.collect::<Parsed<_>>()?;
        let deadline = setting(rest, "deadline").map_or(Ok(1_000_000), ticks)?;
        let quorum = setting(rest, "quorum").map(number).transpose()?;
        let quorum = quorum.map_or(ReadQuorum::Majority, |count| {
            ReadQuorum::Count(usize::try_from(count).unwrap_or(usize::MAX))
        });
        Ok(Self::Read { server, client, items, quorum, deadline })
    }

    /// `replicas SERVERS fan-out=N kept=N`
    fn replicas(rest: &[&str]) -> Parsed<Self> {
        let nodes = rest.first().ok_or("replicas: too few words")?;
        let nodes = nodes.split(',').map(node).collect::<Parsed<_>>()?;
        let size = |name, other: usize| {
            let given = setting(rest, name).map_or(Ok(other as u64), number)?;
            usize::try_from(given).map_err(|e| e.to_string())
        };
        let RelayConfig { fan_out, kept } = RelayConfig::new();
        let (fan_out, kept) = (size("fan-out", fan_out)?, size("kept", kept)?);
        Ok(Self::Replicas(nodes, RelayConfig { fan_out, kept }))
    }

    /// `configure SERVER cfg=N SHAPES generation=N owner=SERVER closed=CLUSTER`
    fn configure(rest: &[&str]) -> Parsed<Self> {
        let server = node(rest.first().ok_or("configure: too few words")?)?;
        let cfg = setting(rest, "cfg").map_or(Ok(2), number)?;
        let generation = setting(rest, "generation").map_or(Ok(1), number)?;
        let generation = u32::try_from(generation).map_err(|e| e.to_string())?;
        let owner = setting(rest, "owner").map(node).transpose()?;
        let closed = setting(rest, "closed").map(|c| cluster(c.trim_start_matches('c')));
        let (closed, shapes) = (closed.transpose()?, shapes(&rest[1..])?);
        let change = changing(rest)?;
        Ok(Self::Configure { server, cfg, generation, owner, closed, change, shapes })
    }

    /// `send FROM TO rejected TX CLUSTER round=N`
    fn rejected(rest: &[&str]) -> Parsed<Self> {
        let word = |at: usize| rest.get(at).copied().ok_or("send rejected: too few words");
        let cluster = cluster(word(4)?.trim_start_matches('c'))?;
        let round = number(setting(rest, "round").ok_or("rejected without a round")?)?;
        let round = u32::try_from(round).map_err(|e| e.to_string())?;
        let (from, to, tx) = (node(word(0)?)?, node(word(1)?)?, tx(word(3)?)?);
        Ok(Self::SendRejected { from, to, tx, cluster, round })
    }
}

fn changing(words: &[&str]) -> Parsed<Changing> {
    let list = |name: &str| {
        setting(words, name).map(|nodes| nodes.split(',').map(node).collect::<Parsed<Vec<_>>>())
    };
    let token = |name: &str| {
        setting(words, name).map(|all| all.split(',').map(position).collect::<Parsed<_>>())
    };
    let done = |name: &str| list(name).transpose().map(|nodes| nodes.unwrap_or_default());
    let stage = match token("token").transpose()? {
        Some(token) => Stage::Transferring { token, synced: done("synced")?.into_iter().collect() },
        None => Stage::Sealing { sealed: done("sealed")?.into_iter().collect() },
    };
    let has = |name: &str| words.contains(&name);
    let none = || has("merging").then(|| Ok(Vec::new()));
    let stage = match list("merging").or_else(none).transpose()? {
        Some(merged) => {
            Stage::Merging { merged: merged.into_iter().collect(), quiet: has("quiet") }
        }
        None => stage,
    };
    let next = list("next").transpose()?;
    let loose = setting(words, "loose").map(|range| {
        let (first, last) = range.split_once('-').ok_or("loose=FIRST-LAST")?;
        let generation = |text| Parsed::Ok(u32::try_from(number(text)?).unwrap_or(u32::MAX));
        Parsed::Ok(vec![(generation(first)?, generation(last)?)])
    });
    Ok(Changing {
        loose: loose.transpose()?.unwrap_or_default(),
        entry: token("entry").transpose()?.unwrap_or_default(),
        turn: setting(words, "turn").map(node).transpose()?,
        change: next.map(|masters| Change { masters, unites: has("unites"), stage }),
    })
}

fn setting<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('='))
}

fn number(text: &str) -> Parsed<u64> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

fn node(text: &str) -> Parsed<NodeId> {
    let digits = text.strip_prefix('n').ok_or(format!("not a server: {text}"))?;
    Ok(NodeId(number(digits)?))
}

fn client(text: &str) -> Parsed<u64> {
    number(text.trim_start_matches(['c', 'r']))
}

fn ticks(text: &str) -> Parsed<Tick> {
    let digits = text.strip_suffix("ms").ok_or(format!("a time ends in ms: {text}"))?;
    Ok(number(digits)? * 1_000)
}

fn tx(text: &str) -> Parsed<TxId> {
    let mut parts = text.splitn(3, '.');
    let mut next = || parts.next().ok_or(format!("not a transaction: {text}"));
    let node = node(next()?)?;
    let boot = u32::try_from(number(next()?)?).map_err(|e| e.to_string())?;
    Ok(TxId { node, boot: Boot(boot), seq: number(next()?)? })
}

fn position(text: &str) -> Parsed<((NodeId, Boot), u64)> {
    let parts = text.split_once(':').and_then(|(boot, index)| Some((boot.split_once('.')?, index)));
    let ((who, boot), index) = parts.ok_or(format!("not a position: {text}"))?;
    let boot = u32::try_from(number(boot)?).map_err(|e| e.to_string())?;
    Ok(((node(who)?, Boot(boot)), number(index)?))
}

fn cluster(text: &str) -> Parsed<ClusterKey> {
    let cluster = u32::try_from(number(text)?).map_err(|e| e.to_string())?;
    Ok(ClusterKey { database: 1, cluster })
}

fn item(text: &str) -> Parsed<ItemId> {
    let rid = text.strip_prefix('#').and_then(|t| t.split_once(':'));
    let (cluster_text, position) = rid.ok_or(format!("not a record: {text}"))?;
    Ok(ItemId { cluster: cluster(cluster_text)?, key: ItemKey::Record(number(position)?) })
}

fn seen(text: &str) -> Parsed<(ItemId, Stamp)> {
    let parts = text.split_once('=').and_then(|(rid, stamp)| Some((rid, stamp.split_once('@')?)));
    let (rid, (version, writer)) = parts.ok_or(format!("not a record with its stamp: {text}"))?;
    Ok((item(rid)?, Stamp { version: number(version)?, tx: tx(writer)? }))
}

fn written(text: &str) -> Parsed<(ItemId, Image)> {
    let (rid, image) = text.split_once('=').ok_or(format!("no image: {text}"))?;
    Ok((item(rid)?, Image::from(image.as_bytes())))
}

fn shapes(words: &[&str]) -> Parsed<Vec<Shape>> {
    if let Some(masters) = setting(words, "masters") {
        let n = number(masters)?;
        let nodes: Vec<NodeId> = (1..=n).map(NodeId).collect();
        let w = match setting(words, "w").unwrap_or("majority") {
            "majority" => nodes.len() / 2 + 1,
            "all" => nodes.len(),
            other => usize::try_from(number(other)?).unwrap_or(0),
        };
        return Ok(vec![(cluster("10")?, nodes, w)]);
    }
    let named = words.iter().filter_map(|w| w.strip_prefix('c')?.split_once('='));
    let named = named.filter(|(key, _)| key.bytes().all(|b| b.is_ascii_digit()));
    named
        .map(|(key, value)| {
            let (nodes, w) = value.split_once(':').ok_or(format!("no write quorum: {value}"))?;
            let nodes = nodes.split(',').map(node).collect::<Parsed<_>>()?;
            Ok((cluster(key)?, nodes, usize::try_from(number(w)?).unwrap_or(0)))
        })
        .collect()
}

fn which(words: &[&str]) -> Parsed<Which> {
    let mut which = Which::default();
    for word in words {
        let Some((from, to)) = word.split_once('>') else {
            which.kind = Some((*word).to_owned());
            continue;
        };
        which.from = (from != "*").then(|| node(from)).transpose()?;
        which.to = (to != "*").then(|| node(to)).transpose()?;
    }
    Ok(which)
}

fn body(words: &[&str]) -> Parsed<Body> {
    let deadline = setting(words, "deadline").map_or(Ok(1_000_000), ticks)?;
    let wall = setting(words, "wall").map(ticks).transpose()?;
    let cfg = setting(words, "cfg").map_or(Ok(1), number)?;
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut kind = None;
    for word in words {
        if word.starts_with('#') {
            let kind = kind.take().ok_or(format!("no kind of operation before {word}"))?;
            let (item, image) = match written(word) {
                Ok((item, image)) => (item, Some(image)),
                Err(_) => (item(word)?, None),
            };
            proposals.push(Proposal { item, kind, base: Base::Current, image });
        } else if let Some(text) = word.strip_prefix("base=") {
            proposals.last_mut().ok_or("a base without an operation")?.base = base(text)?;
        } else if !word.contains('=') {
            kind = Some(match *word {
                "create" => OpKind::Create,
                "update" => OpKind::Update,
                "delete" => OpKind::Delete,
                "check" => OpKind::Check,
                other => return Err(format!("no such operation: {other}")),
            });
        }
    }
    Ok(Body { proposals, deadline, wall, cfg })
}

fn base(text: &str) -> Parsed<Base> {
    Ok(match text {
        "current" => Base::Current,
        "absent" => Base::Exact(Stamp::ABSENT),
        _ => match text.split_once('@') {
            Some((version, writer)) => {
                Base::Exact(Stamp { version: number(version)?, tx: tx(writer)? })
            }
            None => Base::Version(number(text)?),
        },
    })
}

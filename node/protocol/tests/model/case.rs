//! What is explored: servers, clusters, transactions, and the rule in force. Also the messages
//! that such a case is made of, in the protocol's own types. Data only: rules live in `rounds.rs`.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{
    Boot, ClusterKey, Committed, Image, ItemId, NodeId, OpKind, Operation, Stamp, TxId,
};
use quorate_protocol::io::{Change, Placement, Stage};
use quorate_protocol::message::{Age, Ballot, Instance, Participant};

/// Bounds of the arrays that make up a state.
pub(crate) const TXS: usize = 3;
pub(crate) const CLUSTERS: usize = 2;
pub(crate) const SERVERS: usize = 5;
pub(crate) const ROUNDS: usize = 3;

/// Which rule is followed. All but the first are wrong (PROTOCOL.md part 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// PROTOCOL.md part 1.
    Sound,
    /// O1, O3–O5: votes compete in one round with quorum W, recovery commits what may be chosen.
    OneRound,
    /// O2: the same, and acceptors refuse a proposal that another undecided Yes stands against.
    OneRoundCovered,
    /// O6: one round, and each cluster applies its own decision.
    OneRoundOwnDecision,
    /// X1: commit on W Yes, without the Accept round.
    CommitOnQuorum,
    /// X2: Accept(1, aborted) on mere silence.
    AbortOnSilence,
    /// A26: `failed` is told when time is up, whatever may still come.
    FailOnTimeout,
    /// A26: a later boot of the coordinator leads round 1 again, with a value of its own.
    RoundOneAgain,
    /// X3: a No is forgotten by a restart.
    ForgetNo,
    /// A11: a Yes leaves before it is durable, and a power cut takes it.
    YesBeforeDurable,
    /// A11: the same with an accepted value.
    AcceptBeforeDurable,
    /// A27: a restart does not rebuild the locks of undecided votes.
    LoseLocks,
    /// A3: a server comes back under its name with an empty disk.
    Wiped,
    /// A3: a server takes another's data directory, and its votes as if they were its own.
    CopiedVotes,
    /// A6: a restarted coordinator counts from one again: the second transaction has the first
    /// one's id.
    ReusedIds,
    /// X4: vote and outcome are dropped as soon as the outcome is learned.
    ForgetOnLearning,
    /// A5: the same with aborts alone.
    ForgetAborts,
    /// X5: a cluster applies its own value.
    ApplyOwnValue,
    /// A12: a server that misses a commit takes over single items of it.
    RepairByItem,
    /// A4: a base above the local version is taken for lag, and for fine.
    BaseByVersion,
    /// A10: a read asks N − W + 1 servers.
    ReadByQuorum,
    /// The low-water mark rises when a majority acknowledged, not all.
    LowOnMajority,
    /// Recovery counts a promiser without vote as if it might still say Yes, up to W.
    SilentPromise,
    /// Recovery looks at votes alone, whatever was accepted.
    IgnoreAccepted,
    /// A11: a promise without a vote does not forbid a later Yes.
    VoteAfterPromise,
}

/// Which committed state a transaction builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builds {
    /// Nothing was there.
    OnNothing,
    /// The state that another transaction of the case writes; known once that one has committed.
    On(usize),
    /// A state that never existed.
    OnGhost,
}

/// A cluster: which servers are its MASTERs, and its write quorum.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) masters: Vec<usize>,
    pub(crate) write_quorum: usize,
}

impl Cluster {
    pub(crate) fn majority(&self) -> usize {
        self.masters.len() / 2 + 1
    }
}

/// A transaction: writes the one record of every cluster it touches.
#[derive(Debug, Clone)]
pub(crate) struct Tx {
    /// Number of its coordinator: a server's, or a stranger's from `SERVERS` on.
    pub(crate) coordinator: usize,
    /// Recoverers that may try it; ballots 2, 3.
    pub(crate) recoverers: usize,
    pub(crate) touches: Vec<usize>,
    pub(crate) builds: Builds,
}

/// One thing to explore.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) txs: Vec<Tx>,
    /// This many servers, the last ones, never say anything.
    pub(crate) dead: usize,
    /// Acceptors may vote No without a conflict.
    pub(crate) spurious_no: bool,
    /// Coordinators raise their low-water marks.
    pub(crate) forgetting: bool,
    pub(crate) rule: Rule,
}

impl Case {
    /// `n` MASTERs of one cluster, two transactions on its record by different coordinators.
    pub(crate) fn pair(n: usize, write_quorum: usize, recoverers: [usize; 2]) -> Self {
        let cluster = Cluster { masters: (0..n).collect(), write_quorum };
        Self {
            clusters: vec![cluster],
            txs: recoverers
                .iter()
                .enumerate()
                .map(|(number, recoverers)| Tx {
                    coordinator: SERVERS + number,
                    recoverers: *recoverers,
                    touches: vec![0],
                    builds: Builds::OnNothing,
                })
                .collect(),
            dead: 0,
            spurious_no: false,
            forgetting: false,
            rule: Rule::Sound,
        }
    }

    /// The same with one transaction only.
    pub(crate) fn single(n: usize, write_quorum: usize, recoverers: usize) -> Self {
        let mut case = Self::pair(n, write_quorum, [recoverers, 0]);
        case.txs.truncate(1);
        case
    }

    /// Two clusters without a common MASTER; W is a majority of each. Every transaction touches
    /// both.
    pub(crate) fn two_clusters(first: usize, second: usize, recoverers: &[usize]) -> Self {
        let mut case = Self::pair(first, first / 2 + 1, [0, 0]);
        let masters = (first..first + second).collect();
        case.clusters.push(Cluster { masters, write_quorum: second / 2 + 1 });
        case.txs.truncate(recoverers.len());
        for (tx, recoverers) in case.txs.iter_mut().zip(recoverers) {
            tx.touches = vec![0, 1];
            tx.recoverers = *recoverers;
        }
        case
    }

    /// Two records in clusters of their own, all on the same `n` servers. Every transaction writes
    /// both.
    pub(crate) fn two_records(n: usize, recoverers: &[usize]) -> Self {
        let mut case = Self::two_clusters(n, n, recoverers);
        case.clusters[1].masters = (0..n).collect();
        case
    }

    /// Two rivals of which each builds on what a first transaction writes.
    pub(crate) fn chain(n: usize, write_quorum: usize, recoverers: [usize; 3]) -> Self {
        let mut case = Self::pair(n, write_quorum, [0, 0]);
        let mut third = case.txs[1].clone();
        third.coordinator += 1;
        case.txs.push(third);
        for (number, tx) in case.txs.iter_mut().enumerate() {
            tx.recoverers = recoverers[number];
            tx.builds = if number == 0 { Builds::OnNothing } else { Builds::On(0) };
        }
        case
    }

    pub(crate) const fn spurious(mut self) -> Self {
        self.spurious_no = true;
        self
    }

    pub(crate) const fn forgetting(mut self) -> Self {
        self.forgetting = true;
        self
    }

    pub(crate) const fn rule(mut self, rule: Rule) -> Self {
        self.rule = rule;
        self
    }

    pub(crate) const fn dead(mut self, dead: usize) -> Self {
        self.dead = dead;
        self
    }

    /// All transactions by this coordinator.
    pub(crate) fn coordinated_by(mut self, coordinator: usize) -> Self {
        for tx in &mut self.txs {
            tx.coordinator = coordinator;
        }
        self
    }

    pub(crate) fn servers(&self) -> usize {
        self.clusters.iter().flat_map(|c| &c.masters).max().map_or(0, |last| last + 1)
    }

    /// The highest ballot round of a transaction.
    pub(crate) fn rounds(&self, tx: usize) -> usize {
        1 + self.txs[tx].recoverers
    }

    /// Two transactions that must not both commit: same base on a common item.
    pub(crate) fn rivals(&self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.txs.len()).flat_map(move |a| (a + 1..self.txs.len()).map(move |b| (a, b))).filter(
            |(a, b)| {
                let (a, b) = (&self.txs[*a], &self.txs[*b]);
                a.builds == b.builds && a.touches.iter().any(|c| b.touches.contains(c))
            },
        )
    }

    pub(crate) fn id(&self, tx: usize) -> TxId {
        let node = node(self.txs[tx].coordinator);
        let before = self.txs[..tx].iter().filter(|t| self.txs[tx].coordinator == t.coordinator);
        let before = before.filter(|_| self.rule != Rule::ReusedIds);
        TxId { node, boot: Boot(1), seq: 1 + before.count() as u64 }
    }

    /// The first transaction is the oldest.
    pub(crate) fn age(&self, tx: usize) -> Age {
        Age { wall_us: tx as u64, first: self.id(tx) }
    }

    pub(crate) fn participants(&self, tx: usize) -> Vec<Participant> {
        let touches = &self.txs[tx].touches;
        touches.iter().map(|c| Participant { cluster: key(*c), generation: 1 }).collect()
    }

    /// The operations of the clusters that a server masters.
    pub(crate) fn ops_for(&self, tx: usize, server: usize) -> Vec<Operation> {
        let touches = self.txs[tx].touches.iter();
        let mine = touches.filter(|c| self.clusters[**c].masters.contains(&server));
        mine.map(|cluster| self.op(tx, *cluster)).collect()
    }

    /// Acceptor state of the clusters that a server masters, with nothing in it.
    pub(crate) fn instances(&self, tx: usize, server: usize) -> Vec<(ClusterKey, Instance)> {
        let touches = self.txs[tx].touches.iter();
        let mine = touches.filter(|c| self.clusters[**c].masters.contains(&server));
        mine.map(|cluster| (key(*cluster), Instance::default())).collect()
    }

    fn op(&self, tx: usize, cluster: usize) -> Operation {
        let (kind, base) = match self.txs[tx].builds {
            Builds::OnNothing => (OpKind::Create, Stamp::ABSENT),
            Builds::On(other) => {
                (OpKind::Update, self.op(other, cluster).stamp_after(self.id(other)))
            }
            Builds::OnGhost => {
                let ghost = TxId { node: NodeId(99), boot: Boot(1), seq: 1 };
                (OpKind::Update, Stamp { version: 9, tx: ghost })
            }
        };
        let image = Some(Image([tx as u8].into()));
        Operation { item: item(cluster), kind, base, image }
    }

    /// The stamp that a transaction leaves in a cluster.
    pub(crate) fn stamp(&self, tx: usize, cluster: usize) -> Stamp {
        self.op(tx, cluster).stamp_after(self.id(tx))
    }

    /// The table of clusters; `changing`: every generation is to be sealed.
    pub(crate) fn placements(&self, changing: bool) -> BTreeMap<ClusterKey, Placement> {
        let masters = |cluster: &Cluster| -> Vec<NodeId> {
            cluster.masters.iter().map(|server| node(*server)).collect()
        };
        let change = |cluster: &Cluster| Change {
            masters: masters(cluster),
            unites: false,
            stage: Stage::Sealing { sealed: BTreeSet::new() },
        };
        let placement = |cluster: &Cluster| Placement {
            change: changing.then(|| change(cluster)),
            ..Placement::first(masters(cluster), cluster.write_quorum)
        };
        self.clusters.iter().enumerate().map(|(c, cluster)| (key(c), placement(cluster))).collect()
    }
}

pub(crate) const fn node(number: usize) -> NodeId {
    NodeId(number as u64 + 1)
}

pub(crate) const fn key(cluster: usize) -> ClusterKey {
    ClusterKey { database: 1, cluster: cluster as u32 }
}

pub(crate) const fn item(cluster: usize) -> ItemId {
    ItemId::record(key(cluster), 0)
}

/// The ballot of a round: round 1 is the coordinator's, every later one has a recoverer of its
/// own.
pub(crate) fn ballot(case: &Case, tx: usize, round: usize) -> Ballot {
    let leader =
        if round == 1 { node(case.txs[tx].coordinator) } else { NodeId(50 + round as u64) };
    Ballot { round: round as u32, node: leader, boot: Boot(1) }
}

/// True when this committed state has the transaction's write, or one that came after it.
pub(crate) fn includes(case: &Case, tx: usize, cluster: usize, at: Option<&Committed>) -> bool {
    let after = case.stamp(tx, cluster);
    at.is_some_and(|c| c.stamp == after || c.stamp.version > after.version)
}

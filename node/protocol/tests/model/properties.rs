//! What must hold in every state (PROTOCOL.md 3.11).

use quorate_protocol::message::{Decided, Value};
use stateright::Property;

use super::case::{Builds, Rule};
use super::generations::{self, Changes};
use super::rounds::{Ended, Rounds, State};

pub(crate) const ONE_OF_TWO: &str = "of two with one base at most one commits";
pub(crate) const ONE_VALUE: &str = "one value of a transaction in a cluster";
pub(crate) const ONE_OUTCOME: &str = "one outcome, and failed stays failed";
pub(crate) const READ_SEES: &str = "majority reads see every commit";
pub(crate) const WHOLE: &str = "only what commits as a whole is applied";
pub(crate) const HALF: &str = "no cluster applies what aborts as a whole";
pub(crate) const BASE_WAS_COMMITTED: &str = "a base is a committed state";
pub(crate) const NO_CONTRADICTION: &str = "no server meets a contradiction";
pub(crate) const ALL_OR_NOTHING: &str = "a server shows all of a transaction or nothing";
pub(crate) const APPLIED: &str = "what is decided is heard by everybody alive";
pub(crate) const NOT_STUCK: &str = "recovery ends";

impl Rounds {
    pub(crate) fn all_properties(&self) -> Vec<Property<Self>> {
        let all = vec![
            Property::always(ONE_OF_TWO, |m: &Self, s| {
                let committed = |tx| m.is_decided(s, tx, Decided::Commit);
                m.case.rivals().all(|(a, b)| !(committed(a) && committed(b)))
            }),
            Property::always(ONE_VALUE, |m: &Self, s| {
                m.instances().all(|(tx, c)| {
                    !(m.is_final(s, tx, c, Value::Prepared) && m.is_final(s, tx, c, Value::Aborted))
                })
            }),
            Property::always(ONE_OUTCOME, |m: &Self, s| {
                (0..m.case.txs.len()).all(|tx| {
                    !(m.is_decided(s, tx, Decided::Commit) && m.is_decided(s, tx, Decided::Abort))
                })
            }),
            Property::always(READ_SEES, |m: &Self, s| m.majority_reads_see_commits(s)),
            Property::always(WHOLE, |m: &Self, s| {
                (0..m.alive()).all(|server| {
                    let applied = m.facts(s, server).applied;
                    let mut txs = (0..m.case.txs.len()).filter(|tx| applied & (1 << tx) != 0);
                    txs.all(|tx| m.is_decided(s, tx, Decided::Commit))
                })
            }),
            Property::always(HALF, |m: &Self, s| {
                (0..m.alive()).all(|server| {
                    let applied = m.facts(s, server).applied;
                    let mut txs = (0..m.case.txs.len()).filter(|tx| applied & (1 << tx) != 0);
                    txs.all(|tx| !m.is_decided(s, tx, Decided::Abort))
                })
            }),
            Property::always(BASE_WAS_COMMITTED, |m: &Self, s| {
                (0..m.case.txs.len()).filter(|tx| m.is_decided(s, *tx, Decided::Commit)).all(|tx| {
                    match m.case.txs[tx].builds {
                        Builds::OnNothing => true,
                        Builds::On(other) => m.is_decided(s, other, Decided::Commit),
                        Builds::OnGhost => false,
                    }
                })
            }),
            Property::always(NO_CONTRADICTION, |m: &Self, s| {
                (0..m.alive()).all(|server| !m.facts(s, server).corrupt)
            }),
            Property::always(ALL_OR_NOTHING, |m: &Self, s| {
                (0..m.alive()).all(|server| m.facts(s, server).torn == 0)
            }),
            Property::always(NOT_STUCK, |_: &Self, s: &State| s.ended != Some(Ended::Undecided)),
            Property::always(APPLIED, |_: &Self, s: &State| s.ended != Some(Ended::Unapplied)),
        ];
        all.into_iter().filter(|p| self.only.is_none_or(|only| only == p.name)).collect()
    }

    fn instances(&self) -> impl Iterator<Item = (usize, usize)> {
        let txs = self.case.txs.iter().enumerate();
        txs.flat_map(|(tx, spec)| spec.touches.iter().map(move |c| (tx, *c)))
    }

    /// Every majority has a server that shows an undecided Yes of what committed, or has applied
    /// it (3.8).
    fn majority_reads_see_commits(&self, state: &State) -> bool {
        self.instances().filter(|(tx, _)| self.is_decided(state, *tx, Decided::Commit)).all(
            |(tx, c)| {
                let cluster = &self.case.clusters[c];
                let blind = cluster.masters.iter().filter(|server| {
                    let facts = self.facts(state, **server);
                    (facts.open_yes | facts.applied) & (1 << tx) == 0
                });
                let asked = match self.case.rule {
                    Rule::ReadByQuorum => cluster.masters.len() - cluster.write_quorum + 1,
                    _ => cluster.majority(),
                };
                blind.count() < asked
            },
        )
    }
}

impl Changes {
    pub(crate) fn all_properties(&self) -> Vec<Property<Self>> {
        let all = [
            Property::always(ONE_OF_TWO, |m: &Self, s| {
                !(0..generations::TXS).all(|tx| m.is_decided(s, tx, Decided::Commit))
            }),
            Property::always(ONE_VALUE, |m: &Self, s| {
                (0..generations::TXS).all(|tx| {
                    !(m.is_final(s, tx, Value::Prepared) && m.is_final(s, tx, Value::Aborted))
                })
            }),
            Property::always(ONE_OUTCOME, |m: &Self, s| {
                (0..generations::TXS).all(|tx| {
                    !(m.is_decided(s, tx, Decided::Commit) && m.is_decided(s, tx, Decided::Abort))
                })
            }),
            Property::always(READ_SEES, |m: &Self, s| m.reads_see_commits(s)),
            Property::always(WHOLE, |m: &Self, s: &generations::State| {
                s.servers.iter().all(|server| {
                    let outcomes = server.txs.iter().enumerate();
                    outcomes
                        .filter_map(|(tx, held)| held.outcome.map(|outcome| (tx, outcome)))
                        .all(|(tx, outcome)| m.is_decided(s, tx, outcome))
                })
            }),
        ];
        all.into_iter().filter(|p| self.only.is_none_or(|only| only == p.name)).collect()
    }
}

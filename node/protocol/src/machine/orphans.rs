//! Undecided transactions whose outcome does not come: when to ask, and when to take over
//! (PROTOCOL.md 3.7, "When"). Decides only *when* to act; `recovery.rs` does it.
//!
//! Every undecided vote gets on the list. After `orphan_after`, or at once when its coordinator's
//! connection goes down or its boot ends, MASTER number i of the transaction waits i × 20 ms, asks
//! the coordinator if it can be reached, waits while that says "still working" (2 s at most), and
//! then runs recovery. A server that holds no vote joins when a read of its is in the way.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use quorate_api::{NodeId, TxId};

use super::timers::Timer;
use super::{Cx, Machine};
use crate::io::Tick;
use crate::marks::Mark;
use crate::message::{Knowledge, Message, Participant};

/// Between the takeovers of one MASTER and the next, so that they do not duel (trap A17).
const RANK_DELAY: Tick = 20_000;

/// How long a coordinator that says it is still working is believed.
const PATIENCE: Tick = 2_000_000;

/// Recoveries led at once; the rest waits its turn, so that a dead coordinator's many transactions
/// do not fill every queue.
const RECOVERIES_MAX: usize = 1_024;

/// How long a takeover beyond that waits.
const TURN: Tick = 50_000;

/// One transaction that is looked after.
#[derive(Debug)]
struct Watch {
    /// All touched clusters as far as known; a record here knows better.
    participants: Vec<Participant>,
    /// When the coordinator was first asked.
    asked: Option<Tick>,
    /// It said that it is still working.
    working: bool,
    armed: Tick,
}

/// What is looked after, and what will be unless it is decided soon.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// In order of time, one entry an undecided record: cheaper than a timer a transaction, nearly
    /// all of which are decided before it fires.
    young: VecDeque<(Tick, TxId)>,
    watches: BTreeMap<TxId, Watch>,
}

impl Machine {
    /// A record without outcome came into being (or was found on the disk at the start).
    pub(super) fn note_undecided(&mut self, tx: TxId) {
        let at = self.now + self.config.orphan_after;
        if self.orphans.young.is_empty() {
            self.timers.set(at, Timer::Young);
        }
        self.orphans.young.push_back((at, tx));
    }

    pub(super) fn look_at_young(&mut self) {
        while let Some((at, tx)) = self.orphans.young.front().copied() {
            if at > self.now {
                self.timers.set(at, Timer::Young);
                return;
            }
            self.orphans.young.pop_front();
            if self.txs.contains_key(&tx) {
                self.watch(tx, &[], 0);
            }
        }
    }

    /// Looks after a transaction from `delay` on, later by its rank among the MASTERs.
    pub(super) fn watch(&mut self, tx: TxId, participants: &[Participant], delay: Tick) {
        if self.orphans.watches.contains_key(&tx) {
            return;
        }
        let known = self.txs.get(&tx).map(|record| record.participants.as_slice());
        let participants = known.filter(|p| !p.is_empty()).unwrap_or(participants).to_vec();
        let rank = self.masters_of(&participants).iter().position(|n| *n == self.config.node);
        let rank = rank.unwrap_or(self.members.len()) as Tick;
        let watch = Watch { participants, asked: None, working: false, armed: 0 };
        self.orphans.watches.insert(tx, watch);
        self.arm_watch(tx, self.now + delay + rank * RANK_DELAY);
    }

    fn arm_watch(&mut self, tx: TxId, at: Tick) {
        if let Some(watch) = self.orphans.watches.get_mut(&tx) {
            self.timers.clear(watch.armed, Timer::Orphan(tx));
            watch.armed = at;
            self.timers.set(at, Timer::Orphan(tx));
        }
    }

    pub(super) fn end_watch(&mut self, tx: TxId) {
        if let Some(watch) = self.orphans.watches.remove(&tx) {
            self.timers.clear(watch.armed, Timer::Orphan(tx));
        }
    }

    pub(super) fn orphan_due(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        let in_the_way = self.txs.contains_key(&tx) || self.is_read_blocked_by(tx);
        let settled = self.is_finished(tx) || self.known_outcome(cx, tx).is_some();
        if !in_the_way || settled || self.is_own_open(tx) {
            self.end_watch(tx);
            return;
        }
        let Some(watch) = self.orphans.watches.get_mut(&tx) else { return };
        let reachable =
            tx.node != self.config.node && self.peers.get(&tx.node).is_some_and(|peer| peer.up);
        if reachable {
            match watch.asked {
                None => {
                    Mark::OrphanAsked.hit();
                    watch.asked = Some(self.now);
                    let participants = watch.participants.clone();
                    cx.send_now(tx.node, Message::Status { tx, participants });
                    self.arm_watch(tx, self.now + self.config.resend);
                    return;
                }
                Some(since) if watch.working && self.now < since + PATIENCE => {
                    self.arm_watch(tx, since + PATIENCE);
                    return;
                }
                Some(_) => {}
            }
        }
        self.take_over(cx, tx);
    }

    fn take_over(&mut self, cx: &mut Cx<'_>, tx: TxId) {
        if self.recoveries.len() >= RECOVERIES_MAX {
            self.arm_watch(tx, self.now + TURN);
            return;
        }
        let Some(watch) = self.orphans.watches.get(&tx) else { return };
        let record = self.txs.get(&tx);
        let known = record.map(|r| r.participants.clone()).filter(|p| !p.is_empty());
        let participants = known.unwrap_or_else(|| watch.participants.clone());
        let ops = record.map(|r| r.ops.clone()).unwrap_or_default();
        Mark::OrphanTakenOver.hit();
        self.end_watch(tx);
        self.start_recovery(cx, tx, participants, ops);
    }

    /// What a coordinator said of a transaction that is looked after here.
    pub(super) fn status_for_watch(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        tx: TxId,
        knowledge: &Knowledge,
    ) {
        let Some(watch) = self.orphans.watches.get_mut(&tx) else { return };
        let Some(since) = watch.asked.filter(|_| from == tx.node) else { return };
        match knowledge {
            Knowledge::Working => {
                Mark::OrphanWorking.hit();
                watch.working = true;
                self.arm_watch(tx, since + PATIENCE);
            }
            // It does not work on it, so nobody does.
            Knowledge::Undecided { .. } | Knowledge::Nothing => self.take_over(cx, tx),
            Knowledge::Decided(_) | Knowledge::Finished => {}
        }
    }

    /// A connection to a coordinator went down, or its boot ended: what it left undecided here is
    /// looked after at once. If it is back, it is asked first.
    pub(super) fn reconsider_orphans(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        let Some(peer) = self.peers.get(&node) else { return };
        let (boot, up) = (peer.boot, peer.up);
        let voted = self.txs.keys().copied();
        let watched = self.orphans.watches.keys().copied();
        let left: BTreeSet<TxId> = voted
            .chain(watched)
            .filter(|tx| tx.node == node && (!up || tx.boot < boot))
            .filter(|tx| !self.is_own_open(*tx) && !self.parked.contains(*tx))
            .collect();
        for tx in left {
            let known = self.orphans.watches.get(&tx).map(|w| w.participants.clone());
            self.end_watch(tx);
            self.watch(tx, &known.unwrap_or_default(), 0);
            if up {
                self.orphan_due(cx, tx);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_api::Boot;

    use super::*;
    use crate::io::{Effect, Event, Note, Recovered};
    use crate::machine::testing::{CLUSTER, Nothing, PEER, configured_with};
    use crate::message::{Age, TxRecord};

    /// Transactions whose takeovers begin at this time.
    fn taken_over_at(machine: &mut Machine, now: Tick) -> Vec<TxId> {
        let mut out = Vec::new();
        machine.step(now, Event::Tick, &Nothing, &mut out);
        let begun = out.into_iter().filter_map(|effect| match effect {
            Effect::Note(Note::Recovering(tx)) => Some(tx),
            Effect::Note(_)
            | Effect::Send { .. }
            | Effect::Persist { .. }
            | Effect::Reply { .. } => None,
        });
        begun.collect()
    }

    /// Takeovers beyond the bound begin as others end, and none is forgotten.
    #[test]
    fn so_many_takeovers_at_once() {
        let seqs = 1..=RECOVERIES_MAX as u64 + 40;
        let undecided = seqs.clone().map(|seq| {
            let tx = TxId { node: PEER, boot: Boot(1), seq };
            let participants = [Participant { cluster: CLUSTER, generation: 1 }].into();
            let age = Age { wall_us: seq, first: tx };
            let (ops, instances) = (Vec::new(), Vec::new());
            (tx, TxRecord { age, participants, ops, vote: None, instances })
        });
        let recovered = Recovered { undecided: undecided.collect(), ..Recovered::default() };
        let mut machine = configured_with(3, Boot(1), recovered);
        let mut now = machine.config.orphan_after + RANK_DELAY;
        let mut running = taken_over_at(&mut machine, now);
        assert_eq!(running.len(), RECOVERIES_MAX);
        now += TURN;
        assert_eq!(taken_over_at(&mut machine, now), []);
        let mut done = BTreeSet::new();
        while let Some(tx) = running.pop() {
            machine.txs.remove(&tx);
            machine.end_recovery(tx);
            assert!(done.insert(tx), "{tx} twice");
            assert!(machine.recoveries.len() < RECOVERIES_MAX);
            now += TURN;
            running.extend(taken_over_at(&mut machine, now));
        }
        assert_eq!(done.into_iter().map(|tx| tx.seq).collect::<Vec<_>>(), seqs.collect::<Vec<_>>());
    }
}

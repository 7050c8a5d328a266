//! Undecided transactions whose outcome does not come: when to ask, and when to take over
//! (PROTOCOL.md 3.7, "When"). Decides only *when* to act; `recovery.rs` does it.
//!
//! Every undecided vote gets on the list. After `orphan_after`, or at once when its coordinator's
//! connection goes down or its boot ends, MASTER number i of the transaction waits i × 20 ms, asks
//! the coordinator if it can be reached, waits while that says "still working" (2 s at most), and
//! then runs recovery. A server that holds no vote joins when a read of its is in the way.
//!
//! Takeovers take turns when there are more than may be led at once. One that nobody answers, like
//! one of a cluster without its majority, makes room after its longest pause, and goes on with its
//! ballot when it is its turn again: those that could be decided wait for them, but not for ever.

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

/// How long a takeover waits until it looks again whether it may be led, on average.
const TURN: Tick = 50_000;

/// The same for one that has given up its turn: those that were never led come first.
const LATER_TURN: Tick = 8 * TURN;

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
    /// Takeovers that are led.
    led: usize,
    /// Until then some takeover is taken to wait for its turn.
    wanted_until: Tick,
}

/// Whether a recovery may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Always: the transaction is this server's own.
    Own,
    /// One of the takeovers that are led.
    Led,
    /// It was, until others wanted to be.
    Waits,
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
        let is_own = tx.node == self.config.node;
        if !is_own && !self.is_room_to_lead(TURN) {
            let at = self.later(TURN);
            self.arm_watch(tx, at);
            return;
        }
        let Some(watch) = self.orphans.watches.get(&tx) else { return };
        let record = self.txs.get(&tx);
        let known = record.map(|r| r.participants.clone()).filter(|p| !p.is_empty());
        let participants = known.unwrap_or_else(|| watch.participants.clone());
        let ops = record.map(|r| r.ops.clone()).unwrap_or_default();
        if !is_own && !self.may_take_over(&participants) {
            let at = self.later(TURN);
            self.arm_watch(tx, at);
            return;
        }
        Mark::OrphanTakenOver.hit();
        self.end_watch(tx);
        let turn = if is_own { Turn::Own } else { Turn::Led };
        self.start_recovery(cx, tx, participants, ops, turn);
    }

    /// Whoever finds an outcome has it in its log, and MASTERs that unite wait for logs of each
    /// other alone (`unite`). So where W is below a majority a server that is no MASTER, and whose
    /// read waits for it, leaves it to those who hold the votes, and goes on asking them.
    fn may_take_over(&self, participants: &[Participant]) -> bool {
        let is_mine = |p: &Participant| self.is_master(self.config.node, p.cluster);
        participants.is_empty()
            || self.is_decided_safely(participants)
            || participants.iter().any(is_mine)
    }

    /// If there is none, room is wanted at least until it is looked for again, `mean` later.
    fn is_room_to_lead(&mut self, mean: Tick) -> bool {
        let is_room = self.orphans.led < self.config.takeovers_max;
        if !is_room {
            Mark::TurnAwaited.hit();
            let again = self.now + 3 * mean / 2;
            self.orphans.wanted_until = self.orphans.wanted_until.max(again);
        }
        is_room
    }

    /// Chance sees to it that the same ones do not always come too late.
    fn later(&mut self, mean: Tick) -> Tick {
        self.now + mean / 2 + self.draw(mean)
    }

    pub(super) fn count_led(&mut self, turn: Turn) {
        self.orphans.led += usize::from(turn == Turn::Led);
    }

    pub(super) fn discount_led(&mut self, turn: Turn) {
        self.orphans.led -= usize::from(turn == Turn::Led);
    }

    /// The turn that a recovery has from now on, or the time when it has to look again.
    /// `is_stuck`: nobody has answered in its longest pause.
    pub(super) fn next_turn(&mut self, turn: Turn, is_stuck: bool) -> Result<Turn, Tick> {
        match turn {
            Turn::Led if is_stuck && self.now < self.orphans.wanted_until => {
                Mark::TurnGivenUp.hit();
                Err(self.later(LATER_TURN))
            }
            Turn::Waits if !self.is_room_to_lead(LATER_TURN) => Err(self.later(LATER_TURN)),
            Turn::Waits => {
                Mark::TurnRegained.hit();
                Ok(Turn::Led)
            }
            Turn::Own | Turn::Led => Ok(turn),
        }
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
    use crate::io::{Effect, Event, Recovered};
    use crate::machine::testing::{CLUSTER, NOTHING, PEER, configured_with, sent};
    use crate::message::{Age, Ballot, TxRecord};

    /// Takeovers led at once.
    const MOST: usize = 8;
    /// Transactions to take over.
    const ORPHANS: usize = 50;

    /// Transactions whose takeovers ask another server at this time.
    fn asked_at(machine: &mut Machine, now: Tick) -> BTreeSet<TxId> {
        let mut out = Vec::new();
        machine.step(now, Event::Tick, &NOTHING, &mut out);
        let led = machine.recoveries.keys().filter(|tx| machine.is_led_here(**tx)).count();
        assert_eq!(machine.orphans.led, led);
        let asked = out.into_iter().filter_map(|effect| match effect {
            Effect::Send { message: Message::Recover { tx, .. }, .. } => Some(tx),
            Effect::Note(_)
            | Effect::Send { .. }
            | Effect::Persist { .. }
            | Effect::Report { .. }
            | Effect::Copy { .. }
            | Effect::Survey { .. }
            | Effect::Reply { .. } => None,
        });
        let asked = asked.collect::<BTreeSet<_>>();
        assert!(asked.len() <= machine.config.takeovers_max);
        asked
    }

    /// One of three MASTERs with votes of a coordinator that is gone.
    fn bereft() -> Machine {
        let undecided = (1..=ORPHANS as u64).map(|seq| {
            let tx = TxId { node: PEER, boot: Boot(1), seq };
            let participants = [Participant { cluster: CLUSTER, generation: 1 }].into();
            let age = Age { wall_us: seq, first: tx };
            let (ops, instances) = (Vec::new(), Vec::new());
            (tx, TxRecord { age, participants, ops, vote: None, instances })
        });
        let recovered = Recovered { undecided: undecided.collect(), ..Recovered::default() };
        let mut machine = configured_with(3, Boot(1), recovered);
        machine.config.takeovers_max = MOST;
        machine
    }

    /// Takeovers beyond the bound begin as others end, and none is forgotten.
    #[test]
    fn so_many_takeovers_at_once() {
        let mut machine = bereft();
        let mut now = machine.config.orphan_after + RANK_DELAY;
        let mut led = asked_at(&mut machine, now);
        assert_eq!(led.len(), MOST);
        let mut done = BTreeSet::new();
        while let Some(tx) = led.pop_first() {
            machine.txs.remove(&tx);
            machine.end_recovery(tx);
            assert!(done.insert(tx), "{tx} twice");
            assert!(machine.recoveries.len() < MOST);
            now += TURN / 4;
            led.extend(asked_at(&mut machine, now).difference(&done));
            if led.is_empty() {
                now += 2 * TURN;
                led = asked_at(&mut machine, now);
            }
        }
        assert_eq!(done.len(), ORPHANS);
        assert_eq!(machine.orphans.led, 0);
    }

    /// Nobody answers any of them, and yet each is led now and then.
    #[test]
    fn takeovers_that_nobody_answers_take_turns() {
        let mut machine = bereft();
        let start = machine.config.orphan_after + RANK_DELAY;
        let rounds = 6 * ORPHANS as u64 / MOST as u64;
        let mut times = BTreeMap::new();
        // 1.5 s is the sum of the pauses after which a takeover makes room.
        for now in (start..).step_by(TURN as usize).take_while(|now| *now < rounds * 1_500_000) {
            for tx in asked_at(&mut machine, now) {
                *times.entry(tx).or_insert(0) += 1;
            }
        }
        assert_eq!(times.len(), ORPHANS);
        // Four times in one turn.
        assert!(times.values().all(|times| *times > 4), "{times:?}");
    }

    /// A takeover that waits is nobody's work to others, and a late answer does not let it ask.
    #[test]
    fn a_takeover_that_waits_says_so_and_is_silent() {
        let mut machine = bereft();
        let first = |machine: &Machine, is_led| {
            machine.recoveries.keys().find(|tx| machine.is_led_here(**tx) == is_led).copied()
        };
        let mut now = 0;
        let (waits, leads) = loop {
            now += TURN / 4;
            asked_at(&mut machine, now);
            if let (Some(waits), Some(leads)) = (first(&machine, false), first(&machine, true)) {
                break (waits, leads);
            }
        };
        let other = NodeId(3);
        let hear = |machine: &mut Machine, message| {
            let mut out = Vec::new();
            let event = Event::Message { from: other, cfg: 1, message };
            machine.step(now, event, &NOTHING, &mut out);
            sent(out).into_iter().map(|(_, message)| message).collect::<Vec<_>>()
        };
        for (tx, is_work) in [(waits, false), (leads, true)] {
            let said = hear(&mut machine, Message::Status { tx, participants: Vec::new() });
            let works = |message: &Message| {
                matches!(message, Message::StatusReply { knowledge: Knowledge::Working, .. })
            };
            assert_eq!(said.iter().any(works), is_work, "{said:?}");
        }
        let ballot = Ballot { round: 9, node: other, boot: Boot(1) };
        let rejected = Message::Rejected { tx: waits, cluster: CLUSTER, promised: ballot };
        assert_eq!(hear(&mut machine, rejected), []);
        while !machine.is_led_here(waits) {
            now += TURN / 4;
            let asks = asked_at(&mut machine, now).contains(&waits);
            assert_eq!(asks, machine.is_led_here(waits));
        }
    }

    /// While nobody waits, nobody makes room.
    #[test]
    fn takeovers_go_on_while_nobody_waits() {
        let mut machine = bereft();
        machine.config.takeovers_max = ORPHANS;
        let start = machine.config.orphan_after + RANK_DELAY;
        for now in (start..20_000_000).step_by(TURN as usize) {
            asked_at(&mut machine, now);
            assert_eq!(machine.orphans.led, ORPHANS);
        }
    }
}

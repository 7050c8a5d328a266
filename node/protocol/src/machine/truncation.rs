//! How far the decision log is needed: cut behind what everybody has, or past a server that is too
//! far behind; low-water marks (PROTOCOL.md 3.9 "Forgetting"). Why the log may be cut past a server
//! is argued in `align`. May not send decisions: `stream` does.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::{NodeId, TxId};

use super::stream::Peer;
use super::{Cx, Machine};
use crate::feeding::Told;
use crate::io::{Note, Tick, Write};
use crate::marks::Mark;
use crate::message::{Finished, LogPosition, Message};
use crate::planted::Bug;

/// Housekeepings between an entry's logging and its cutting past a server that aligns, at least. It
/// comes back within a round of questions, after that its acknowledgement has to arrive, and either
/// may be lost a few times; one housekeeping is already longer than both of them.
const HELD: Tick = 8;

/// Servers that are not waited for, each with the position up to which it is not.
type Passed = BTreeMap<NodeId, LogPosition>;

/// The newest part of the own log, kept for a server that aligns and is not waited for. It comes
/// back where its sources stood a moment before: were the log cut in that moment, it would have to
/// align once more, and lose the next such race, too.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hold {
    /// Kept behind this.
    from: LogPosition,
    /// Kept behind this from the next time on.
    next: LogPosition,
    since: Tick,
}

impl Hold {
    /// The log ends at `end`: what of it is not kept. That was logged one period ago or earlier.
    fn passed(&mut self, now: Tick, end: LogPosition, period: Tick) -> LogPosition {
        if now >= self.since + period {
            *self = Self { from: self.next, next: end, since: now };
        }
        self.from
    }
}

impl Machine {
    /// Raises the own low-water mark: everything logged up to what the slowest MASTER or REPLICA
    /// that is waited for has acknowledged is finished.
    pub(super) fn raise_own_low(&mut self, cx: &mut Cx<'_>) {
        // Before the first configuration nobody is known who might lack something.
        if self.members.is_empty() || self.is_behind_in_cfg() {
            return;
        }
        let me = self.config.node;
        let passed = self.passed_over(cx);
        if self.log_start < self.log_end {
            let done = self.acknowledged_by_all_but(&passed);
            if done > self.log_start {
                self.log_start = done;
                cx.write(Write::TruncateLog(done));
                self.tell_truncated(cx, &passed);
            }
        }
        let low = match cx.log_after(self.log_start) {
            Some((at, entry)) if at.boot == self.config.boot => entry.low,
            Some(_) => return,
            None => self.own_low(),
        };
        let everybody = self.config.has(Bug::ForgetPastLagging);
        let has_it = |node: &NodeId| *node == me || self.acked_by(*node) >= self.log_start;
        let is_whole = self.log_start == LogPosition::default();
        if everybody || is_whole || self.members.iter().all(has_it) {
            self.raise_everywhere(me, self.config.boot, low);
        }
        let mark = self.low.entry((me, self.config.boot)).or_insert(Finished::FIRST);
        if low > *mark {
            Mark::LowRaised.hit();
            *mark = low;
            cx.write(Write::Low(me, self.config.boot, low));
        }
    }

    /// Tells the own marks to whoever can be served from the log and has not said that it knows
    /// them. A message may be lost where no link breaks, and without the mark a server never learns
    /// that what a session has seen, and it has dropped, is finished.
    pub(super) fn tell_own_marks(&self, cx: &mut Cx<'_>) {
        let own = self.finished_of(self.config.node);
        for node in self.streamed_to().into_iter().filter(|node| self.is_up(*node)) {
            let Some(Peer { acked, finished: known, .. }) = self.peers.get(&node) else { continue };
            // Who was left behind, or joined since, may lack what is finished. It aligns first.
            if *acked < self.log_start {
                continue;
            }
            if known.everywhere < own.everywhere {
                cx.send_durable(node, Message::Everywhere { seq: own.everywhere });
            }
            if known.low < own.low {
                cx.send_durable(node, Message::Low { seq: own.low });
            }
        }
    }

    /// What this server knows to be finished of a server's current boot; of what it may have to
    /// pass on, or was fed, what it was told with a position.
    pub(super) fn finished_of(&self, node: NodeId) -> Finished {
        let is_fed = !self.topology.is_root(self.config.node);
        if node != self.config.node && (is_fed || self.is_relay()) {
            return self.relays.told.get(&node).map(|told| told.finished).unwrap_or_default();
        }
        let boot = self.current_boot(node).unwrap_or_default();
        let low = self.low.get(&(node, boot)).copied().unwrap_or(Finished::FIRST);
        Finished { boot, low, everywhere: self.everywhere(node, boot) }
    }

    /// Up to here every member has applied the own log.
    pub(super) fn acknowledged_by_all(&self) -> LogPosition {
        self.acknowledged_by_all_but(&Passed::new())
    }

    fn acknowledged_by_all_but(&self, passed: &Passed) -> LogPosition {
        let own = self.applied_from(self.config.node);
        let needed = |node| self.acked_by(node).max(passed.get(&node).copied().unwrap_or_default());
        let lagging = |node: &NodeId| self.config.has(Bug::ForgetPastLagging) && !self.is_up(*node);
        let others = self.others().into_iter().filter(|node| !lagging(node));
        others.map(needed).fold(own, core::cmp::min)
    }

    pub(super) fn on_low(&mut self, cx: &mut Cx<'_>, from: NodeId, seq: u64) {
        let Some(boot) = self.peers.get(&from).map(|peer| peer.boot) else { return };
        self.acks_due.insert(from);
        self.finish_below(cx, TxId { node: from, boot, seq });
        self.told_by_origin(from, Finished { boot, low: seq, ..Finished::default() });
    }

    /// A coordinator tells its marks to whom it knows to have applied all that they are about.
    pub(super) fn told_by_origin(&mut self, origin: NodeId, finished: Finished) {
        let at = self.applied_from(origin);
        self.relays.note_told(origin, Told { finished, at });
    }

    /// Everything of a boot below a transaction is finished.
    pub(super) fn finish_below(&mut self, cx: &mut Cx<'_>, end: TxId) {
        let first = TxId { seq: 0, ..end };
        let finished: Vec<TxId> = self.txs.range(first..end).map(|(tx, _)| *tx).collect();
        for tx in finished {
            self.drop_if_elsewhere(tx);
        }
        if let Some((tx, _)) = self.txs.range(first..end).next() {
            let detail = "undecided here, and finished for its coordinator";
            cx.note(Note::Corruption { tx: *tx, detail });
            return;
        }
        let mark = self.low.entry((end.node, end.boot)).or_insert(Finished::FIRST);
        if end.seq > *mark {
            *mark = end.seq;
            self.session_progress = true;
            cx.write(Write::Low(end.node, end.boot, end.seq));
            self.told_below(cx, end);
        }
    }

    fn acked_by(&self, node: NodeId) -> LogPosition {
        self.peers.get(&node).map_or(LogPosition::default(), |peer| peer.acked)
    }

    /// Servers that are too far behind to be waited for: by entries, or by time. None at all unless
    /// the others are a majority of every cluster (see `align` for why that is enough).
    fn passed_over(&mut self, cx: &mut Cx<'_>) -> Passed {
        let (now, start, end) = (self.now, self.log_start, self.log_end);
        let (entries, age) = (self.config.align.log_entries, self.config.align.log_age);
        let period = HELD * self.config.housekeeping;
        let mut passed = Passed::new();
        for node in self.possibly_behind() {
            let peer = self.peers.entry(node).or_default();
            let acked = peer.acked.max(start);
            match peer.behind {
                Some((position, _)) if acked < position => {}
                _ => peer.behind = (acked < end).then_some((end, now)),
            }
            let same_boot = acked.boot == end.boot;
            let lag = end.index.saturating_sub(if same_boot { acked.index } else { 0 });
            let too_old = peer.behind.is_some_and(|(_, since)| now >= since + age);
            if acked < end && (lag > entries || too_old) {
                let hold = peer.hold.as_mut();
                passed.insert(node, hold.map_or(end, |hold| hold.passed(now, end, period)));
            } else if !peer.aligning {
                peer.hold = None;
            }
            let lag = (lag, peer.behind.map(|(_, since)| since));
            if lag != core::mem::replace(&mut peer.lag, lag) {
                cx.note(Note::Lag { node, entries: lag.0, since: lag.1 });
            }
        }
        // Whoever is left behind needs them to align: they must not only have what is cut.
        let counts = |node: &NodeId| self.is_up(*node) && !passed.contains_key(node);
        let enough = |placement: &crate::io::Placement| {
            placement.masters.iter().filter(|node| counts(node)).count() >= placement.majority()
        };
        if self.is_aligning() || !self.placements.values().all(enough) {
            passed.clear();
        }
        passed
    }

    /// Servers of which there may be something to note about how far they are. While everybody has
    /// the whole log there is nothing of those that this server has never met: it is not to keep
    /// something of each of a thousand REPLICAs that it has nothing to do with.
    fn possibly_behind(&self) -> Vec<NodeId> {
        if self.log_start < self.log_end {
            return self.others();
        }
        let me = self.config.node;
        let met = self.peers.keys().filter(|node| **node != me && self.members.contains(*node));
        met.copied().collect()
    }

    /// Whoever is reachable and was passed over learns it at once.
    fn tell_truncated(&mut self, cx: &mut Cx<'_>, passed: &Passed) {
        let start = self.log_start;
        for node in passed.keys() {
            let Some(peer) = self.peers.get_mut(node) else { continue };
            if peer.acked < start {
                peer.synced = false;
                peer.sent.clear();
                if !core::mem::replace(&mut peer.left_behind, true) {
                    cx.note(Note::PassedOver(*node));
                }
                if peer.up {
                    cx.send_durable(*node, Message::Truncated { start });
                }
            }
        }
    }

    /// Smallest own sequence number still undecided in this boot.
    pub(super) fn own_low(&self) -> u64 {
        self.coordinations.first_key_value().map_or(self.next_seq, |(tx, _)| tx.seq)
    }
}

#[cfg(test)]
mod tests {
    use quorate_api::Boot;

    use super::*;
    use crate::io::{Effect, Event, Recovered};
    use crate::machine::testing::{NOTHING, PEER, configured_with, sent};

    const LATE: NodeId = NodeId(3);

    fn at(index: u64) -> LogPosition {
        LogPosition { boot: Boot(1), index }
    }

    fn acked(applied: LogPosition) -> Message {
        Message::DecideAck { applied, finished: Finished::default(), fed: false }
    }

    /// One of three MASTERs, that waits for a server with ten entries at most.
    fn machine() -> Machine {
        let mut machine = configured_with(3, Boot(1), Recovered::default());
        machine.config.align.log_entries = 10;
        for node in [PEER, LATE] {
            step(&mut machine, Event::Peer { node, boot: Boot(1), up: true });
        }
        machine
    }

    fn effects(machine: &mut Machine, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        machine.step(machine.now, event, &NOTHING, &mut out);
        out
    }

    fn step(machine: &mut Machine, event: Event) -> Vec<(NodeId, Message)> {
        sent(effects(machine, event))
    }

    fn tell(machine: &mut Machine, from: NodeId, message: Message) -> Vec<(NodeId, Message)> {
        step(machine, Event::Message { from, cfg: 1, message })
    }

    /// The log grows, all but one acknowledge it, and housekeeping is done. True when it was noted
    /// that the log was cut past that one.
    fn housekeep_at(machine: &mut Machine, end: LogPosition) -> bool {
        machine.log_end = end;
        let mut out = Vec::new();
        let mut cx = Cx::new(&NOTHING, &mut out, machine.persist_seq);
        machine.skip_log_to(&mut cx, machine.config.node, end);
        machine.persist_seq = cx.finish();
        tell(machine, PEER, acked(end));
        machine.now += machine.config.housekeeping;
        let done = effects(machine, Event::Tick);
        done.iter().any(|effect| matches!(effect, Effect::Note(Note::PassedOver(LATE))))
    }

    #[test]
    fn the_log_is_not_cut_while_a_server_is_coming_back() {
        let mut machine = machine();
        tell(&mut machine, LATE, acked(at(0)));
        housekeep_at(&mut machine, at(100));
        assert_eq!(machine.log_start, at(100), "not waited for");
        tell(&mut machine, LATE, Message::Left);
        // However long it aligns, and however much is logged meanwhile: what its sources have told
        // it last is still a position that it can go on from.
        for end in (2..200).map(|n| at(n * 100)) {
            housekeep_at(&mut machine, end);
            assert!(machine.log_start.index + 800 <= end.index.max(900), "{:?}", machine.log_start);
        }
        assert!(machine.log_start >= at(18_000), "and cut: {:?}", machine.log_start);
        let reached = at(19_850);
        let answer = tell(&mut machine, LATE, acked(reached));
        assert!(!answer.iter().any(|(_, m)| matches!(m, Message::Truncated { .. })), "{answer:?}");
        // It is behind by more than the bound, but it has a moment to catch up.
        housekeep_at(&mut machine, at(20_000));
        assert!(machine.log_start <= reached, "{:?}", machine.log_start);
        tell(&mut machine, LATE, acked(at(20_000)));
        housekeep_at(&mut machine, at(20_005));
        housekeep_at(&mut machine, at(20_100));
        assert_eq!(machine.log_start, at(20_100), "it is behind like any other now");
    }

    /// It costs a REPLICA nothing how many others there are.
    #[test]
    fn of_servers_that_it_never_met_it_keeps_nothing_while_all_is_acknowledged() {
        let mut machine = configured_with(3, Boot(1), Recovered::default());
        step(&mut machine, Event::Peer { node: PEER, boot: Boot(1), up: true });
        housekeep_at(&mut machine, LogPosition::default());
        assert!(machine.peers.keys().eq([&PEER]), "{:?}", machine.peers.keys());
        // What it logs has to reach all of them.
        housekeep_at(&mut machine, at(1));
        assert!(machine.peers.keys().eq([&PEER, &LATE]), "{:?}", machine.peers.keys());
        assert_eq!(machine.log_start, LogPosition::default());
    }

    /// A server that is down for a day is no news at every housekeeping.
    #[test]
    fn each_time_that_a_server_is_left_behind_is_noted_once() {
        let mut machine = machine();
        tell(&mut machine, LATE, acked(at(0)));
        assert!(housekeep_at(&mut machine, at(100)));
        for end in (2..10).map(|n| at(n * 100)) {
            assert!(!housekeep_at(&mut machine, end));
            assert_eq!(machine.log_start, end, "cut past it each time");
        }
        tell(&mut machine, LATE, acked(at(900)));
        assert!(housekeep_at(&mut machine, at(1_000)), "left behind anew");
    }

    fn low(machine: &mut Machine, seq: u64) {
        machine.low.insert((machine.config.node, machine.config.boot), seq);
    }

    /// What is sent at the next housekeeping.
    fn told(machine: &mut Machine) -> Vec<(NodeId, Message)> {
        machine.now += machine.config.housekeeping;
        step(machine, Event::Tick)
    }

    /// A slow disk held it back until this server was in its next boot.
    #[test]
    fn what_is_known_of_an_earlier_boot_says_nothing_of_this_one() {
        for (boot, is_told) in [(Boot(2), false), (Boot(1), true)] {
            let mut machine = configured_with(3, Boot(2), Recovered::default());
            step(&mut machine, Event::Peer { node: PEER, boot: Boot(1), up: true });
            low(&mut machine, 7);
            let finished = Finished { boot, low: 7, everywhere: 1 };
            let applied = LogPosition::default();
            let out = effects(
                &mut machine,
                Event::Message {
                    from: PEER,
                    cfg: 1,
                    message: Message::DecideAck { applied, finished, fed: false },
                },
            );
            assert!(!out.iter().any(|effect| matches!(effect, Effect::Note(_))), "{out:?}");
            let sent = told(&mut machine);
            assert_eq!(sent.contains(&(PEER, Message::Low { seq: 7 })), is_told, "{sent:?}");
        }
    }

    /// A MASTER that has become a relay knows less with the positions that those below need.
    #[test]
    fn who_says_that_it_knows_less_is_told_again() {
        let mut machine = machine();
        low(&mut machine, 7);
        let knows = |low| Finished { boot: Boot(1), low, everywhere: 1 };
        for (finished, is_told) in [(knows(7), false), (Finished::default(), true)] {
            let applied = LogPosition::default();
            tell(&mut machine, PEER, Message::DecideAck { applied, finished, fed: false });
            let sent = told(&mut machine);
            assert_eq!(sent.contains(&(PEER, Message::Low { seq: 7 })), is_told, "{sent:?}");
        }
    }

    /// It may lack what is finished.
    #[test]
    fn who_was_left_behind_is_told_of_nothing_that_is_finished() {
        let mut machine = machine();
        tell(&mut machine, LATE, acked(LogPosition::default()));
        housekeep_at(&mut machine, at(100));
        assert_eq!(machine.log_start, at(100), "not waited for");
        low(&mut machine, 7);
        machine.raise_everywhere(machine.config.node, Boot(1), 5);
        let marks = [Message::Everywhere { seq: 5 }, Message::Low { seq: 7 }];
        let sent = told(&mut machine);
        for mark in &marks {
            assert!(sent.contains(&(PEER, mark.clone())), "{sent:?}");
            assert!(!sent.contains(&(LATE, mark.clone())), "{sent:?}");
        }
        tell(&mut machine, LATE, acked(at(100)));
        let sent = told(&mut machine);
        assert!(marks.into_iter().all(|mark| sent.contains(&(LATE, mark))), "{sent:?}");
    }

    /// The time that it was behind before it left does not count when it is back.
    #[test]
    fn whoever_comes_back_is_given_time_anew() {
        let mut machine = machine();
        machine.config.align.log_entries = 1_000;
        machine.config.align.log_age = 20 * machine.config.housekeeping;
        tell(&mut machine, LATE, acked(at(0)));
        let mut end = 0;
        while machine.log_start < at(1) {
            end += 1;
            assert!(end < 40, "behind for too long, and waited for");
            housekeep_at(&mut machine, at(end));
        }
        housekeep_at(&mut machine, at(end + 100));
        tell(&mut machine, LATE, Message::Left);
        for n in 101..115 {
            housekeep_at(&mut machine, at(end + n));
        }
        let reached = at(end + 50);
        tell(&mut machine, LATE, acked(reached));
        for n in 115..133 {
            housekeep_at(&mut machine, at(end + n));
            assert!(machine.log_start <= reached, "{:?}", machine.log_start);
        }
        for n in 133..160 {
            housekeep_at(&mut machine, at(end + n));
        }
        assert!(machine.log_start > reached, "not for ever: {:?}", machine.log_start);
    }

    /// Whoever joined by it may lack what all those have that are known here.
    #[test]
    fn nothing_is_forgotten_or_told_to_a_joining_server_by_an_older_configuration() {
        let mut machine = machine();
        for node in [PEER, LATE] {
            tell(&mut machine, node, acked(at(0)));
        }
        let begin = |cfg| {
            let message = Message::Align { session: 1, ask: crate::alignment::Ask::Begin };
            Event::Message { from: NodeId(4), cfg, message }
        };
        assert_eq!(step(&mut machine, begin(2)), [], "it may keep what it is not known to keep");
        housekeep_at(&mut machine, at(100));
        tell(&mut machine, LATE, acked(at(100)));
        housekeep_at(&mut machine, at(100));
        assert!(machine.log_start < at(100), "{:?}", machine.log_start);
        let placements = machine.placements.clone();
        step(&mut machine, Event::Configure { cfg: 2, placements });
        housekeep_at(&mut machine, at(100));
        assert_eq!(machine.log_start, at(100));
        assert_eq!(step(&mut machine, begin(2)).len(), 1);
    }

    /// It needs a majority to align with; one that has the entries and is gone is no help.
    #[test]
    fn nobody_is_left_behind_by_a_minority() {
        let mut machine = machine();
        tell(&mut machine, LATE, acked(at(0)));
        for up in [false, true] {
            step(&mut machine, Event::Peer { node: PEER, boot: Boot(1), up });
            housekeep_at(&mut machine, at(100));
            assert_eq!(machine.log_start == at(100), up);
        }
    }
}

//! Feeding REPLICAs: what a relay keeps of every decision log, passes on to its children, and says
//! of them. Who is fed by whom is in `topology`, choosing and changing parents in `upstream`.
//!
//! **What is passed on.** An entry has its place in its origin's log: (boot, index), with the place
//! before it. An origin lets it out when it is durable there, and never changes it. So it does not
//! matter from whom an entry comes, nor whether it comes twice: a server takes it when it has what
//! is before it, as it does with an entry that the origin sends. Positions, session tokens, ends of
//! boots and parked entries are those of the origin's log everywhere. A relay may pass on what is
//! not durable with itself: should it forget it, its child is ahead, and is served again once the
//! relay has come so far. The own log is different: its entries wait until they are durable.
//!
//! **What a relay keeps.** Which position follows which, and which transaction it names, of the
//! last `kept` entries of each log, in memory. Contents are on its disk, as with every server,
//! until the transaction is finished; those of clusters that only REPLICAs below keep are written
//! along. That bounds memory whatever children do: each has a window, is fed at its own pace, and
//! holds up neither its siblings nor the relay. A relay that cannot serve a log from where a child
//! stands (it restarted, the child was away for long, a part of a commit or its record is missing)
//! says up to where (`lacks`), and the child takes that log from its origin until then. So what a
//! relay lost is lost to nobody, and nothing has to be kept for whoever may come.
//!
//! **What is said upward** are facts about single servers: *this* REPLICA has applied *that* log up
//! to there, durably. Such a fact stays true for ever, whichever way it takes and however late it
//! is, also when the server has changed its parent since. Relays collect them and tell them once a
//! housekeeping, MASTERs hand them to the origins: a coordinator hears from its children and the
//! other MASTERs, in a number of messages that no REPLICA adds to, and none of them is due to a
//! write. So everything that counts acknowledgements is as exact as if each had been sent directly,
//! only later: truncation, marks, tombstones, closing, lag. One REPLICA that is behind is seen
//! alone; it is waited for, or passed over (`truncation`), and no sibling has to align for it. A
//! REPLICA that the log was cut past and that its relay can still serve need not align either.
//!
//! **What is finished** is told downward with the position that a server must have applied for it
//! to be true of that server (`Told`). An origin tells its marks to whom it knows to have applied
//! all that is cut from its log, so where the receiver then is, is such a position. Marks that came
//! by alignment have none, and are not passed on until they are told again.
//!
//! A server that is reachable from below and from nobody above still counts as fed when it is a
//! MASTER: whoever follows one that is cut off from the other MASTERs alone waits as that one does.
//!
//! **Cost.** A committed write makes its coordinator send one entry to each other MASTER and to
//! each of its own children; another MASTER, and a relay, sends one to each of its children.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use quorate_api::NodeId;

use super::apply::Decision;
use super::ring::{Link, Ring};
use super::stream::{WINDOW, entry_of};
use super::{Cx, Machine};
use crate::feeding::{Entry, Fed, Finished, Member, Relay, Told};
use crate::io::Tick;
use crate::marks::Mark;
use crate::message::{Decided, LogPosition, Message, Participant};
use crate::planted::Bug;

/// Whom this server feeds, and from what.
#[derive(Debug, Default)]
pub(super) struct Relays {
    children: BTreeMap<NodeId, Child>,
    /// Of every other server's log.
    rings: BTreeMap<NodeId, Ring>,
    /// Who is below another MASTER, as that one said last.
    others: BTreeMap<NodeId, NodeId>,
    /// What was told to be finished, by coordinator.
    pub(super) told: BTreeMap<NodeId, Told>,
}

/// A server that is fed.
#[derive(Debug, Default)]
struct Child {
    /// By origin.
    feeds: BTreeMap<NodeId, Feed>,
    /// Those below it, as it said last.
    members: Vec<Member>,
}

/// How far a child was sent a log.
#[derive(Debug, Default)]
struct Feed {
    acked: LogPosition,
    cursor: LogPosition,
    sent: VecDeque<LogPosition>,
    progress_at: Tick,
    /// What it said that it knows to be finished.
    known: Finished,
    /// It has to get the log up to here elsewhere.
    lacks: Option<LogPosition>,
}

impl Feed {
    /// Begins again after what is acknowledged.
    fn rewind(&mut self, now: Tick) {
        self.cursor = self.acked;
        self.sent.clear();
        self.progress_at = now;
    }

    fn acknowledge(&mut self, now: Tick, fed: &Fed) {
        self.known = fed.finished;
        if fed.applied > self.acked {
            self.acked = fed.applied;
            self.progress_at = now;
        }
        self.cursor = self.cursor.max(self.acked);
        while self.sent.front().is_some_and(|at| *at <= self.acked) {
            self.sent.pop_front();
        }
        if self.lacks.is_some_and(|upto| self.acked >= upto) {
            self.lacks = None;
            self.rewind(now);
        }
    }
}

/// What comes next for a child.
enum Next {
    Entry(Entry),
    /// It has all there is, or more than that.
    Nothing,
    /// It has to get this much elsewhere.
    Lacks(LogPosition),
}

impl Relays {
    /// A log was skipped: what is known of its order ends there.
    pub(super) fn forget_order(&mut self, origin: NodeId) {
        self.rings.remove(&origin);
    }

    /// Nobody is fed.
    pub(super) fn clear(&mut self) {
        self.children.clear();
    }

    /// Nobody may want to be fed: entries are not noted any more.
    pub(super) fn retire(&mut self) {
        self.clear();
        self.rings.clear();
    }

    pub(super) fn remove(&mut self, child: NodeId) {
        self.children.remove(&child);
    }

    fn feeds(&self, node: NodeId) -> bool {
        self.children.contains_key(&node)
    }

    fn feed(&mut self, child: NodeId, origin: NodeId) -> Option<&mut Feed> {
        self.children.get_mut(&child)?.feeds.get_mut(&origin)
    }

    /// The child that a server is, or is below of.
    pub(super) fn child_towards(&self, node: NodeId) -> Option<NodeId> {
        let leads = |child: &Child| child.members.iter().any(|member| member.node == node);
        let mut children = self.children.iter();
        let found = children.find(|(child, of_child)| **child == node || leads(of_child));
        found.map(|(child, _)| *child)
    }

    /// The MASTER that a server is below of.
    pub(super) fn root_towards(&self, node: NodeId) -> Option<NodeId> {
        self.others.get(&node).copied()
    }

    /// Another MASTER says who is below it: nobody else is any more.
    fn note_below(&mut self, root: NodeId, members: &[(NodeId, LogPosition)]) {
        self.others.retain(|_, of| *of != root);
        self.others.extend(members.iter().map(|(node, _)| (*node, root)));
    }

    /// How far everybody below is.
    pub(super) fn members(&self) -> Vec<Member> {
        let of_child = |(node, child): (&NodeId, &Child)| {
            let applied = child.feeds.iter().map(|(origin, feed)| (*origin, feed.acked));
            let applied = applied.filter(|(_, at)| *at > LogPosition::default()).collect();
            let itself = Member { node: *node, applied };
            core::iter::once(itself).chain(child.members.iter().cloned()).collect::<Vec<_>>()
        };
        self.children.iter().flat_map(of_child).collect()
    }

    /// Somebody said what is finished.
    pub(super) fn note_told(&mut self, origin: NodeId, told: Told) {
        let known = self.told.entry(origin).or_default();
        if told.finished.is_news_to(&known.finished) {
            let is_later = told.finished.boot > known.finished.boot;
            known.at = if is_later { told.at } else { known.at.max(told.at) };
            known.finished.raise(told.finished);
        }
    }
}

impl Machine {
    /// True when somebody may want to be fed by this server.
    pub(super) fn is_relay(&self) -> bool {
        self.topology.has_below(self.config.node)
    }

    pub(super) fn on_relay(&mut self, cx: &mut Cx<'_>, from: NodeId, relay: Relay) {
        match relay {
            Relay::Follow { whole, logs, members } => {
                self.on_follow(cx, from, whole, &logs, members);
            }
            Relay::Unfollow => self.relays.remove(from),
            Relay::Feeding { hops, told, lacks } => self.on_feeding(cx, from, hops, told, lacks),
            Relay::Entry { origin, entry } => self.on_fed(cx, from, origin, entry),
            Relay::Below { members } => {
                self.relays.note_below(from, &members);
                for (node, applied) in members {
                    self.note_acked(cx, node, applied);
                }
            }
            Relay::Carry { from: asks, to, what } => self.on_carry(cx, from, asks, to, what),
        }
    }

    /// It aligns, and its word of that was lost: it would be waited for as long as it does.
    pub(super) fn refuse_to_feed(&self, cx: &mut Cx<'_>, from: NodeId, message: &Message) {
        let asks = matches!(message, Message::Relay(Relay::Follow { whole: true, .. }));
        if asks && self.align.is_some() {
            cx.send_durable(from, Message::Left);
        }
    }

    fn on_follow(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        whole: bool,
        logs: &[Fed],
        members: Vec<Member>,
    ) {
        if self.hops().is_none() && !(self.is_between_parents() && self.relays.feeds(from)) {
            self.relays.remove(from);
            self.tell_feeding(cx, from);
            return;
        }
        let (now, me) = (self.now, self.config.node);
        if whole {
            let is_new = !self.relays.children.contains_key(&from);
            let child = self.relays.children.entry(from).or_default();
            child.members = members;
            for origin in self.incoming.keys().filter(|origin| **origin != from) {
                let feed = child.feeds.entry(*origin).or_default();
                if feed.lacks.take().is_some() {
                    feed.rewind(now);
                }
            }
            if is_new && self.config.has(Bug::GapSkipped) {
                for (origin, feed) in &mut child.feeds {
                    feed.cursor = self.incoming.get(origin).map_or(feed.cursor, |i| i.received);
                }
            }
        }
        let Some(child) = self.relays.children.get_mut(&from) else { return };
        for fed in logs {
            child.feeds.entry(fed.origin).or_default().acknowledge(now, fed);
        }
        let own = child.feeds.get(&me).map(|feed| feed.acked);
        let below = child.members.iter().flat_map(|member| {
            let of_own = member.applied.iter().filter(|(origin, _)| *origin == me);
            of_own.map(|(_, at)| (member.node, *at))
        });
        let acked: Vec<_> = own.into_iter().map(|at| (from, at)).chain(below).collect();
        let origins: Vec<NodeId> = child.feeds.keys().copied().collect();
        if whole || own.is_some() {
            for (node, applied) in acked {
                self.note_acked(cx, node, applied);
            }
        }
        let mut lacks = false;
        for origin in origins {
            lacks |= self.feed(cx, from, origin);
        }
        // Between two parents it says nothing of them. It is asked again.
        if (whole || lacks) && self.hops().is_some() {
            self.tell_feeding(cx, from);
        }
    }

    /// Sends a child what its window has room for. True when it turns out to need another source.
    fn feed(&mut self, cx: &mut Cx<'_>, child: NodeId, origin: NodeId) -> bool {
        loop {
            let Some(feed) = self.relays.feed(child, origin) else { return false };
            if feed.lacks.is_some() || feed.sent.len() >= WINDOW {
                return false;
            }
            let cursor = feed.cursor;
            match self.next_for(cx, child, origin, cursor) {
                Next::Entry(entry) => self.send_fed(cx, child, origin, &entry),
                Next::Nothing => return false,
                Next::Lacks(upto) => {
                    Mark::RelayLacks.hit();
                    let Some(feed) = self.relays.feed(child, origin) else { return false };
                    feed.lacks = Some(upto);
                    return true;
                }
            }
        }
    }

    fn next_for(
        &self,
        cx: &mut Cx<'_>,
        child: NodeId,
        origin: NodeId,
        cursor: LogPosition,
    ) -> Next {
        let (at, cfg, decision) = if origin == self.config.node {
            if cursor < self.log_start {
                return Next::Lacks(self.log_start);
            }
            let Some((at, entry)) = cx.log_after(cursor) else { return Next::Nothing };
            (at, self.cfg, self.decision_of_entry(cx, &entry))
        } else {
            let ring = self.relays.rings.get(&origin);
            let start = ring.map_or_else(|| self.received_from(origin), Ring::start);
            if cursor < start {
                return Next::Lacks(start);
            }
            let next = ring.and_then(|ring| ring.after(cursor));
            let Some(Link { at, tx, outcome, cfg }) = next else {
                let received = self.received_from(origin);
                return if cursor < received { Next::Lacks(received) } else { Next::Nothing };
            };
            let is_kept = outcome == Decided::Abort || !self.is_finished(tx);
            let known = self.decision_of(cx, tx).filter(|known| known.outcome == outcome);
            let of_abort = || Decision { tx, outcome, participants: Vec::new(), ops: Vec::new() };
            let decision = if outcome == Decided::Abort { Some(of_abort()) } else { known };
            (at, cfg, decision.filter(|_| is_kept))
        };
        match decision.map(|decision| entry_of(at, cursor, cfg, decision)) {
            Some(entry) if self.serves(child, &entry) => Next::Entry(entry),
            _ => Next::Lacks(at),
        }
    }

    /// All that a child needs of an entry is at hand, as far as this server can say: who keeps a
    /// cluster that was created since its own configuration, its origin knows.
    fn serves(&self, child: NodeId, entry: &Entry) -> bool {
        let ops = entry.ops.iter().chain(&entry.relayed);
        let has = |cluster| ops.clone().any(|op| op.item.cluster == cluster);
        let mut theirs = entry.participants.iter().filter(|p| self.is_kept_by(child, p.cluster));
        let is_known = |p: &Participant| self.placements.contains_key(&p.cluster);
        let is_clear = entry.cfg <= self.cfg || entry.participants.iter().all(is_known);
        entry.outcome == Decided::Abort
            || (is_clear && !entry.participants.is_empty() && theirs.all(|p| has(p.cluster)))
    }

    fn send_fed(&mut self, cx: &mut Cx<'_>, child: NodeId, origin: NodeId, entry: &Entry) {
        let message = Relay::Entry { origin, entry: self.entry_for(child, entry) };
        if origin == self.config.node && !self.config.has(Bug::FedBeforeDurable) {
            cx.send_durable(child, Message::Relay(message));
        } else {
            cx.send_now(child, Message::Relay(message));
        }
        let now = self.now;
        if let Some(feed) = self.relays.feed(child, origin) {
            if feed.sent.is_empty() {
                feed.progress_at = now;
            }
            feed.cursor = entry.at;
            feed.sent.push_back(entry.at);
        }
    }

    /// An entry with the operations that a server keeps, and those that it passes on.
    pub(super) fn entry_for(&self, to: NodeId, entry: &Entry) -> Entry {
        let mut sent = Entry { ops: Vec::new(), relayed: Vec::new(), ..entry.clone() };
        let passes_on = self.topology.has_below(to);
        for op in entry.ops.iter().chain(&entry.relayed) {
            if self.is_kept_by(to, op.item.cluster) {
                sent.ops.push(op.clone());
            } else if passes_on && self.topology.is_relayed(op.item.cluster) {
                sent.relayed.push(op.clone());
            }
        }
        sent
    }

    /// A new entry, to every child that has all before it.
    pub(super) fn offer(&mut self, cx: &mut Cx<'_>, origin: NodeId, entry: &Entry) {
        for child in self.relays.children.keys().copied().collect::<Vec<_>>() {
            let Some(of_child) = self.relays.children.get_mut(&child) else { continue };
            if child == origin {
                continue;
            }
            let feed = of_child.feeds.entry(origin).or_default();
            let is_next = feed.cursor == entry.prev && feed.sent.len() < WINDOW;
            if feed.lacks.is_some() || !is_next {
                continue;
            }
            if self.serves(child, entry) {
                self.send_fed(cx, child, origin, entry);
            } else if self.feed(cx, child, origin) {
                self.tell_feeding(cx, child);
            }
        }
    }

    /// An entry of another server's log was taken.
    pub(super) fn pass_on(&mut self, cx: &mut Cx<'_>, origin: NodeId, entry: Entry) {
        let kept = self.config.relay.kept;
        self.relays.rings.entry(origin).or_default().push(&entry, kept);
        let is_in = cx.outcome(entry.tx) == Some(Decided::Commit) && !self.is_finished(entry.tx);
        if !entry.relayed.is_empty() && is_in {
            let ops = entry.ops.iter().chain(&entry.relayed).cloned().collect();
            let (tx, outcome, participants) = (entry.tx, entry.outcome, entry.participants.clone());
            self.keep_for_streaming(cx, &Decision { tx, outcome, participants, ops });
        }
        self.offer(cx, origin, &entry);
    }

    /// Says who feeds this server, what is finished, and what a child has to get elsewhere.
    pub(super) fn tell_feeding(&mut self, cx: &mut Cx<'_>, to: NodeId) {
        let hops = self.hops();
        let (mut told, mut lacks) = (Vec::new(), Vec::new());
        for (origin, feed) in self.relays.children.get(&to).into_iter().flat_map(|c| &c.feeds) {
            let of_origin = self.told_of(*origin);
            if of_origin.finished.is_news_to(&feed.known) {
                told.push((*origin, of_origin));
            }
            lacks.extend(feed.lacks.map(|upto| (*origin, upto)));
        }
        cx.send_durable(to, Message::Relay(Relay::Feeding { hops, told, lacks }));
    }

    /// Who feeds this server has changed.
    pub(super) fn tell_children(&mut self, cx: &mut Cx<'_>) {
        let children: Vec<NodeId> = self.relays.children.keys().copied().collect();
        for child in children {
            self.tell_feeding(cx, child);
        }
        if self.hops().is_none() {
            self.relays.clear();
        }
    }

    fn told_of(&self, origin: NodeId) -> Told {
        if origin == self.config.node {
            return Told { finished: self.finished_of(origin), at: self.log_start };
        }
        self.relays.told.get(&origin).copied().unwrap_or_default()
    }

    /// Children that do not acknowledge what they were sent are sent it again.
    pub(super) fn rewind_stalled_feeds(&mut self, cx: &mut Cx<'_>) {
        let (now, patience) = (self.now, self.config.resend);
        let mut stalled = Vec::new();
        for (child, of_child) in &mut self.relays.children {
            for (origin, feed) in &mut of_child.feeds {
                if !feed.sent.is_empty() && now >= feed.progress_at + patience {
                    Mark::FeedRewound.hit();
                    feed.rewind(now);
                    stalled.push((*child, *origin));
                }
            }
        }
        for (child, origin) in stalled {
            if self.feed(cx, child, origin) {
                self.tell_feeding(cx, child);
            }
        }
    }

    /// Hands on how far everybody below is: a MASTER to whose log it is, a REPLICA to its parent.
    pub(super) fn tell_of_those_below(&mut self, cx: &mut Cx<'_>) {
        let me = self.config.node;
        if self.align.is_some() {
            return;
        }
        if !self.topology.is_root(me) {
            self.follow_wholly(cx);
            return;
        }
        let below = self.relays.members();
        if below.is_empty() {
            return;
        }
        let deciding = below.iter().flat_map(|member| &member.applied).map(|(origin, _)| *origin);
        let mut told: BTreeSet<NodeId> = self.topology.roots().iter().copied().collect();
        told.extend(deciding);
        for origin in told.into_iter().filter(|origin| *origin != me && self.is_linked(*origin)) {
            let of_origin = |member: &Member| {
                let found = member.applied.iter().find(|(of, _)| *of == origin);
                (member.node, found.map(|(_, at)| *at).unwrap_or_default())
            };
            let members = below.iter().map(of_origin).collect();
            cx.send_now(origin, Message::Relay(Relay::Below { members }));
        }
    }
}

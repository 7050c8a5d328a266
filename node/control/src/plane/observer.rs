//! Following the log without a part in it. Voters, and whoever is about to be one, get the log from
//! the leader; all other servers (REPLICAs, and who has not been taken in yet) get what is
//! committed from a server that has applied it, as a tree ([`StateMachine::feeders`]). So what the
//! leader has to do does not depend on how many there are. May not decide what is committed.
//!
//! **Why any source will do.** A server passes on what it has applied, and that is committed: every
//! log of a later leader has these entries, at these places. So they are the same whoever they come
//! from, however often and however late, and each is taken when everything before it is applied
//! here. A snapshot is the state that such a prefix makes. Neither depth nor age matters, and who
//! passes on need not know whether the receiver is in the cluster. Here they are applied as all
//! entries are: once they, and that they are committed, are durable.
//!
//! **Taking them** puts them into the log that the library reads, and begins the library anew over
//! it, as a start does. That is done only while nothing waits for the disk, so all that the library
//! was told, and has promised, is in the log. An entry that stands there already stays, with all
//! behind it, also behind a snapshot: what a voter has acknowledged it goes on to have. Where
//! another one stands, that was not committed, nor was anything behind it. The term rises to that
//! of the entries, without a vote in it, as it does for whoever hears of a term.
//!
//! **Who follows.** Whoever is not on the log's own list as applied here, unless its leader was
//! heard of lately: somebody who is being added has not read that yet. And whoever is on it and has
//! heard of no leader for long, because it may have been taken off meanwhile. Who becomes a voter
//! thus has the log, or a snapshot of it, before the leader adds it, and goes on where it stands;
//! who is one no more reads in the log that it is not, or asks.
//!
//! **Freshness.** What is told carries the time since somebody on its way was connected with a
//! leader. What goes round in a circle, which servers with different configurations could make,
//! grows old, and old sources are left for others. Whoever reaches none of those that it may follow
//! for long follows anybody, because they may be gone for good. Commands go up the same way, and
//! questions: each server on the way asks for itself, and says what it was told. Both may be lost
//! and are repeated.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use prost::Message as _;
use quorate_api::NodeId;
use raft::eraftpb::{self, Snapshot};
use raft::{GetEntriesContext, INVALID_ID, StateRole, Storage as _};

use super::log::{self, Log};
use super::questions::Asker;
use super::state::{Entry, State};
use super::wire::{News, Wire};
use super::{
    ELECTION, Effect, MESSAGE_BYTES, Pending, Plane, SNAPSHOT, StateMachine, UnreadableError,
    library,
};

/// Ticks between two words to whom is followed.
const FOLLOW: u32 = 10;
/// Ticks without a leader's word after which somebody who is not on the log's list follows.
const SILENT: u32 = 2 * ELECTION as u32;
/// The same for somebody who is.
pub(super) const LOST: u32 = 4 * ELECTION as u32;
/// Age in ticks of what is too old to show that its source is connected with a leader.
pub(super) const STALE: u32 = 8 * ELECTION as u32;
/// Ticks for which a source that was too old or silent is left alone. When it is tried again, the
/// one before goes on to tell what is new for as long as it has not forgotten this server.
const LEFT_ALONE: u32 = 20 * ELECTION as u32;
/// Ticks after which somebody who has stopped asking is told nothing more.
const FORGOTTEN: u32 = 6 * FOLLOW;
/// Servers that a command or a question passes at most: in a circle it would go on for ever.
pub(super) const HOPS_MAX: u8 = 16;

/// Whom this server follows, and who follows it.
#[derive(Debug)]
pub(super) struct Observer {
    /// Whom it may follow, best first, as of this configuration.
    feeders: (u64, Vec<NodeId>),
    source: Option<NodeId>,
    /// Ticks until it is asked again, and since it has told something fresh.
    ask_in: u32,
    waited: u32,
    /// Ticks for which none of them could be reached.
    lost: u32,
    /// Those that were silent or too old, and for how many ticks they are left alone.
    avoided: BTreeMap<NodeId, u32>,
    /// Ticks since a leader was heard of directly.
    silence: u32,
    /// Ticks since anybody on the way to a leader was connected with it.
    age: u32,
    /// Who leads, as the source said.
    led: (Option<NodeId>, u64),
    followers: BTreeMap<NodeId, Follower>,
    /// What all followers were told of.
    told: u64,
}

/// Somebody who is told what is committed.
#[derive(Debug)]
struct Follower {
    /// Up to where.
    sent: u64,
    /// Ticks since it asked.
    ticks: u32,
    /// Ticks for which it is sent no other snapshot: one is on its way.
    rests: usize,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            feeders: (0, Vec::new()),
            source: None,
            ask_in: 0,
            waited: 0,
            lost: 0,
            avoided: BTreeMap::new(),
            // Nobody leads yet: whoever votes is patient.
            silence: 0,
            age: STALE,
            led: (None, 0),
            followers: BTreeMap::new(),
            told: 0,
        }
    }
}

impl<A: StateMachine> Plane<A> {
    /// True for a server that has no part in the log: it costs the leader nothing, and can wait.
    #[must_use]
    pub fn is_observer(&self) -> bool {
        self.follows() && !self.is_listed()
    }

    fn is_listed(&self) -> bool {
        self.raft.raft.prs().get(self.config.node.0).is_some()
    }

    /// True while this server gets the log from whoever has it.
    pub(super) fn follows(&self) -> bool {
        let raft = &self.raft.raft;
        let patience = if self.is_listed() { LOST } else { SILENT };
        let is_led = raft.leader_id != INVALID_ID && self.observer.silence < patience;
        match raft.state {
            StateRole::Leader => false,
            StateRole::Follower | StateRole::Candidate | StateRole::PreCandidate => {
                !is_led && (!self.is_listed() || self.observer.silence >= patience)
            }
        }
    }

    /// Whom this server follows, if it does.
    pub(super) fn fed_by(&self) -> Option<NodeId> {
        self.observer.source
    }

    /// A message of the log's library came from there.
    pub(super) fn hear(&mut self, from: NodeId) {
        if self.raft.raft.leader_id == from.0 {
            self.observer.silence = 0;
        }
    }

    /// Who leads, and in which term.
    pub(super) fn led_now(&self) -> (Option<NodeId>, u64) {
        if self.follows() {
            let (leader, term) = self.observer.led;
            return (leader.filter(|_| self.observer.age < STALE), term);
        }
        let raft = &self.raft.raft;
        (Some(raft.leader_id).filter(|id| *id != INVALID_ID).map(NodeId), raft.term)
    }

    pub(super) fn catch_sight(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        self.observer.avoided.remove(&node);
        self.seek(out);
    }

    pub(super) fn lose_sight(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        self.observer.followers.remove(&node);
        self.seek(out);
    }

    /// A tick later.
    pub(super) fn tick_beside(&mut self, out: &mut Vec<Effect>) {
        let leads = self.is_leader();
        let observer = &mut self.observer;
        observer.silence = if leads { 0 } else { observer.silence.saturating_add(1) };
        observer.age = observer.age.saturating_add(1);
        observer.followers.retain(|_, follower| {
            follower.ticks += 1;
            follower.rests = follower.rests.saturating_sub(1);
            follower.ticks < FORGOTTEN
        });
        observer.avoided.retain(|_, ticks| {
            *ticks -= 1;
            *ticks > 0
        });
        if !self.follows() {
            (self.observer.source, self.observer.lost) = (None, 0);
            if self.raft.raft.leader_id != INVALID_ID {
                self.observer.age = self.observer.silence;
            }
            return;
        }
        self.observer.waited += 1;
        if self.observer.waited >= 2 * FOLLOW
            && let Some(silent) = self.observer.source.take()
        {
            self.observer.avoided.insert(silent, LEFT_ALONE);
        }
        let is_any_up = self.feeders().any(|feeder| self.links.up.contains(&feeder));
        self.observer.lost = if is_any_up { 0 } else { self.observer.lost.saturating_add(1) };
        self.seek(out);
        self.observer.ask_in = self.observer.ask_in.saturating_sub(1);
        if self.observer.ask_in == 0 {
            self.ask_to_be_fed(out);
        }
    }

    /// Follows the best server that can be reached.
    fn seek(&mut self, out: &mut Vec<Effect>) {
        if !self.follows() {
            return;
        }
        let (me, cfg) = (self.config.node, self.state.cfg);
        if self.observer.feeders.0 != cfg {
            self.observer.feeders = (cfg, self.state.agreement.feeders(me));
        }
        let Observer { feeders: (_, feeders), avoided, lost, .. } = &self.observer;
        let reachable = &self.links.up;
        // Who knows of no configuration asks whomever it knows; so does who knows of one whose
        // servers may all be gone.
        let known: Vec<NodeId> = if feeders.is_empty() || *lost >= STALE {
            reachable.iter().copied().collect()
        } else {
            self.feeders().filter(|node| reachable.contains(node)).collect()
        };
        // When all are to be left alone, the one that is so for longest is asked again.
        let best = known.into_iter().min_by_key(|node| avoided.get(node).copied().unwrap_or(0));
        if best != self.observer.source {
            self.observer.source = best;
            self.observer.waited = 0;
            self.ask_to_be_fed(out);
        }
    }

    /// Whom this server may follow, best first, as of the configuration that it has last looked at.
    fn feeders(&self) -> impl Iterator<Item = NodeId> {
        self.observer.feeders.1.iter().copied()
    }

    /// Servers that this one has to be linked with so that it is told what was agreed on: whom it
    /// follows and the best whom it may; without anybody who is connected with a leader one of
    /// those who vote, in turn, so that they are not asked by all at once.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<NodeId> {
        let Observer { source, avoided, age, .. } = &self.observer;
        if !self.follows() {
            return BTreeSet::new();
        }
        let best = self.feeders().find(|feeder| !avoided.contains_key(feeder));
        let mut needs: BTreeSet<NodeId> = best.into_iter().chain(*source).collect();
        if source.is_none() || *age >= STALE {
            let me = self.config.node;
            let voters: Vec<NodeId> =
                self.state.agreement.voters().into_iter().filter(|node| *node != me).collect();
            let turn = me.0.wrapping_add(u64::from(*age / STALE));
            let at = turn.checked_rem(voters.len() as u64).and_then(|at| usize::try_from(at).ok());
            needs.extend(at.and_then(|at| voters.get(at)));
        }
        needs
    }

    fn ask_to_be_fed(&mut self, out: &mut Vec<Effect>) {
        // What comes before that is applied is not taken.
        if let Some(source) = self.observer.source.filter(|_| self.pending.is_empty()) {
            self.observer.ask_in = FOLLOW;
            out.push(Wire::Follow { applied: self.applied }.to(source, 0));
        }
    }

    /// A message beside the library's.
    pub(super) fn receive_beside(
        &mut self,
        from: NodeId,
        wire: Wire,
        out: &mut Vec<Effect>,
    ) -> Result<(), UnreadableError> {
        match wire {
            Wire::Log(_) => {}
            Wire::Follow { applied } => {
                let known = self.observer.followers.get(&from);
                let rests = known.map_or(0, |follower| follower.rests);
                let follower = Follower { sent: applied, ticks: 0, rests };
                self.observer.followers.insert(from, follower);
                self.feed(from, out);
            }
            Wire::Fed { led, age, news } => {
                if !self.follows() {
                    return Ok(());
                }
                if self.observer.source == Some(from) && age < STALE {
                    self.observer.waited = 0;
                }
                if age <= self.observer.age {
                    (self.observer.age, self.observer.led) = (age, led);
                }
                self.take(news, out)?;
            }
            Wire::Propose { entry, hops } if self.follows() => {
                let source = self.observer.source;
                let source = source.filter(|source| *source != from && hops < HOPS_MAX);
                let passed = Wire::Propose { entry, hops: hops + 1 };
                out.extend(source.map(|to| passed.to(to, 0)));
            }
            // What nobody understands must not come into the log.
            Wire::Propose { entry, .. } if Entry::<A::Command>::decode(&entry).is_err() => {}
            // Refused without a leader, as if it were lost.
            Wire::Propose { entry, .. } => drop(self.raft.propose(Vec::new(), entry)),
            Wire::Ask { .. } if self.is_full() => {}
            Wire::Ask { question, hops } => {
                let number = self.questions.add(Asker::Server(from, question, hops));
                self.ask(number, out);
            }
            Wire::Answered { question, index } => self.questions.settle(question, index),
        }
        Ok(())
    }

    /// Hands an entry to the log; false when there is nobody to take it.
    pub(super) fn hand_in(&mut self, entry: Vec<u8>, out: &mut Vec<Effect>) -> bool {
        if !self.follows() {
            return self.raft.propose(Vec::new(), entry).is_ok();
        }
        let handed = self.observer.source.map(|to| Wire::Propose { entry, hops: 0 }.to(to, 0));
        let is_handed = handed.is_some();
        out.extend(handed);
        is_handed
    }

    /// Tells everybody who follows what was applied since they were told; and who is followed, that
    /// there is room for more.
    pub(super) fn feed_all(&mut self, out: &mut Vec<Effect>) {
        if self.observer.told == self.applied {
            return;
        }
        self.observer.told = self.applied;
        for node in self.observer.followers.keys().copied().collect::<Vec<_>>() {
            self.feed(node, out);
        }
        if self.follows() {
            self.ask_to_be_fed(out);
        }
    }

    fn feed(&mut self, node: NodeId, out: &mut Vec<Effect>) {
        let Some(follower) = self.observer.followers.get(&node) else { return };
        let (sent, rests) = (follower.sent, follower.rests > 0);
        let (news, upto) = if rests && sent < self.raft.store().snapshot_state().0 {
            (News::Nothing, sent)
        } else {
            self.news_behind(sent)
        };
        if let Some(follower) = self.observer.followers.get_mut(&node) {
            follower.sent = upto;
            if matches!(news, News::Snapshot(_)) {
                follower.rests = SNAPSHOT;
            }
        }
        let (led, age) = (self.led_now(), self.observer.age);
        out.push(Wire::Fed { led, age, news }.to(node, 0));
    }

    /// What is applied here and follows an index, and up to where that goes.
    fn news_behind(&self, sent: u64) -> (News, u64) {
        let store = self.raft.store();
        if sent >= self.applied {
            return (News::Nothing, sent);
        }
        let (start, _) = store.snapshot_state();
        if sent < start {
            return (News::Snapshot(store.snapshot_bytes()), start);
        }
        let context = GetEntriesContext::empty(false);
        let entries = store.entries(sent + 1, self.applied + 1, MESSAGE_BYTES, context);
        let entries = entries.unwrap_or_default();
        let upto = entries.last().map_or(sent, |last| last.index);
        (News::Entries(entries.iter().map(|entry| entry.encode_to_vec()).collect()), upto)
    }

    /// Takes what is committed, if it goes on where this server stands.
    fn take(&mut self, news: News, out: &mut Vec<Effect>) -> Result<(), UnreadableError> {
        if !self.pending.is_empty() {
            return Ok(());
        }
        match news {
            News::Nothing => Ok(()),
            News::Entries(bytes) => {
                let decode = |bytes: &Vec<u8>| eraftpb::Entry::decode(&bytes[..]).ok();
                let Some(entries) = bytes.iter().map(decode).collect::<Option<Vec<_>>>() else {
                    return Ok(());
                };
                let applied = self.applied;
                let new = entries.into_iter().filter(|entry| entry.index > applied);
                let new: Vec<eraftpb::Entry> = new.collect();
                let places = new.iter().map(|entry| (entry.index, entry.term));
                if new.is_empty() || !self.goes_on_with(places) {
                    return Ok(());
                }
                self.begin_anew(None, out, |log, voters| log.take_committed(new, voters))
            }
            News::Snapshot(bytes) => {
                let Ok(snapshot) = Snapshot::decode(&bytes[..]) else { return Ok(()) };
                let index = log::index_of(&snapshot);
                let term = snapshot.metadata.as_ref().map_or(0, |metadata| metadata.term);
                if index <= self.applied || term < self.applied_term() {
                    return Ok(());
                }
                let state = State::decode(&snapshot.data)?;
                self.begin_anew(Some((state, index)), out, |log, _| log.take_snapshot(snapshot))
            }
        }
    }

    /// Term of the last entry that is applied.
    pub(super) fn applied_term(&self) -> u64 {
        self.raft.store().term(self.applied).unwrap_or_default()
    }

    /// Whether entries can stand behind what is applied: without gaps, their terms never falling.
    /// What is not so is no log, and no start would read it.
    fn goes_on_with(&self, mut places: impl Iterator<Item = (u64, u64)>) -> bool {
        let applied = (self.applied, self.applied_term());
        let go_on = |(before, known): (u64, u64), (index, term): (u64, u64)| {
            (index == before + 1 && term >= known).then_some((index, term))
        };
        places.try_fold(applied, go_on).is_some()
    }

    /// Changes the log, and begins the library anew over it.
    fn begin_anew(
        &mut self,
        restored: Option<(State<A>, u64)>,
        out: &mut Vec<Effect>,
        change: impl FnOnce(&mut Log, eraftpb::ConfState) -> Vec<super::LogWrite>,
    ) -> Result<(), UnreadableError> {
        let voters = self.raft.raft.prs().conf().to_conf_state();
        let mut log = core::mem::replace(self.raft.mut_store(), Log::of_a_stranger(Vec::new()));
        let writes = change(&mut log, voters);
        let applied = restored.as_ref().map_or(self.applied, |(_, index)| *index);
        self.raft = library(self.config.node, applied, log)?;
        self.handed += 1;
        out.push(Effect::Persist { number: self.handed, writes });
        if restored.is_some() {
            let (after, committed) = (self.handed, Vec::new());
            self.pending.push_back(Pending { after, ready: 0, snapshot: restored, committed });
        }
        Ok(())
    }
}

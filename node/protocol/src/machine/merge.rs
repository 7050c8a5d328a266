//! Merging what diverged in clusters with W below a majority (PROTOCOL.md 3.10). Telling divergence
//! from lag is in `lineage`, the comparison of whole clusters in `merge_compare`.
//!
//! The lowest MASTER of a cluster that is reachable merges it, while it sees all of them, or has
//! waited for the others and sees a majority ([`crate::io::MergeConfig::patience`]): so of two
//! sides of a partition at most one merges. Whoever has more than one content of an item
//! tells it. It asks everybody who keeps the cluster and is reachable what they have, and
//! - if all have the same stamp, whatever was listed beside it has lost;
//! - if only one line is there, and others lag, waits; what does not go away by itself
//!   ([`crate::io::MergeConfig::settle`]) is made equal;
//! - if there are several lines, lets the chain name the one that wins. A MASTER that lags behind
//!   exactly one line counts for that one.
//!
//! What wins is written by an ordinary transaction of one operation (`OpKind::Merge`): its base is
//! the highest stamp of all, so its version is above all of them, and whoever has a stamp that it
//! covers says Yes, or applies it. Who does not, because a client wrote meanwhile, keeps its own,
//! and lists the merge as one more content: it is looked at again. Two servers that merge at once
//! write two merges of one base; they are two lines like any other, and the next look finds them.
//!
//! Who merges keeps nothing on its disk: the lists do, so when it dies another one begins anew.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{
    ClusterKey, Committed, ErrorCode, ItemId, Merge, NodeId, OpKind, Operation, Stamp, TxId,
};

use super::request::{Retry, refuse};
use super::{Cx, Machine};
use crate::chain::{Copy, Resolver};
use crate::conflict::{Fate, Merging, State};
use crate::io::{
    Base, CLOSED, Choose, Failure, Note, PAGE_BYTES, Placement, Proposal, Submit, Tick, bytes_of,
};
use crate::marks::Mark;
use crate::message::{Age, Message};
use crate::planted::Bug;

/// Questions under way at once.
const LOOKS_MAX: usize = 4;

/// Items that wait to be looked at; more come again.
const AGENDA_MAX: usize = 4_096;

/// How long a merge is tried before recovery finds what became of it.
const TIME: Tick = 2_000_000;

/// The part of this server in merging.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Items with contents here that are not merged.
    open: BTreeSet<ItemId>,
    /// The last of them that was told.
    cursor: Option<ItemId>,
    /// To be looked at by this server.
    agenda: BTreeSet<ItemId>,
    looks: BTreeMap<u64, Look>,
    number: u64,
    /// What may be mere lag: since when, and what everybody has.
    seen: BTreeMap<ItemId, (Tick, Picture)>,
    /// Without a winner: until when they are left alone.
    rests: BTreeMap<ItemId, Tick>,
    /// When a server last came or went.
    pub(super) changed_at: Tick,
    pub(super) sweep: super::merge_compare::Sweep,
}

/// Who has which stamp of an item.
type Picture = BTreeMap<NodeId, Stamp>;

/// A question under way.
#[derive(Debug)]
struct Look {
    at: Tick,
    items: Vec<ItemId>,
    asked: BTreeSet<NodeId>,
    answers: BTreeMap<NodeId, Vec<State>>,
    /// Somebody chose the winner.
    choice: Option<Choose>,
}

/// What wins, and who said so.
struct Winner<'a> {
    committed: &'a Committed,
    by: &'static str,
}

/// What is to be done about an item.
enum Verdict<'a> {
    /// Nothing differs.
    Equal(&'a State),
    /// It may go away by itself.
    Wait,
    /// This is to be the content of all of them.
    Write(Winner<'a>),
    /// Nobody won.
    Undecided,
}

/// The states of one item, and what they say.
struct Scene<'a> {
    states: BTreeMap<NodeId, &'a State>,
    /// The last state of every line.
    heads: Vec<&'a State>,
    /// Something that is known of one line does not reach down to another stamp.
    unsure: bool,
}

impl<'a> Scene<'a> {
    fn of(states: BTreeMap<NodeId, &'a State>) -> Self {
        let mut by_stamp: BTreeMap<Stamp, &State> = BTreeMap::new();
        for state in states.values() {
            by_stamp.entry(state.stamp()).or_insert(state);
        }
        if by_stamp.len() > 1 {
            // Everything was built on nothing.
            by_stamp.remove(&Stamp::ABSENT);
        }
        let is_past = |state: &&State| {
            by_stamp.values().any(|other| other.ancestors.contains(&state.stamp()))
        };
        let heads: Vec<&State> = by_stamp.values().copied().filter(|s| !is_past(s)).collect();
        let is_unsure = |one: &State, other: &State| {
            let (version, head) = (one.stamp().version, other.stamp().version);
            let reached = other.ancestors.iter().map(|stamp| stamp.version).min().unwrap_or(head);
            version < head && version < reached
        };
        let unsure = heads.iter().any(|one| heads.iter().any(|other| is_unsure(one, other)));
        Self { states, heads, unsure }
    }

    fn picture(&self) -> Picture {
        self.states.iter().map(|(node, state)| (*node, state.stamp())).collect()
    }

    /// The head of the one line that a state belongs to.
    fn line_of(&self, state: &State) -> Option<&'a State> {
        let stamp = state.stamp();
        let has = |head: &&&State| head.stamp() == stamp || head.ancestors.contains(&stamp);
        let mut lines = self.heads.iter().filter(has);
        let line = *lines.next()?;
        lines.next().is_none().then_some(line)
    }

    /// The highest of the heads.
    fn highest(&self) -> Option<&'a State> {
        self.heads.iter().copied().max_by_key(|head| head.stamp())
    }
}

/// What is to be equal, whoever wrote it.
fn content(committed: &Committed) -> Option<&[u8]> {
    let bytes = || committed.image.as_ref().map_or(&[][..], |image| &image.0[..]);
    committed.live.then(bytes)
}

impl Merger {
    pub(super) fn recovered(open: BTreeSet<ItemId>) -> Self {
        Self { open, ..Self::default() }
    }

    /// Takes note whether an item has contents here that are not merged. News of it end a rest.
    pub(super) fn note_open(&mut self, item: &ItemId, is_open: bool) {
        if is_open {
            self.open.insert(item.clone());
        } else {
            self.open.remove(item);
        }
        self.rests.remove(item);
    }

    /// There are contents of it here that are not merged.
    pub(super) fn is_open(&self, item: &ItemId) -> bool {
        self.open.contains(item)
    }

    pub(super) fn is_busy(&self, items: usize) -> bool {
        self.agenda.len() >= items
    }

    pub(super) fn add(&mut self, item: ItemId) {
        let is_asked = self.looks.values().any(|look| look.items.contains(&item));
        if !is_asked && self.agenda.len() < AGENDA_MAX {
            self.agenda.insert(item);
        }
    }
}

impl Machine {
    /// Items with contents here that are not merged.
    #[must_use]
    pub fn diverged(&self) -> usize {
        self.merger.open.len()
    }

    /// Now and then, and only where W is below a majority.
    pub(super) fn merge_due(&mut self, cx: &mut Cx<'_>) {
        let me = self.config.node;
        let is_mine = |p: &Placement| !p.is_safe() && p.is_held_by(me);
        if self.align.is_some() || !self.placements.values().any(is_mine) {
            return;
        }
        let patience = 4 * self.config.resend;
        let now = self.now;
        let late = |look: &Look| now >= look.at + patience && look.choice.is_none();
        self.merger.looks.retain(|_, look| !late(look));
        self.end_choices(cx);
        self.merger.rests.retain(|_, until| *until > now);
        self.tell_of_open(cx);
        for item in self.merger.seen.keys().cloned().collect::<Vec<_>>() {
            self.merger.add(item);
        }
        self.begin_looks(cx);
        self.sweep_due(cx);
    }

    /// The MASTER that merges a cluster, as far as this server sees.
    pub(super) fn merger_of(&self, cluster: ClusterKey) -> Option<NodeId> {
        let placement = self.placements.get(&cluster)?;
        let up: Vec<NodeId> =
            placement.masters.iter().copied().filter(|node| self.is_up(*node)).collect();
        let all = up.len() == placement.masters.len();
        let waited = self.now >= self.merger.changed_at + self.config.merge.patience;
        let counts = all || (waited && up.len() >= placement.majority());
        let enough = !placement.is_safe() && counts;
        up.into_iter().min().filter(|_| enough)
    }

    /// Takes the next items that diverged here to whoever merges them.
    fn tell_of_open(&mut self, cx: &mut Cx<'_>) {
        let items = self.config.merge.items;
        let behind = |item: &&ItemId| self.merger.cursor.as_ref().is_none_or(|at| *item > at);
        let next = self.merger.open.iter().filter(behind).take(items);
        let next: Vec<ItemId> = next.cloned().collect();
        self.merger.cursor = next.last().filter(|_| next.len() == items).cloned();
        let mut told: BTreeMap<NodeId, Vec<ItemId>> = BTreeMap::new();
        for item in next.into_iter().filter(|item| !self.merger.rests.contains_key(item)) {
            if let Some(merger) = self.merger_of(item.cluster) {
                told.entry(merger).or_default().push(item);
            }
        }
        for (merger, items) in told {
            cx.send_now(merger, Message::Merging(Merging::Diverged { items }));
        }
    }

    fn begin_looks(&mut self, cx: &mut Cx<'_>) {
        while self.merger.looks.len() < LOOKS_MAX
            && let Some(first) = self.merger.agenda.first().cloned()
        {
            let cluster = first.cluster;
            let of_cluster = self.merger.agenda.iter().filter(|item| item.cluster == cluster);
            let items: Vec<ItemId> = of_cluster.take(self.config.merge.items).cloned().collect();
            for item in &items {
                self.merger.agenda.remove(item);
            }
            self.look_at(cx, cluster, items, None);
        }
    }

    /// Asks everybody who keeps the cluster and is reachable; false without a majority.
    fn look_at(
        &mut self,
        cx: &mut Cx<'_>,
        cluster: ClusterKey,
        items: Vec<ItemId>,
        choice: Option<Choose>,
    ) -> bool {
        let Some(placement) = self.placements.get(&cluster) else { return false };
        let asked = self.reachable_holders(placement);
        let masters = placement.masters.iter().filter(|node| asked.contains(node)).count();
        if placement.is_safe() || masters < placement.majority() {
            return false;
        }
        self.merger.number += 1;
        let number = self.merger.number;
        for node in &asked {
            let items = items.clone();
            cx.send_now(*node, Message::Merging(Merging::Look { number, items }));
        }
        let (at, answers) = (self.now, BTreeMap::new());
        self.merger.looks.insert(number, Look { at, items, asked, answers, choice });
        true
    }

    pub(super) fn reachable_holders(&self, placement: &Placement) -> BTreeSet<NodeId> {
        let holders = placement.masters.iter().chain(&placement.replicas).copied();
        holders.filter(|node| self.is_up(*node)).collect()
    }

    pub(super) fn on_merging(&mut self, cx: &mut Cx<'_>, from: NodeId, merging: Merging) {
        match merging {
            Merging::Diverged { items } => {
                for item in items {
                    if !self.merger.rests.contains_key(&item) {
                        self.merger.add(item);
                    }
                }
                self.begin_looks(cx);
            }
            Merging::Look { number, items } => {
                let states = self.states_of(cx, items);
                let seen = Merging::Seen { number, states };
                cx.send_durable(from, Message::Merging(seen));
            }
            Merging::Seen { number, states } => self.on_seen(cx, from, number, states),
            Merging::Settled { item, stamp, ancestors } => {
                self.on_settled(cx, &item, stamp, &ancestors);
            }
            Merging::Undecided { item, contents } => {
                self.on_undecided(cx, &item, contents);
                self.merger.rests.insert(item, self.now + self.config.merge.rest);
            }
            Merging::Range { cluster, from: after, upto, digest } => {
                self.on_range(cx, from, cluster, after, upto, digest);
            }
            Merging::Listed { cluster, from: after, upto, entries } => {
                self.on_listed(cx, from, cluster, after, upto, entries);
            }
        }
    }

    /// As many as fit; who asked asks for the others again.
    fn states_of(&self, cx: &Cx<'_>, items: Vec<ItemId>) -> Vec<State> {
        let mut bytes = 0;
        let mut states = Vec::new();
        for item in items {
            if bytes >= PAGE_BYTES {
                break;
            }
            let committed = cx.item(&item);
            bytes += committed.as_ref().map_or(0, |committed| bytes_of(&item.key, committed));
            let busy = self.locks.holders(&item).next().is_some();
            let open = cx.rivals(&item).into_iter().filter(|rival| rival.fate != Fate::Lost);
            states.push(State {
                committed,
                ancestors: cx.ancestors(&item),
                rivals: open.map(|rival| (rival.committed.stamp, rival.ancestors)).collect(),
                busy,
                item,
            });
        }
        states
    }

    fn on_seen(&mut self, cx: &mut Cx<'_>, from: NodeId, number: u64, states: Vec<State>) {
        let Some(look) = self.merger.looks.get_mut(&number) else { return };
        if !look.asked.contains(&from) {
            return;
        }
        look.answers.insert(from, states);
        if look.answers.len() < look.asked.len() {
            return;
        }
        let Some(look) = self.merger.looks.remove(&number) else { return };
        for (at, item) in look.items.iter().enumerate() {
            let of_item = |states: &'_ Vec<State>| states.get(at).is_some_and(|s| s.item == *item);
            if !look.answers.values().all(of_item) {
                self.merger.add(item.clone());
                continue;
            }
            let states: BTreeMap<NodeId, &State> =
                look.answers.iter().map(|(node, states)| (*node, &states[at])).collect();
            let mine = states.get(&self.config.node).map(|state| state.stamp());
            if mine.is_some_and(|stamp| stamp != cx.stamp(item)) && look.choice.is_none() {
                self.merger.add(item.clone());
                continue;
            }
            let scene = Scene::of(states);
            match &look.choice {
                None => self.judge_item(cx, item, &scene),
                Some(choice) => self.carry_out(cx, &scene, choice.clone()),
            }
        }
        self.begin_looks(cx);
    }

    fn judge_item(&mut self, cx: &mut Cx<'_>, item: &ItemId, scene: &Scene<'_>) {
        if scene.states.values().any(|state| state.busy) {
            Mark::MergeBusy.hit();
            return;
        }
        let verdict = self.verdict(item, scene);
        if !matches!(verdict, Verdict::Wait) {
            self.merger.seen.remove(item);
        }
        match verdict {
            Verdict::Equal(state) => {
                let (stamp, ancestors) = (state.stamp(), &state.ancestors);
                let masters = self.placements.get(&item.cluster).map(|p| &p.masters);
                if !masters.into_iter().flatten().all(|node| scene.states.contains_key(node)) {
                    // Somebody who is not reachable may still have what is listed.
                    self.merger.rests.insert(item.clone(), self.now + self.config.merge.settle);
                    return;
                }
                let listed = scene.states.iter().filter(|(_, state)| !state.rivals.is_empty());
                for (node, _) in listed {
                    Mark::MergeSettled.hit();
                    let (item, ancestors) = (item.clone(), ancestors.clone());
                    let settled = Merging::Settled { item, stamp, ancestors };
                    cx.send_durable(*node, Message::Merging(settled));
                }
            }
            Verdict::Wait => Mark::LagAwaited.hit(),
            Verdict::Write(Winner { committed, by }) => {
                cx.note(Note::Merged { item: item.clone(), by });
                self.write_merge(cx, item, scene, committed, None);
            }
            Verdict::Undecided => self.tell_undecided(cx, item, scene),
        }
    }

    fn verdict<'a>(&mut self, item: &ItemId, scene: &Scene<'a>) -> Verdict<'a> {
        let picture = scene.picture();
        let Some(highest) = scene.highest() else { return Verdict::Wait };
        // Nobody has it: its tombstone was dropped.
        let Some(committed) = &highest.committed else { return Verdict::Equal(highest) };
        // A tombstone may be dropped here and there.
        let is_same = |stamp: &Stamp| {
            *stamp == highest.stamp() || (*stamp == Stamp::ABSENT && !committed.live)
        };
        if picture.values().all(is_same) {
            return Verdict::Equal(highest);
        }
        let one_line = scene.heads.len() == 1;
        if (one_line || scene.unsure) && !self.stays(item, picture) {
            return Verdict::Wait;
        }
        if one_line {
            Mark::LagMerged.hit();
            return Verdict::Write(Winner { committed, by: "lag" });
        }
        let same = |head: &&State| head.committed.as_ref().map(content) == Some(content(committed));
        if scene.heads.iter().all(same) {
            Mark::SameMerged.hit();
            return Verdict::Write(Winner { committed, by: "same" });
        }
        self.by_chain(item, scene).map_or(Verdict::Undecided, Verdict::Write)
    }

    /// True once what everybody has has been the same for a while.
    fn stays(&mut self, item: &ItemId, picture: Picture) -> bool {
        let (now, settle) = (self.now, self.config.merge.settle);
        match self.merger.seen.get(item) {
            Some((since, before)) if *before == picture => now >= *since + settle,
            _ => {
                if self.merger.seen.len() < AGENDA_MAX {
                    self.merger.seen.insert(item.clone(), (now, picture));
                }
                false
            }
        }
    }

    fn by_chain<'a>(&self, item: &ItemId, scene: &Scene<'a>) -> Option<Winner<'a>> {
        let placement = self.placements.get(&item.cluster)?;
        let masters = placement.masters.iter().filter_map(|node| scene.states.get(node));
        let lines = masters.filter_map(|state| scene.line_of(state)?.committed.as_ref());
        let lines: Vec<&Committed> = lines.collect();
        let copy = |committed: &&'a Committed| Copy {
            content: content(committed).map(|bytes| (committed.stamp.version, bytes)),
            data_center: None,
        };
        let copies: Vec<Copy<'_>> = lines.iter().map(copy).collect();
        let chain = &self.config.merge.chain;
        let (winner, step) = chain.winner(&copies, placement.write_quorum)?;
        Mark::ChainDecided.hit();
        Some(Winner { committed: lines[winner], by: name_of(step) })
    }

    /// Writes what wins above everything that anybody has.
    fn write_merge(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        scene: &Scene<'_>,
        winner: &Committed,
        choice: Option<Choose>,
    ) {
        let mut of: BTreeSet<Stamp> = scene.heads.iter().map(|head| head.stamp()).collect();
        let mut past: BTreeSet<Stamp> = BTreeSet::new();
        for state in scene.states.values() {
            past.insert(state.stamp());
            past.extend(&state.ancestors);
            for (stamp, ancestors) in &state.rivals {
                of.insert(*stamp);
                past.extend(ancestors);
            }
        }
        of.insert(winner.stamp);
        of.remove(&Stamp::ABSENT);
        // A rival may be what another one, or a head, was built on.
        let known_past: BTreeSet<Stamp> =
            scene.states.values().fold(BTreeSet::new(), |mut all, s| {
                all.extend(&s.ancestors);
                all.extend(s.rivals.iter().flat_map(|(_, ancestors)| ancestors));
                all
            });
        of.retain(|stamp| !known_past.contains(stamp) || *stamp == winner.stamp);
        past.retain(|stamp| !of.contains(stamp) && *stamp != Stamp::ABSENT);
        let highest = of.iter().chain(&past).max().copied().unwrap_or(winner.stamp);
        let base = if self.config.has(Bug::MergeBelowHighest) { winner.stamp } else { highest };
        let merge = Merge {
            of: of.into_iter().collect(),
            past: past.into_iter().collect(),
            live: winner.live,
        };
        let (item, image) = (item.clone(), winner.image.clone());
        let kind = OpKind::Merge(Box::new(merge));
        self.coordinate_merge(cx, Operation { item, kind, base, image }, choice);
    }

    fn tell_undecided(&mut self, cx: &mut Cx<'_>, item: &ItemId, scene: &Scene<'_>) {
        Mark::ChainUndecided.hit();
        let until = self.now + self.config.merge.rest;
        let contents: Vec<Committed> =
            scene.heads.iter().filter_map(|head| head.committed.clone()).collect();
        let me = self.config.node;
        for node in scene.states.keys().filter(|node| **node != me) {
            let (item, contents) = (item.clone(), contents.clone());
            cx.send_durable(*node, Message::Merging(Merging::Undecided { item, contents }));
        }
        if self.on_undecided(cx, item, contents) {
            let mut groups: Vec<(Option<Committed>, Vec<NodeId>)> = Vec::new();
            for (node, state) in &scene.states {
                match groups.iter_mut().find(|(of, _)| *of == state.committed) {
                    Some((_, nodes)) => nodes.push(*node),
                    None => groups.push((state.committed.clone(), [*node].into())),
                }
            }
            cx.note(Note::NoWinner { item: item.clone(), groups });
        }
        self.merger.rests.insert(item.clone(), until);
    }

    /// One operation, by an ordinary transaction.
    fn coordinate_merge(&mut self, cx: &mut Cx<'_>, op: Operation, choice: Option<Choose>) {
        let first = TxId::NONE;
        let (age, attempt) = (Age { wall_us: 0, first }, 0);
        let waits = choice.is_some();
        let (request, deadline) =
            choice.map_or((0, self.now + TIME), |choice| (choice.request, choice.deadline));
        let Operation { item, kind, image, .. } = op.clone();
        let proposal = Proposal { item, kind, base: Base::Current, image };
        // It brings no keys, so no index is missed; a cluster that was dropped refuses it.
        let schema = CLOSED - 1;
        let submit = Submit { request, ops: [proposal].into(), deadline, wall_us: 0, schema };
        self.coordinate(cx, Retry { submit, age, attempt }, [op].into(), waits);
    }

    /// Somebody chose: what everybody has must be known first, to write above it.
    pub(super) fn on_choose(&mut self, cx: &mut Cx<'_>, choose: Choose) {
        let (request, item) = (choose.request, choose.item.clone());
        if self.is_aligning() {
            refuse(cx, request, Failure::of(ErrorCode::NotReady));
        } else if self.placements.get(&item.cluster).is_none_or(Placement::is_safe) {
            refuse(cx, request, Failure::on(ErrorCode::BadRequest, &item));
        } else if !self.look_at(cx, item.cluster, [item.clone()].into(), Some(choose)) {
            refuse(cx, request, Failure::on(ErrorCode::NoQuorum, &item));
        }
    }

    fn carry_out(&mut self, cx: &mut Cx<'_>, scene: &Scene<'_>, choose: Choose) {
        let Choose { request, item, winner, .. } = &choose;
        let found = scene.states.values().filter_map(|state| state.committed.clone());
        let listed = cx.rivals(item).into_iter().map(|rival| rival.committed);
        match found.chain(listed).find(|committed| committed.stamp == *winner) {
            Some(committed) => {
                let by = "manual";
                cx.note(Note::Merged { item: item.clone(), by });
                self.write_merge(cx, &item.clone(), scene, &committed, Some(choose));
            }
            None => {
                let current = Some(cx.stamp(item));
                let failure = Failure { current, ..Failure::on(ErrorCode::VersionConflict, item) };
                refuse(cx, *request, failure);
            }
        }
    }

    /// Choices that nobody answers.
    fn end_choices(&mut self, cx: &mut Cx<'_>) {
        let now = self.now;
        let is_over =
            |look: &Look| look.choice.as_ref().is_some_and(|choice| now >= choice.deadline);
        let over = self.merger.looks.iter().filter(|(_, look)| is_over(look));
        for number in over.map(|(number, _)| *number).collect::<Vec<_>>() {
            let Some(Choose { request, item, .. }) =
                self.merger.looks.remove(&number).and_then(|look| look.choice)
            else {
                continue;
            };
            refuse(cx, request, Failure::on(ErrorCode::NoQuorum, &item));
        }
    }
}

const fn name_of(step: &Resolver) -> &'static str {
    match step {
        Resolver::Quorum => "quorum",
        Resolver::Content => "content",
        Resolver::Majority => "majority",
        Resolver::Version => "version",
        Resolver::DataCenter(_) => "dc",
    }
}

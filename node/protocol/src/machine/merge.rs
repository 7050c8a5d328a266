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
//! Only MASTERs are waited for. A REPLICA that does not answer is left out after a while, and what
//! REPLICAs have counts only where the MASTERs are of one line: they get a merge by logs, as
//! whatever is decided, and who has something that it does not cover tells so again.
//!
//! What wins is written by an ordinary transaction of one operation (`OpKind::Merge`): its base is
//! the highest stamp of all, so its version is above all of them, and whoever has a stamp that it
//! covers says Yes, or applies it. Who does not, because a client wrote meanwhile, keeps its own,
//! and lists the merge as one more content: it is looked at again. Two servers that merge at once
//! write two merges of one base; they are two lines like any other, and the next look finds them.
//!
//! Who merges keeps nothing on its disk: the lists do, so when it dies another one begins anew.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use quorate_api::{ClusterKey, ItemId, NodeId, TxId};

use super::lost::Lost;
use super::merge_verdict::{Scene, Seen, Verdict, Winner};
use super::{Cx, Machine};
use crate::chain::Chain;
use crate::conflict::{Choose, Fate, Logged, Merging, Rival, State};
use crate::io::{PAGE_BYTES, Placement, Tick, bytes_of};
use crate::marks::Mark;
use crate::message::{LogPosition, Message};

/// Questions under way at once.
const LOOKS_MAX: usize = 4;

/// Items that wait to be looked at; more come again.
pub(super) const AGENDA_MAX: usize = 4_096;

/// The part of this server in merging.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Items with contents here that are not merged.
    open: BTreeSet<ItemId>,
    /// Who names winners, in databases where that was agreed on.
    pub(super) chains: BTreeMap<u32, Chain>,
    /// Contents here that have lost.
    pub(super) lost: Lost,
    /// The last of them that was told.
    cursor: Option<ItemId>,
    /// To be looked at by this server.
    agenda: BTreeSet<ItemId>,
    pub(super) looks: BTreeMap<u64, Look>,
    number: u64,
    /// What may be mere lag, or was under way: to be looked at again.
    pub(super) seen: BTreeMap<ItemId, Seen>,
    /// Without a winner: until when they are left alone.
    pub(super) rests: BTreeMap<ItemId, Tick>,
    /// Merges that are not decided yet, and who named the winner.
    pub(super) writing: BTreeMap<TxId, &'static str>,
    /// When a server last came or went.
    pub(super) changed_at: Tick,
    pub(super) sweep: super::merge_compare::Sweep,
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Look {
    at: Tick,
    items: Vec<ItemId>,
    asked: BTreeSet<NodeId>,
    answers: BTreeMap<NodeId, (Vec<State>, Logged)>,
    /// Somebody chose the winner.
    pub(super) choice: Option<Choose>,
}

impl Merger {
    pub(super) fn recovered(open: BTreeSet<ItemId>, lost: Lost) -> Self {
        Self { open, lost, ..Self::default() }
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

    /// Items of a cluster with such contents.
    pub(super) fn open_of(&self, cluster: ClusterKey) -> impl Iterator<Item = &ItemId> {
        self.open.iter().filter(move |item| item.cluster == cluster)
    }

    /// Clusters with such items.
    pub(super) fn open_clusters(&self) -> Vec<ClusterKey> {
        let clusters: BTreeSet<ClusterKey> = self.open.iter().map(|item| item.cluster).collect();
        clusters.into_iter().collect()
    }

    /// Nothing of a cluster is open, or looked at.
    pub(super) fn is_done(&self, cluster: ClusterKey) -> bool {
        let of = |item: &ItemId| item.cluster == cluster;
        let mut looks = self.looks.values().flat_map(|look| &look.items);
        !self.open.iter().any(of)
            && !self.agenda.iter().any(of)
            && !self.seen.keys().any(of)
            && !looks.any(of)
    }

    /// A cluster is merged no more.
    pub(super) fn leave(&mut self, cluster: ClusterKey) {
        self.agenda.retain(|item| item.cluster != cluster);
        self.seen.retain(|item, _| item.cluster != cluster);
        self.rests.retain(|item, _| item.cluster != cluster);
    }

    /// There are contents of it here that are not merged.
    pub(super) fn is_open(&self, item: &ItemId) -> bool {
        self.open.contains(item)
    }

    pub(super) fn is_busy(&self, items: usize) -> bool {
        self.agenda.len() + self.seen.len() >= items
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
        self.do_without_replicas(cx);
        let late = |look: &Look| now >= look.at + patience && look.choice.is_none();
        let over: Vec<Look> =
            self.merger.looks.extract_if(.., |_, look| late(look)).map(|(_, look)| look).collect();
        for item in over.into_iter().flat_map(|look| look.items) {
            self.merger.add(item);
        }
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
        // Nothing is voted for in one that was dropped.
        let placement = self.placements.get(&cluster).filter(|p| !p.is_closed())?;
        if placement.is_ending() {
            return None;
        }
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
        let from = self.merger.cursor.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.merger.open.range((from, Bound::Unbounded)).take(items);
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
    pub(super) fn look_at(
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
                // Of whom it has never met it knows that, too: nothing.
                let never_met =
                    self.others().into_iter().map(|node| (node, LogPosition::default()));
                let met = self.peers.iter().map(|(node, peer)| (*node, peer.acked));
                let acked = never_met.chain(met).collect();
                let log = Logged { end: self.log_end, acked };
                let seen = Merging::Seen { number, states, log };
                cx.send_durable(from, Message::Merging(seen));
            }
            Merging::Seen { number, states, log } => {
                self.on_seen(cx, from, number, (states, log));
            }
            Merging::Settled { item, stamp, ancestors } => {
                self.on_settled(cx, &item, stamp, &ancestors);
            }
            Merging::Undecided { item, .. } if self.merges_no_more(item.cluster) => {}
            Merging::Undecided { item, content } => {
                self.on_undecided(cx, &item, content);
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

    fn on_seen(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        number: u64,
        answer: (Vec<State>, Logged),
    ) {
        let Some(look) = self.merger.looks.get_mut(&number) else { return };
        if !look.asked.contains(&from) {
            return;
        }
        look.answers.insert(from, answer);
        if look.answers.len() == look.asked.len() {
            self.conclude(cx, number);
        }
    }

    /// Every MASTER has answered, some time ago: what REPLICAs have may come with another look.
    fn do_without_replicas(&mut self, cx: &mut Cx<'_>) {
        let (now, grace) = (self.now, self.config.resend);
        let is_enough = |look: &Look| {
            let cluster = look.items.first().map(|item| item.cluster);
            let placement = cluster.and_then(|cluster| self.placements.get(&cluster));
            let mut silent = look.asked.iter().filter(|node| !look.answers.contains_key(node));
            placement.is_some_and(|p| !silent.any(|node| p.masters.contains(node)))
        };
        let looks = self.merger.looks.iter().filter(|(_, look)| now >= look.at + grace);
        let enough = looks.filter(|(_, look)| is_enough(look)).map(|(number, _)| *number);
        for number in enough.collect::<Vec<u64>>() {
            self.conclude(cx, number);
        }
    }

    fn conclude(&mut self, cx: &mut Cx<'_>, number: u64) {
        let Some(look) = self.merger.looks.remove(&number) else { return };
        let logs = look.answers.iter().map(|(node, (_, log))| (*node, log)).collect();
        for (at, item) in look.items.iter().enumerate() {
            let of_item = |states: &Vec<State>| states.get(at).is_some_and(|s| s.item == *item);
            if !look.answers.values().all(|(states, _)| of_item(states)) {
                self.merger.add(item.clone());
                continue;
            }
            let states: BTreeMap<NodeId, &State> =
                look.answers.iter().map(|(node, (states, _))| (*node, &states[at])).collect();
            let mine = states.get(&self.config.node).map(|state| state.stamp());
            if mine.is_some_and(|stamp| stamp != cx.stamp(item)) && look.choice.is_none() {
                self.merger.add(item.clone());
                continue;
            }
            let listed = cx.rivals(item);
            let scene = self.scene_of(item, states, &listed);
            match &look.choice {
                None => self.judge_item(cx, item, &scene, &logs),
                Some(choice) => self.carry_out(cx, &scene, choice.clone()),
            }
        }
        self.begin_looks(cx);
    }

    /// What the MASTERs have, if that is several lines, else what everybody has.
    fn scene_of<'a>(
        &self,
        item: &ItemId,
        states: BTreeMap<NodeId, &'a State>,
        listed: &'a [Rival],
    ) -> Scene<'a> {
        let is_master = |node: &NodeId| self.is_master(*node, item.cluster);
        let of_masters = states.iter().filter(|(node, _)| is_master(node));
        let of_masters = of_masters.map(|(node, state)| (*node, *state)).collect();
        let scene = Scene::of(of_masters, listed);
        if scene.heads.len() > 1 { scene } else { Scene::of(states, listed) }
    }

    fn judge_item(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        scene: &Scene<'_>,
        logs: &BTreeMap<NodeId, &Logged>,
    ) {
        if scene.states.values().any(|state| state.busy) {
            Mark::MergeBusy.hit();
            self.stays(item, scene, logs);
            return;
        }
        let verdict = self.verdict(item, scene, logs);
        if !matches!(verdict, Verdict::Wait) {
            self.merger.seen.remove(item);
        }
        match verdict {
            Verdict::Equal(stamp) => {
                let masters = self.placements.get(&item.cluster).map(|p| &p.masters);
                if !masters.into_iter().flatten().all(|node| scene.states.contains_key(node)) {
                    // Somebody who is not reachable may still have what is listed.
                    self.merger.rests.insert(item.clone(), self.now + self.config.merge.settle);
                    return;
                }
                let ancestors: Vec<_> = scene.past_of(stamp).collect();
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
                self.write_merge(cx, item, scene, committed, (by, None));
            }
            Verdict::Undecided => self.tell_undecided(cx, item, scene),
        }
    }
}

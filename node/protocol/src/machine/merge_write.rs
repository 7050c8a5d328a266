//! What a merge writes, and what is told when nothing wins; a choice by people (PROTOCOL.md 3.10).
//! May not judge: `merge_verdict` does.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use quorate_api::{Committed, ErrorCode, ItemId, Merge, NodeId, OpKind, Operation, Stamp, TxId};

use super::coordinator::Coordination;
use super::merge::Look;
use super::merge_verdict::Scene;
use super::request::{Retry, refuse};
use super::{Cx, Machine};
use crate::conflict::{Choose, Merging};
use crate::io::{Base, CLOSED, Failure, Note, Placement, Proposal, Submit, Tick};
use crate::marks::Mark;
use crate::message::{Age, Decided, Message};
use crate::planted::Bug;

/// Who named the winner when people did.
const MANUAL: &str = "manual";

/// How long a merge is tried before recovery finds what became of it.
const TIME: Tick = 2_000_000;

impl Machine {
    /// Writes what wins above everything that anybody has.
    pub(super) fn write_merge(
        &mut self,
        cx: &mut Cx<'_>,
        item: &ItemId,
        scene: &Scene<'_>,
        winner: &Committed,
        (by, choice): (&'static str, Option<Choose>),
    ) {
        let heads = scene.heads.iter().chain(&scene.doubtful).map(|head| head.stamp);
        let mut of: BTreeSet<Stamp> = heads.collect();
        of.insert(winner.stamp);
        of.remove(&Stamp::ABSENT);
        let mut past: BTreeSet<Stamp> = scene.all_past().collect();
        past.extend(scene.states.values().map(|state| state.stamp()));
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
        let tx = self.coordinate_merge(cx, Operation { item, kind, base, image }, choice);
        self.merger.writing.insert(tx, by);
    }

    pub(super) fn tell_undecided(&mut self, cx: &mut Cx<'_>, item: &ItemId, scene: &Scene<'_>) {
        Mark::ChainUndecided.hit();
        let until = self.now + self.config.merge.rest;
        let mut is_news = false;
        let me = self.config.node;
        for content in scene.heads.iter().filter_map(|head| head.committed) {
            for node in scene.states.keys().filter(|node| **node != me) {
                let (item, content) = (item.clone(), content.clone());
                cx.send_durable(*node, Message::Merging(Merging::Undecided { item, content }));
            }
            is_news |= self.on_undecided(cx, item, content.clone());
        }
        if is_news {
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
    fn coordinate_merge(&mut self, cx: &mut Cx<'_>, op: Operation, choice: Option<Choose>) -> TxId {
        let first = TxId::NONE;
        let (age, attempt) = (Age { wall_us: 0, first }, 0);
        let waits = choice.is_some();
        let (request, deadline) =
            choice.map_or((0, self.now + TIME), |choice| (choice.request, choice.deadline));
        let Operation { item, kind, base, image } = op.clone();
        let proposal = Proposal { item, kind, base: Base::Exact(base), image };
        // It brings no keys, so no index is missed; a cluster that was dropped refuses it.
        let schema = CLOSED - 1;
        let submit = Submit { request, ops: [proposal].into(), deadline, wall_us: 0, schema };
        self.coordinate(cx, Retry { submit, age, attempt }, [op].into(), waits)
    }

    /// A merge that met a lock is tried again as it is: what it covers was found by asking.
    pub(super) fn merge_again(&mut self, cx: &mut Cx<'_>, retry: Retry) {
        if let Err(failure) = self.check_quorums(&retry.submit) {
            refuse(cx, retry.submit.request, failure);
            return;
        }
        let op = |proposal: &Proposal| {
            let Proposal { item, kind, base, image } = proposal.clone();
            let Base::Exact(base) = base else { return None };
            Some(Operation { item, kind, base, image })
        };
        let ops = retry.submit.ops.iter().filter_map(op).collect();
        let tx = self.coordinate(cx, retry, ops, true);
        self.merger.writing.insert(tx, MANUAL);
    }

    /// What became of a transaction that may be a merge.
    pub(super) fn merge_decided(
        &mut self,
        cx: &mut Cx<'_>,
        tx: TxId,
        c: &Coordination,
        outcome: Decided,
    ) {
        let Some(by) = self.merger.writing.remove(&tx) else { return };
        for op in &c.ops {
            let item = op.item.clone();
            match outcome {
                Decided::Commit => cx.note(Note::Merged { item, by }),
                // Nobody may list what differs: it is looked at again.
                Decided::Abort => self.merger.add(item),
            }
        }
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

    pub(super) fn carry_out(&mut self, cx: &mut Cx<'_>, scene: &Scene<'_>, choose: Choose) {
        let Choose { request, item, winner, .. } = &choose;
        let found = scene.states.values().filter_map(|state| state.committed.clone());
        let listed = cx.rivals(item).into_iter().map(|rival| rival.committed);
        match found.chain(listed).find(|committed| committed.stamp == *winner) {
            Some(committed) => {
                let item = item.clone();
                self.write_merge(cx, &item, scene, &committed, (MANUAL, Some(choose)));
            }
            None => {
                let current = Some(cx.stamp(item));
                let failure = Failure { current, ..Failure::on(ErrorCode::VersionConflict, item) };
                refuse(cx, *request, failure);
            }
        }
    }

    /// Choices that nobody answers.
    pub(super) fn end_choices(&mut self, cx: &mut Cx<'_>) {
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

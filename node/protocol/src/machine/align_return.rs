//! Coming back from an alignment: what is in by then, and what tokens of sessions must cover
//! (PROTOCOL.md 3.6.5, 3.8).
//!
//! **Tokens.** Logs are skipped as far as a source of *each* cluster had applied them, while some
//! source may have had more, and shown it: what waits behind a parked commit, what one source of
//! several clusters is ahead with, what no log has told of. All of that is in this server's state
//! now, and whoever reads it here must not be shown less elsewhere. So every source says how far
//! the logs had told it of what its state shows (`received`), and tokens given here name at least
//! that (`shown`); and it says what no log has told it of, for which sessions here wait until some
//! log has told (`session`). Both are written with the coming back, so that a crash loses neither.
//!
//! What a source told while it was followed counts as heard elsewhere (`OutOfLog`), too, until it
//! is seen in the end that a log told it to a source that was asked to the end: the one that told
//! it may be lost, and nobody else be told as far.
//!
//! A log may have told of such a commit at a position that was skipped: it will not tell again. The
//! others are asked; whoever was told says so, and how far logs have told it of all else, which
//! tokens then cover, too.
//!
//! **Not by an older configuration.** Logs are skipped as far as the sources had applied them, what
//! was decided on clusters that are kept here by a newer configuration included. A server that has
//! heard of one waits until it knows it, and compares these clusters, too: no source has applied a
//! decision, or says so, by a configuration that its answers do not name.
//!
//! Where ended boots stopped is taken along, or a session with an index of one of them would wait
//! here until that boot is closed, however far its server's log is applied.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, NodeId, TxId};

use super::align_state::{Aligning, Source};
use super::apply::{self, Decision};
use super::closing::END;
use super::{Cx, Machine};
use crate::alignment::{Ask, Reached};
use crate::io::{AlignmentWork, Note, Write};
use crate::marks::Mark;
use crate::message::{Decided, Finished, LogPosition, Message, Participant};

/// Outcomes, with the clusters of commits.
type Settled = BTreeMap<TxId, (Decided, Vec<Participant>)>;

impl Machine {
    pub(super) fn come_back_if_done(&mut self, cx: &mut Cx<'_>) {
        if self.is_behind_in_cfg() {
            return;
        }
        let Some(aligning) = self.align.take_if(|aligning| aligning.round > 0) else { return };
        if self.suffices(&aligning, Source::is_closed) {
            if let Some(settled) = self.settled_by_sources(cx, &aligning) {
                self.come_back(cx, aligning, settled);
                return;
            }
            Mark::PartMissing.hit();
        }
        self.align = Some(aligning);
    }

    /// What the sources asked to the end have settled, and is in once this server is back. `None`
    /// while a part of it may be missing.
    fn settled_by_sources(&self, cx: &Cx<'_>, aligning: &Aligning) -> Option<Settled> {
        // What may be missing is little, and looked at first: it is asked for again and again.
        let partial = aligning.closed().flat_map(|(_, source)| &source.partial);
        let mut perhaps_missing = aligning.begun.iter().chain(partial);
        if !perhaps_missing.all(|tx| self.is_whole_at_sources(cx, aligning, *tx)) {
            return None;
        }
        let mut settled = Settled::new();
        for (_, source) in aligning.closed() {
            for (tx, claim) in &source.known {
                if !settled.contains_key(tx) && !self.is_in(cx, aligning, *tx) {
                    settled.insert(*tx, (claim.outcome, claim.participants.clone()));
                }
            }
        }
        Some(settled)
    }

    /// Sources of every own cluster that it touches have settled it, and were asked to the end.
    fn is_whole_at_sources(&self, cx: &Cx<'_>, aligning: &Aligning, tx: TxId) -> bool {
        if self.is_in(cx, aligning, tx) {
            return true;
        }
        let me = self.config.node;
        let mut missing: Option<BTreeSet<ClusterKey>> = None;
        for (node, source) in aligning.closed() {
            let Some(claim) = source.known.get(&tx) else { continue };
            let touched = claim.participants.iter().map(|p| p.cluster);
            let mine = touched.filter(|cluster| self.is_kept_by(me, *cluster));
            let missing = missing.get_or_insert_with(|| mine.collect());
            missing.retain(|c| !self.is_master(*node, *c) && !claim.parts.contains(c));
        }
        missing.is_some_and(|missing| missing.is_empty())
    }

    /// Commits that keep this server from being back although its sources have nothing left to tell
    /// of its clusters. The one that such a commit came in with may be another server's by now, so
    /// whoever knows all of it is asked.
    pub(super) fn begun_and_missing(&self, cx: &Cx<'_>) -> Vec<TxId> {
        let Some(aligning) = self.align.as_ref().filter(|aligning| aligning.round > 0) else {
            return Vec::new();
        };
        let begun = aligning.begun.iter().copied();
        begun.filter(|tx| !self.is_in(cx, aligning, *tx)).collect()
    }

    fn come_back(&mut self, cx: &mut Cx<'_>, mut aligning: Aligning, settled: Settled) {
        let aligns = |node: &NodeId| self.peers.get(node).is_some_and(|peer| peer.aligning);
        if aligning.closed().any(|(node, _)| aligns(node)) {
            Mark::SourceAligns.hit();
        }
        let positions = self.positions_reached(&aligning);
        for (node, position) in positions {
            self.skip_log_to(cx, node, position);
        }
        for (tx, (outcome, participants)) in settled {
            let decision = Decision { tx, outcome, participants, ops: Vec::new() };
            if self.coordinations.contains_key(&tx) {
                // Its client waits, and its operations are at hand for the log.
                self.learn(cx, decision, apply::Source::Log);
            } else if !self.is_finished(tx) {
                self.settle(cx, decision, &[]);
            }
        }
        for ((node, boot), seq) in core::mem::take(&mut aligning.low) {
            self.take_low(cx, node, boot, seq);
        }
        self.take_what_logs_told(cx, &aligning);
        for (_, source) in aligning.closed() {
            self.take_reached(cx, &source.reached);
        }
        self.take_generations(cx, &aligning);
        cx.write(Write::Aligning(false));
        if aligning.work != AlignmentWork::default() {
            cx.note(Note::Alignment(aligning.work));
        }
        cx.note(Note::BackOnline);
        for (node, source) in aligning.sources {
            cx.send_now(node, Message::Align { session: source.session, ask: Ask::End });
        }
        self.session_progress = true;
        // What was taken from sources is in nobody's journal, and from now on it is acknowledged.
        self.aligners.clear();
        self.acks_due.extend(self.others());
        self.pump_all(cx);
        self.seek_parent(cx);
        self.plan_comparison();
        // Questions to itself were not answered.
        self.hurry_recoveries();
    }

    /// How far each decision log is in: for every own cluster, as far as some source of it had
    /// applied it.
    fn positions_reached(&self, aligning: &Aligning) -> BTreeMap<NodeId, LogPosition> {
        let closed = |node: &NodeId| {
            aligning.sources.get(node).filter(|source| source.is_closed(aligning.round))
        };
        let applied = |source: &Source, node: NodeId| {
            let of_log = source.reached.applied.iter().find(|(log, _)| *log == node);
            of_log.map(|(_, position)| *position)
        };
        let clusters = self.held_clusters();
        let reached = |node: NodeId| {
            let of_cluster = |cluster: &ClusterKey| {
                let sources = self.placements[cluster].masters.iter().filter_map(closed);
                sources.filter_map(|source| applied(source, node)).max().unwrap_or_default()
            };
            clusters.iter().map(of_cluster).min().unwrap_or_default()
        };
        // Also logs of those who left: nobody streams what of them a generation's entry names.
        let told = aligning.closed().flat_map(|(_, source)| &source.reached.applied);
        let me = self.config.node;
        let told = told.map(|(log, _)| *log).filter(|log| *log != me);
        told.chain(self.others()).map(|node| (node, reached(node))).collect()
    }

    /// A source's low-water mark: outcomes below are in, and votes below are void.
    fn take_low(&mut self, cx: &mut Cx<'_>, node: NodeId, boot: Boot, seq: u64) {
        let mark = self.low.entry((node, boot)).or_insert(Finished::FIRST);
        if seq <= *mark {
            return;
        }
        *mark = seq;
        let first = TxId { node, boot, seq: 0 };
        let end = TxId { node, boot, seq };
        let void: Vec<TxId> = self.txs.range(first..end).map(|(tx, _)| *tx).collect();
        for tx in void {
            self.drop_vote(tx);
        }
        cx.write(Write::Low(node, boot, seq));
        self.told_below(cx, end);
        if seq == END {
            self.after_closing(node, boot);
        }
    }

    /// What tokens given here have to cover besides what logs tell this server itself.
    fn take_reached(&mut self, cx: &mut Cx<'_>, reached: &Reached) {
        for (node, at) in &reached.received {
            self.raise_shown(cx, *node, *at);
        }
        for (node, boot, last) in &reached.ended {
            if *boot < self.received_from(*node).boot && !self.is_boot_closed(*node, *boot) {
                self.take_end(cx, *node, *boot, *last);
            }
        }
    }

    /// Of what this server shows, what some log has told a source is covered with that, and what a
    /// source only heard elsewhere is not covered here either.
    fn take_what_logs_told(&mut self, cx: &mut Cx<'_>, aligning: &Aligning) {
        let was_told = |tx: &TxId| aligning.closed().any(|(_, source)| source.was_told(*tx));
        let told: Vec<TxId> = self.unlogged.iter().copied().filter(was_told).collect();
        for tx in told {
            self.told_by_a_log(cx, tx);
        }
        for tx in aligning.closed().flat_map(|(_, source)| &source.reached.out_of_log) {
            let shows = cx.outcome(*tx) == Some(Decided::Commit) && !self.is_finished(*tx);
            if shows && !was_told(tx) && self.unlogged.insert(*tx) {
                cx.write(Write::OutOfLog(*tx));
            }
        }
    }

    /// Low-water marks of boots that go on.
    pub(super) fn low_of_open_boots(&self) -> Vec<(NodeId, Boot, u64)> {
        let open = self.low.iter().filter(|(_, seq)| **seq != END);
        open.map(|((node, boot), seq)| (*node, *boot, *seq)).collect()
    }

    fn raise_shown(&mut self, cx: &mut Cx<'_>, node: NodeId, at: LogPosition) {
        let shown = self.shown.entry(node).or_default();
        if at > *shown {
            *shown = at;
            cx.write(Write::Shown(node, at));
        }
    }

    /// Whether a log has told of what none tells this server of: it may have skipped that part.
    pub(super) fn ask_what_logs_told(&self, cx: &mut Cx<'_>) {
        const AT_ONCE: usize = 256;
        let has_aligned = !self.shown.is_empty() && self.align.is_none();
        if !has_aligned || self.unlogged.is_empty() {
            return;
        }
        let txs: Vec<TxId> = self.unlogged.iter().copied().take(AT_ONCE).collect();
        for node in self.knowing().into_iter().filter(|node| self.is_up(*node)) {
            cx.send_now(node, Message::AskLogged { txs: txs.clone() });
        }
    }

    pub(super) fn on_ask_logged(&self, cx: &mut Cx<'_>, from: NodeId, txs: &[TxId]) {
        let is_told = |tx: &TxId| {
            let commit = self.known_outcome(cx, *tx) == Some(Decided::Commit);
            self.is_finished(*tx) || (commit && !self.unlogged.contains(tx))
        };
        let txs: Vec<TxId> = txs.iter().copied().filter(is_told).collect();
        if !txs.is_empty() {
            cx.send_durable(from, Message::Logged { txs, received: self.told_positions() });
        }
    }

    pub(super) fn on_logged(
        &mut self,
        cx: &mut Cx<'_>,
        txs: Vec<TxId>,
        received: Vec<(NodeId, LogPosition)>,
    ) {
        for (node, at) in received {
            self.raise_shown(cx, node, at);
        }
        for tx in txs {
            if self.unlogged.contains(&tx) {
                Mark::ToldOfASkippedPart.hit();
                self.told_by_a_log(cx, tx);
            }
        }
    }
}

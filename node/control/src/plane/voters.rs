//! Who votes on the log, and who only gets it, as the agreement says: the leader brings the log's
//! own list to what was agreed on, one server at a time. May not decide who is in the cluster.
//!
//! A server is added without a vote, and gets its vote when it has caught up with the log and
//! nothing keeps it from being a MASTER ([`Agreement::voters`]). The list is itself changed by
//! entries of the log; a leader begins the next change when it has applied the last one, so any two
//! majorities, before a change and after it, have a server in common.
//!
//! A server that was removed is let go behind the change that takes it off the list, and not
//! before: until then the list may need its vote.
//!
//! **A snapshot names whom it is for.** Whoever is added has nothing, and is sent a snapshot; the
//! library takes none that does not name it. So every server cuts its log where the list changes.
//!
//! [`Agreement::voters`]: crate::agreement::Agreement::voters

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use prost::Message as _;
use quorate_api::NodeId;
use raft::Progress;
use raft::eraftpb::{self, ConfChange, ConfChangeType};

use super::{Plane, StateMachine, UnreadableError};

/// What is remembered between two steps.
#[derive(Debug, Default)]
pub(super) struct Voters {
    /// The list has changed since the log was cut.
    changed: bool,
    /// Whom this server has last asked to lead in its place.
    asked: Option<u64>,
}

impl Voters {
    /// True once behind each change.
    pub(super) fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }
}

impl<A: StateMachine> Plane<A> {
    /// Who votes on the log, as far as this server has applied it.
    #[must_use]
    pub fn voting(&self) -> BTreeSet<NodeId> {
        self.raft.raft.prs().conf().voters().ids().iter().map(NodeId).collect()
    }

    /// Proposes the next change of the list, if this server leads and one is due.
    pub(super) fn follow_the_agreement(&mut self) -> Result<(), UnreadableError> {
        if !self.is_leader() || self.raft.raft.has_pending_conf() {
            return Ok(());
        }
        let Some((node, change_type)) = self.next_change() else { return self.let_go() };
        if node == self.config.node.0 && change_type != ConfChangeType::AddNode {
            // Whoever leads does not take its own vote away.
            self.hand_over();
            return Ok(());
        }
        let change =
            ConfChange { change_type: change_type.into(), node_id: node, ..<_>::default() };
        // Refused while the leader hands over; the next tick looks again.
        self.raft.propose_conf_change(Vec::new(), change).ok();
        Ok(())
    }

    /// Proposes to let somebody go whom the list, as it was applied here, has not any more.
    fn let_go(&mut self) -> Result<(), UnreadableError> {
        let list = self.raft.raft.prs().iter().map(|(id, _)| NodeId(*id)).collect();
        let command = self.state.agreement.let_go(&list);
        command.map_or(Ok(()), |command| self.proposals.add_unasked(command))
    }

    /// True when this server leads and another one could.
    #[must_use]
    pub fn can_resign(&self) -> bool {
        self.is_leader() && self.heir().is_some()
    }

    /// Has another server lead, unless one is just about to. Who did not take over is not asked
    /// again as long as there are others.
    pub(super) fn hand_over(&mut self) {
        if self.raft.raft.lead_transferee.is_some() {
            return;
        }
        if let Some(heir) = self.heir() {
            self.voters.asked = Some(heir);
            self.raft.transfer_leader(heir);
        }
    }

    /// The first difference between the list and the agreement, if that can be done now.
    fn next_change(&self) -> Option<(u64, ConfChangeType)> {
        let ids = |nodes: BTreeSet<NodeId>| nodes.into_iter().map(|node| node.0).collect();
        let wanted: BTreeSet<u64> = ids(self.state.agreement.voters());
        let members: BTreeSet<u64> = ids(self.state.agreement.members());
        let prs = self.raft.raft.prs();
        let (voters, learners) = (prs.conf().voters().ids(), prs.conf().learners());
        let is_there = |id: u64| voters.contains(id) || learners.contains(&id);
        if let Some(new) = members.iter().find(|id| !is_there(**id)) {
            return Some((*new, ConfChangeType::AddLearnerNode));
        }
        let end = self.raft.raft.raft_log.committed;
        let has_all = |id: &u64| prs.get(*id).is_some_and(|progress| progress.matched >= end);
        let mut ready = wanted.iter().filter(|id| learners.contains(id));
        if let Some(new) = ready.find(|id| has_all(id)) {
            return Some((*new, ConfChangeType::AddNode));
        }
        let demoted = |id: &u64| members.contains(id) && !wanted.contains(id);
        // Somebody has to be left, whatever the agreement says.
        if voters.iter().any(|id| wanted.contains(&id)) {
            if let Some(old) = voters.iter().find(demoted) {
                return Some((old, ConfChangeType::AddLearnerNode));
            }
            if let Some(gone) = voters.iter().find(|id| !members.contains(id)) {
                return Some((gone, ConfChangeType::RemoveNode));
            }
        }
        let gone = learners.iter().find(|id| !members.contains(id));
        gone.map(|id| (*id, ConfChangeType::RemoveNode))
    }

    /// The voter that is to stay, was heard of lately, and has most of the log.
    fn heir(&self) -> Option<u64> {
        let prs = self.raft.raft.prs();
        let others = self.state.agreement.voters().into_iter();
        let others = others.map(|node| node.0).filter(|id| *id != self.config.node.0);
        let voters = others.filter(|id| prs.conf().voters().contains(*id));
        let known = voters.filter_map(|id| prs.get(id).map(|progress| (id, progress)));
        let there = known.filter(|(id, _)| self.hears(NodeId(*id)));
        let rank =
            |(id, progress): &(u64, &Progress)| (self.voters.asked != Some(*id), progress.matched);
        there.max_by_key(rank).map(|(id, _)| id)
    }

    /// The list changes with this entry.
    pub(super) fn change_voters(&mut self, entry: &eraftpb::Entry) -> Result<(), UnreadableError> {
        let what = "a change of the voters";
        let change = ConfChange::decode(&entry.data[..])
            .map_err(|error| UnreadableError::Wire { what, error: alloc::format!("{error}") })?;
        let changed = self.raft.apply_conf_change(&change);
        changed.map_err(|error| UnreadableError::library(what, &error))?;
        self.voters.changed = true;
        Ok(())
    }
}

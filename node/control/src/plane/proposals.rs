//! Commands of this server's clients on their way into the log: one at a time, made again until it
//! is seen there. May not know how the log works.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, NodeId};
use quorate_protocol::io::Report;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StateMachine;
use super::state::{Entry, ProposalId, State, UnreadableError};
use crate::agreement::Refusal;

/// Ticks after which a proposal that is not seen in the log is made again: it was lost, or the
/// leader was.
const AGAIN: u32 = 10;

/// A command on its way.
#[derive(Debug)]
struct Proposal {
    request: u64,
    id: ProposalId,
    /// The entry's content.
    bytes: Vec<u8>,
    /// Ticks until it is made again; 0: now.
    wait: u32,
    /// It was handed to the log at least once: it may be in there.
    handed: bool,
    /// Somebody waits for its outcome.
    wanted: bool,
}

/// Commands on their way, first come first served.
#[derive(Debug)]
pub(super) struct Proposals {
    node: NodeId,
    boot: Boot,
    last: u64,
    queue: VecDeque<Proposal>,
    /// What this server has to report, once nothing else is on its way: by cluster, the newest.
    reports: BTreeMap<ClusterKey, Report>,
}

impl Proposals {
    pub(super) const fn new(node: NodeId, boot: Boot) -> Self {
        Self { node, boot, last: 0, queue: VecDeque::new(), reports: BTreeMap::new() }
    }

    pub(super) fn add<C: Serialize + DeserializeOwned>(
        &mut self,
        request: u64,
        command: C,
    ) -> Result<(), UnreadableError> {
        self.push(request, command, true)
    }

    /// Takes a command along that nobody waits for, unless others are on their way: whoever has it
    /// asks again.
    pub(super) fn add_unasked<C: Serialize + DeserializeOwned>(
        &mut self,
        command: C,
    ) -> Result<(), UnreadableError> {
        if self.queue.is_empty() { self.push(0, command, false) } else { Ok(()) }
    }

    /// Takes a report along. Servers repeat what does not show, so one that is lost comes again.
    pub(super) fn report(&mut self, report: Report) {
        self.reports.insert(report.cluster(), report);
    }

    fn push<C: Serialize + DeserializeOwned>(
        &mut self,
        request: u64,
        command: C,
        wanted: bool,
    ) -> Result<(), UnreadableError> {
        self.last += 1;
        let id = ProposalId { node: self.node, boot: self.boot, number: self.last };
        let bytes = Entry { id, command }.encode()?;
        let proposal = Proposal { request, id, bytes, wait: 0, handed: false, wanted };
        self.queue.push_back(proposal);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn tick(&mut self) {
        if let Some(first) = self.queue.front_mut() {
            first.wait = first.wait.saturating_sub(1);
        }
    }

    /// The entry to be handed to the log now.
    pub(super) fn due<A: StateMachine>(
        &mut self,
        state: &State<A>,
    ) -> Result<Option<Vec<u8>>, UnreadableError> {
        if self.queue.is_empty() && !self.reports.is_empty() {
            let reports = core::mem::take(&mut self.reports).into_values().collect();
            // What tells nothing new here comes again, should it still be true when it would.
            let reports = state.agreement.news(self.node, reports);
            if reports.is_empty() {
                return Ok(None);
            }
            self.push(0, A::tell(self.node, reports), false)?;
        }
        Ok(self.queue.front().filter(|first| first.wait == 0).map(|first| first.bytes.clone()))
    }

    /// It was handed to the log, or the log has no leader who would take it.
    pub(super) fn proposed(&mut self, handed: bool) {
        if let Some(first) = self.queue.front_mut() {
            first.handed |= handed;
            first.wait = if handed { AGAIN } else { 1 };
        }
    }

    /// The next request whose command was applied, with what became of it.
    pub(super) fn settled_by<A: StateMachine>(
        &mut self,
        state: &State<A>,
    ) -> Option<(u64, Result<(), Refusal>)> {
        loop {
            let first = self.queue.front()?;
            let outcome = state.outcome(first.id)?;
            let (request, wanted) = (first.request, first.wanted);
            self.queue.pop_front();
            if wanted {
                return Some((request, outcome));
            }
        }
    }

    /// Nobody waits for a request any more. True: its command may yet be carried out; `None`: it is
    /// not here. What was handed to the log is driven to its end all the same: were the next
    /// command to overtake it, it would be undone by that.
    pub(super) fn give_up(&mut self, request: u64) -> Option<bool> {
        let at = self.queue.iter().position(|p| p.request == request && p.wanted)?;
        if self.queue[at].handed {
            self.queue[at].wanted = false;
            return Some(true);
        }
        self.queue.remove(at);
        Some(false)
    }
}

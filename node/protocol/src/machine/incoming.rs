//! A decision log as far as it has come to this server: what is applied, what is parked, what came
//! before its turn. May not apply or send anything: `stream` does.

use alloc::collections::BTreeMap;

use quorate_api::{Boot, NodeId, TxId};

use super::Cx;
use crate::feeding::Entry;
use crate::io::Write;
use crate::message::LogPosition;

/// Another server's log (or the own one) as applied here.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Everything up to here is applied, durably with what it wrote.
    pub(super) applied: LogPosition,
    /// Everything up to here was handled; what is between is parked.
    pub(super) received: LogPosition,
    /// Position → (position before it, transaction).
    pub(super) parked: BTreeMap<LogPosition, (LogPosition, TxId)>,
    /// Last positions of ended boots, as later entries told; durable.
    pub(super) ended: BTreeMap<Boot, u64>,
    /// Entries behind a gap, by the position before them; at most a sender's window.
    pub(super) early: BTreeMap<LogPosition, Entry>,
}

impl Incoming {
    pub(super) fn starting_at(applied: LogPosition, ended: BTreeMap<Boot, u64>) -> Self {
        Self { applied, received: applied, ended, ..Self::default() }
    }

    /// Everything up to a position is in by other means; true if that is news.
    pub(super) fn skip_to(&mut self, position: LogPosition) -> bool {
        self.received = self.received.max(position);
        self.parked = self.parked.split_off(&position);
        self.parked.remove(&position);
        self.early.retain(|_, entry| entry.at > position);
        self.advance()
    }

    /// True when an index of one of its boots is applied here. An index beyond the durable end of
    /// a boot that is over never will be.
    pub(super) fn has_applied(&self, boot: Boot, index: u64) -> bool {
        if self.applied.boot == boot {
            self.applied.index >= index
        } else {
            self.applied.boot > boot && self.ended.get(&boot).is_some_and(|last| *last >= index)
        }
    }

    /// An entry follows another: if that was a boot's last, it says where the boot stopped.
    pub(super) fn note_end(
        &mut self,
        cx: &mut Cx<'_>,
        node: NodeId,
        prev: LogPosition,
        at: LogPosition,
    ) {
        if prev.boot < at.boot && prev.index > 0 {
            self.ended.insert(prev.boot, prev.index);
            cx.write(Write::BootEnd(node, prev.boot, prev.index));
        }
    }

    /// Whoever asks for a closed boot is answered without it.
    pub(super) fn forget_end(&mut self, boot: Boot) {
        self.ended.remove(&boot);
    }

    /// Moves `applied` to the last position before the first gap; true if it moved.
    pub(super) fn advance(&mut self) -> bool {
        let to = self.parked.first_key_value().map_or(self.received, |(_, (prev, _))| *prev);
        let moved = to > self.applied;
        self.applied = self.applied.max(to);
        moved
    }
}

/// Where a server's ended boots stopped.
pub(super) fn ends_of(ended: &BTreeMap<(NodeId, Boot), u64>, node: NodeId) -> BTreeMap<Boot, u64> {
    let of = ended.range((node, Boot(0))..=(node, Boot(u32::MAX)));
    of.map(|((_, boot), last)| (*boot, *last)).collect()
}

//! Whom a REPLICA needs a link with beyond those that the topology gives it. May not decide whom it
//! follows: that is `upstream`.

use alloc::collections::BTreeSet;

use quorate_api::NodeId;

use super::Machine;

impl Machine {
    /// Servers that this one has something to do with beyond the links of the topology, as long as
    /// that is so: whoever feeds it, and MASTERs while nobody does, or what it lacks is theirs.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<NodeId> {
        let mut needs = BTreeSet::new();
        if !self.configured || self.topology.is_root(self.config.node) {
            return needs;
        }
        needs.extend(self.upstream.parent.into_iter().chain(self.upstream.trying));
        needs.extend(self.upstream.direct.keys());
        let lacks = self.align.is_some() || self.upstream.lacks_base;
        if lacks || self.upstream.parent.is_none() {
            needs.extend(self.topology.roots());
        }
        needs
    }

    /// Bases are missing at a moment at which they are asked for once more, or none is.
    pub(super) const fn note_missing(&mut self, any: bool) {
        self.upstream.lacks_base = any;
    }
}

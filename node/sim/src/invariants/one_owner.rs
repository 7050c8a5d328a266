//! A record is created by the owner of its cluster alone: whoever votes Yes for a create knows of
//! no other owner (PROTOCOL.md 3.9 "RIDs"; FEATURES A4, A7). So two servers create in one cluster
//! at one time only where their voters are of different configurations.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ClusterKey, ItemKey, NodeId, OpKind, Operation, TxId};
use quorate_protocol::io::{Placement, Write};
use quorate_protocol::message::Vote;

/// Who owns what, as each server was last told, and what each has voted for.
#[derive(Debug, Default)]
pub(super) struct OneOwner {
    owners: BTreeMap<(usize, ClusterKey), Option<NodeId>>,
    voted: BTreeSet<(usize, TxId)>,
}

impl OneOwner {
    /// A server's machine is told of a configuration.
    pub(super) fn configured(
        &mut self,
        server: usize,
        placements: &BTreeMap<ClusterKey, Placement>,
    ) {
        let owners = placements.iter().map(|(cluster, p)| ((server, *cluster), p.owner));
        self.owners.extend(owners);
    }

    pub(super) fn see(&mut self, by: usize, write: &Write) -> Option<String> {
        let Write::Tx(tx, record) = write else { return None };
        if record.vote != Some(Vote::Yes) || !self.voted.insert((by, *tx)) {
            return None;
        }
        let creates = |op: &&Operation| {
            op.kind == OpKind::Create && matches!(op.item.key, ItemKey::Record(_))
        };
        let owner = |op: &Operation| *self.owners.get(&(by, op.item.cluster))?;
        let mut created = record.ops.iter().filter(creates);
        let (op, owner) = created.find_map(|op| {
            let owner = owner(op).filter(|owner| *owner != tx.node)?;
            Some((op, owner))
        })?;
        Some(format!("votes for {tx}, which creates {}; {owner} owns that", op.item))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::{Boot, ItemId, Stamp};
    use quorate_protocol::io::SessionToken;
    use quorate_protocol::message::TxRecord;

    #[test]
    fn a_vote_for_a_create_of_somebody_else_is_caught() {
        let cluster = ClusterKey { database: 1, cluster: 10 };
        let placement = Placement {
            generation: 1,
            masters: vec![NodeId(1), NodeId(2)],
            replicas: Vec::new(),
            write_quorum: 2,
            local_quorums: Vec::new(),
            data_centers: std::collections::BTreeMap::new(),
            owner: Some(NodeId(1)),
            schema_min: 0,
            entry: SessionToken::new(),
            turn: None,
            witnesses: std::collections::BTreeSet::new(),
            change: None,
            loose: Vec::new(),
        };
        let write = |node, seq| {
            let (item, kind) = (ItemId::record(cluster, seq), OpKind::Create);
            let op = Operation { item, kind, base: Stamp::ABSENT, image: None };
            let record = TxRecord { ops: vec![op], vote: Some(Vote::Yes), ..TxRecord::default() };
            Write::Tx(TxId { node: NodeId(node), boot: Boot(1), seq }, record)
        };
        let mut invariant = OneOwner::default();
        assert_eq!(invariant.see(0, &write(2, 1)), None, "nobody owns it yet");
        invariant.configured(0, &[(cluster, placement)].into());
        assert_eq!(invariant.see(0, &write(2, 1)), None, "voted for before");
        assert_eq!(invariant.see(0, &write(1, 2)), None);
        assert!(invariant.see(0, &write(2, 3)).is_some());
    }
}

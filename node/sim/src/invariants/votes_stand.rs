//! A vote never changes, and there is no Yes after a promise without a vote (PROTOCOL.md 3.4, trap
//! A11).

use std::collections::BTreeMap;

use quorate_api::{Boot, NodeId, TxId};
use quorate_protocol::io::Write;
use quorate_protocol::message::{TxRecord, Vote};

use crate::disk::Contents;

/// What a boot of a server last wrote of a transaction, or found on its disk when it started. A
/// crash may lose a record, but only before any message told of it.
#[derive(Debug, Default)]
pub(super) struct VotesStand(BTreeMap<((NodeId, Boot), TxId), TxRecord>);

impl VotesStand {
    pub(super) fn restarted(&mut self, by: (NodeId, Boot), kept: &Contents) {
        let open = kept.txs.iter().filter(|(tx, _)| !kept.outcomes.contains_key(tx));
        self.0.extend(open.map(|(tx, record)| ((by, *tx), record.clone())));
    }

    pub(super) fn see(&mut self, by: (NodeId, Boot), write: &Write) -> Option<String> {
        let Write::Tx(tx, record) = write else { return None };
        let before = self.0.insert((by, *tx), record.clone())?;
        let promised = before.instances.iter().any(|(_, i)| i.promised.round > 0);
        match (&before.vote, &record.vote) {
            (None, Some(Vote::Yes)) if promised => Some(format!("{tx}: Yes after a promise")),
            (Some(cast), now) if now.as_ref() != Some(cast) => {
                Some(format!("{tx}: {cast:?} became {now:?}"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_api::ClusterKey;
    use quorate_protocol::message::{Ballot, Instance};

    #[test]
    fn a_yes_after_a_promise_is_caught() {
        let mut invariant = VotesStand::default();
        let promised =
            Instance { promised: Ballot { round: 2, ..Ballot::default() }, accepted: None };
        let instances = vec![(ClusterKey::default(), promised)];
        let promise = TxRecord { instances: instances.clone(), ..TxRecord::default() };
        let yes = TxRecord { vote: Some(Vote::Yes), instances, ..TxRecord::default() };
        assert_eq!(
            invariant.see((NodeId(1), Boot(1)), &Write::Tx(TxId::NONE, promise.clone())),
            None
        );
        assert!(invariant.see((NodeId(1), Boot(1)), &Write::Tx(TxId::NONE, yes.clone())).is_some());
        assert!(invariant.see((NodeId(1), Boot(1)), &Write::Tx(TxId::NONE, promise)).is_some());
    }
}

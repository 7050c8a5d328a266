//! No `ok` before W durable Yes votes, or a commit accepted durably by a majority (PROTOCOL.md 3.11). Looks at what the
//! disks would still hold if every server lost power at the moment of the answer.

use quorate_api::TxId;
use quorate_protocol::message::{Decided, Value, Vote};

use crate::disk::Contents;
use crate::options::Options;

pub(super) fn check(tx: TxId, disks: &[&Contents], options: &Options) -> Option<String> {
    let yes = |disk: &&&Contents| {
        disk.txs.get(&tx).is_some_and(|record| record.vote == Some(Vote::Yes))
            || disk.outcomes.get(&tx) == Some(&Decided::Commit)
    };
    let accepted = |disk: &&&Contents| {
        let Some(record) = disk.txs.get(&tx) else { return false };
        record.instances.iter().any(|(_, i)| i.accepted.is_some_and(|(_, v)| v == Value::Prepared))
    };
    let (yes, accepted) = (disks.iter().filter(yes).count(), disks.iter().filter(accepted).count());
    let majority = options.masters / 2 + 1;
    let enough = if options.write_quorum < majority {
        yes >= options.write_quorum
    } else {
        // One round: everybody; two rounds: W votes and a majority of accepts, or a recovered majority.
        yes == options.masters || accepted >= majority
    };
    (!enough).then(|| format!("{tx} acknowledged with {yes} durable Yes, {accepted} accepts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ok_without_votes_is_caught() {
        let options = Options::of_seed(1);
        let empty = Contents::default();
        let disks = vec![&empty; options.masters];
        assert!(check(TxId::NONE, &disks, &options).is_some());
    }
}

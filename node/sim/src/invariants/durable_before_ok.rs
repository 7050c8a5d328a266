//! No `ok` before W durable Yes votes, or a commit accepted durably by a majority, in every touched
//! cluster (PROTOCOL.md 3.11). Looks at what the disks would still hold if every server lost power
//! at the moment of the answer.

use quorate_api::{ClusterKey, TxId};
use quorate_protocol::message::{Decided, Value, Vote};

use crate::disk::Contents;
use crate::options::{Options, Shape};

pub(super) fn check(tx: TxId, disks: &[&Contents], options: &Options) -> Option<String> {
    let participants = disks.iter().filter_map(|disk| disk.txs.get(&tx)).map(|r| &r.participants);
    let Some(participants) = participants.max_by_key(|participants| participants.len()) else {
        return Some(format!("{tx} acknowledged without a trace of it"));
    };
    let touched = |shape: &Shape| participants.iter().any(|p| p.cluster == shape.cluster);
    let mut shapes = options.clusters.iter().filter(|shape| touched(shape));
    shapes.find_map(|shape| check_cluster(tx, disks, shape))
}

fn check_cluster(tx: TxId, disks: &[&Contents], shape: &Shape) -> Option<String> {
    let disks: Vec<_> = shape.masters.iter().map(|server| disks[*server]).collect();
    let yes = disks.iter().filter(|disk| voted_yes(disk, tx)).count();
    let accepted = disks.iter().filter(|disk| accepted(disk, tx, shape.cluster)).count();
    // One round: everybody; two rounds: W votes and a majority of accepts, or a recovered majority.
    let enough = yes == disks.len() || accepted >= shape.majority();
    let cluster = shape.cluster;
    let detail =
        || format!("{tx} acknowledged with {yes} durable Yes, {accepted} accepts in {cluster}");
    (!enough).then(detail)
}

fn voted_yes(disk: &Contents, tx: TxId) -> bool {
    disk.txs.get(&tx).is_some_and(|record| record.vote == Some(Vote::Yes))
        || disk.outcomes.get(&tx) == Some(&Decided::Commit)
}

fn accepted(disk: &Contents, tx: TxId, cluster: ClusterKey) -> bool {
    let Some(record) = disk.txs.get(&tx) else { return false };
    let mut of_cluster = record.instances.iter().filter(|(c, _)| *c == cluster);
    of_cluster.any(|(_, i)| i.accepted.is_some_and(|(_, value)| value == Value::Prepared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ok_without_votes_is_caught() {
        let options = Options::of_seed(1);
        let empty = Contents::default();
        let disks = vec![&empty; options.servers];
        assert!(check(TxId::NONE, &disks, &options).is_some());
    }
}

//! No `ok` before W durable Yes votes, or a commit accepted durably by a majority, in every touched
//! cluster, among the MASTERs of the generation it was prepared in (PROTOCOL.md 3.11). Looks at
//! what the disks would still hold if every server lost power at the moment of the answer.

use quorate_api::{ClusterKey, TxId};
use quorate_protocol::message::{Decided, Participant, Value, Vote};

use super::one_generation::OneGeneration;
use crate::disk::Contents;

/// Who votes, and how many of them have to say Yes.
pub(super) type Voters = (Vec<usize>, usize);

/// `low` gives who votes in a cluster, and W among them, where that is below a majority and the
/// transaction touches no safe cluster: so many votes will do.
pub(super) fn check(
    tx: TxId,
    disks: &[&Contents],
    generations: &OneGeneration,
    low: &dyn Fn(&Participant) -> Option<Voters>,
) -> Option<String> {
    let participants = disks.iter().filter_map(|disk| disk.txs.get(&tx)).map(|r| &r.participants);
    let Some(participants) = participants.max_by_key(|participants| participants.len()) else {
        return Some(format!("{tx} acknowledged without a trace of it"));
    };
    participants.iter().find_map(|participant| {
        let (cluster, masters) = (participant.cluster, generations.masters_of(participant));
        check_cluster(tx, disks, cluster, masters, low(participant))
    })
}

fn check_cluster(
    tx: TxId,
    disks: &[&Contents],
    cluster: ClusterKey,
    masters: &[usize],
    low: Option<Voters>,
) -> Option<String> {
    let votes = |servers: &[usize]| servers.iter().filter(|s| voted_yes(disks[**s], tx)).count();
    let is_low = low.is_some_and(|(voters, quorum)| votes(&voters) >= quorum);
    let disks: Vec<_> = masters.iter().map(|server| disks[*server]).collect();
    let yes = disks.iter().filter(|disk| voted_yes(disk, tx)).count();
    let accepted = disks.iter().filter(|disk| accepted(disk, tx, cluster)).count();
    // One round: everybody; two rounds: W votes and a majority of accepts, or a recovered majority.
    let enough = is_low || yes == disks.len() || accepted > disks.len() / 2;
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
        let empty = Contents::default();
        let generations = OneGeneration::default();
        assert!(
            check(TxId::NONE, &[&empty; 3], &generations, &|_| Some((vec![0, 1, 2], 1))).is_some()
        );
    }
}

//! The task of a server that joins: asks one seed after the other until it is taken in, or is told
//! that it will not be. A server that is in a cluster already asks nobody: it remembers the others.
//! May not decide anything; what becomes of a server that is in is the loop's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_api::NodeId;

use super::discovery::{self, Discovery};
use super::link::enlist::EnlistError;
use super::shared::Shared;

/// Between two rounds through the seeds.
const PAUSE: Duration = Duration::from_millis(300);
/// Rounds without a word from the cluster after which it is asked again: whoever was asked may have
/// been mistaken for a server of it.
const PATIENCE: u32 = 20;

/// Joins, if this server is in no cluster.
pub(super) async fn run(
    shared: Arc<Shared>,
    seeds: Vec<String>,
    discovery: Option<Arc<Discovery>>,
) {
    let Some(links) = &shared.links else { return };
    let Some(address) = &shared.address else { return };
    shared.may_join.notified().await;
    let mut told = BTreeMap::new();
    let mut enlisted = 0;
    while !shared.is_member() {
        let (addresses, failed) = discovery::addresses(&seeds, discovery.as_deref()).await;
        for (seed, reason) in failed {
            tell(&mut told, &seed, reason);
        }
        for seed in addresses.iter().filter(|_| enlisted == 0) {
            match links.enlist(seed, address).await {
                Ok(servers) => {
                    let count = servers.len();
                    tracing::info!(seed, "this server is enlisted, with {count} in all");
                    // The MASTERs tell it the rest, where its place is among others.
                    let masters = servers.iter().filter(|server| server.role.votes());
                    let masters: Vec<NodeId> = masters.map(|server| server.node).collect();
                    links.follow(
                        &servers,
                        (&[], &[]),
                        (masters.iter().copied().collect(), masters),
                    );
                    enlisted = PATIENCE;
                    break;
                }
                Err(EnlistError::Refused(why)) => {
                    shared.refuse(format!("the cluster does not take this server in: {why}"));
                    return;
                }
                Err(error) => tell(&mut told, seed, error.to_string()),
            }
        }
        enlisted = u32::saturating_sub(enlisted, 1);
        // A seed that is not up, or has no majority, tells nobody when it is.
        tokio::time::sleep(PAUSE).await;
    }
}

/// A seed that stays away for one reason is one line.
fn tell(told: &mut BTreeMap<String, String>, seed: &str, reason: String) {
    if told.get(seed) != Some(&reason) {
        tracing::info!(seed, reason, "not enlisted yet");
        told.insert(seed.to_owned(), reason);
    }
}

//! MASTERs that unite without one that is given up, and changes of clusters that are dropped in
//! the middle. May not decide what is given up: people do.
//!
//! **Without one of them.** Where W is below a majority a MASTER that is lost may have what nobody
//! else has, so it cannot leave like any other. Given up, it leaves by the way that leads back to a
//! majority, whatever W is afterwards: those who stay merge, seal and compare, all of them, and the
//! next generation begins when they have the same. It is theirs alone; what only the lost one had
//! is lost.
//!
//! Whoever is given up while the others unite already is waited for no more. What was to be applied
//! before they compare may name its log, so they seal again. Those who have entered the next
//! generation write nothing of this one any more, so what they have told of themselves stays true.

use alloc::collections::{BTreeMap, BTreeSet};

use quorate_api::ClusterKey;

use super::{Change, ChangeError, Generations, Keepers, Stage, check};

impl Generations {
    /// True while W of a cluster is below a majority.
    #[must_use]
    pub fn is_loose(&self, cluster: ClusterKey) -> bool {
        self.keepers(cluster).is_some_and(|keepers| !keepers.is_safe())
    }

    /// A cluster with W below a majority goes on with some of its servers, `next`; the others are
    /// given up.
    ///
    /// # Errors
    /// See [`ChangeError`]. A change on its way is no hindrance if MASTERs unite by it.
    pub fn go_on_without(&mut self, cluster: ClusterKey, next: Keepers) -> Result<(), ChangeError> {
        let found = self.clusters.get_mut(&cluster).ok_or(ChangeError::Unknown(cluster))?;
        check(cluster, &found.keepers, &next)?;
        if found.change.is_none() && found.keepers.decides_like(&next) {
            found.keepers = next;
            return Ok(());
        }
        let stays = next.masters.iter().all(|node| found.keepers.masters.contains(node));
        let is_local = !(found.keepers.local_quorums.is_empty() && next.local_quorums.is_empty());
        if !stays || is_local {
            let (write_quorum, masters) = (next.write_quorum, next.masters.len());
            return Err(ChangeError::BelowMajority { cluster, write_quorum, masters });
        }
        let Some(change) = &mut found.change else {
            let stage = Stage::Merging { merged: BTreeSet::new(), quiet: false };
            found.change = Some(Change { next, stage });
            return Ok(());
        };
        let is_alike = change.next.masters == next.masters;
        match &mut change.stage {
            Stage::Sealing { .. } | Stage::Transferring { .. } => {
                return Err(ChangeError::UnderWay(cluster));
            }
            Stage::Merging { merged, .. } => merged.retain(|node| next.masters.contains(node)),
            Stage::Uniting { sealed } => sealed.retain(|node, _| next.masters.contains(node)),
            Stage::Comparing { .. } if is_alike => {}
            Stage::Comparing { .. } => change.stage = Stage::Uniting { sealed: BTreeMap::new() },
        }
        found.turn = found.turn.filter(|node| next.masters.contains(node));
        change.next = next;
        found.go_on();
        Ok(())
    }

    /// A cluster is dropped: nothing of it is united any more, and nobody is waited for whom a
    /// majority can do without. Who was to leave it leaves.
    pub fn close(&mut self, cluster: ClusterKey) {
        let Some(found) = self.clusters.get_mut(&cluster) else { return };
        let Some(change) = found.change.take_if(|change| change.stage.unites()) else { return };
        let leaves = change.next.masters != found.keepers.masters;
        let stage = match change.stage {
            // Nothing is sealed yet.
            Stage::Merging { .. } if !leaves => return,
            Stage::Uniting { sealed } => Stage::Sealing { sealed },
            Stage::Comparing { token, compared } => {
                Stage::Transferring { token, synced: compared.into_keys().collect() }
            }
            Stage::Merging { .. } | Stage::Sealing { .. } | Stage::Transferring { .. } => {
                Stage::Sealing { sealed: BTreeMap::new() }
            }
        };
        let write_quorum = change.next.majority();
        let next =
            if leaves { Keepers { write_quorum, ..change.next } } else { found.keepers.clone() };
        found.change = Some(Change { next, stage });
        found.go_on();
    }
}

#[cfg(test)]
#[path = "../forced_tests.rs"]
mod tests;

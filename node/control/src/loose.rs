//! Which generations of clusters had W below a majority: whatever is applied of them later is
//! applied by the rules of PROTOCOL.md 3.10. May not know why they changed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use quorate_api::ClusterKey;
use quorate_protocol::io::Placement;
use serde::{Deserialize, Serialize};

use crate::generations::Generations;

/// By cluster, first and last of such generations, in order. Clusters that were never changed are
/// not in it: their placements say what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Loose(BTreeMap<ClusterKey, Vec<(u32, u32)>>);

impl Loose {
    /// True when there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes note of the generations that clusters are in. To be called whenever these may have
    /// changed: no step takes a cluster over two of them.
    pub fn note(&mut self, generations: &Generations) {
        for (cluster, generation) in generations.loose() {
            let ranges = self.0.entry(cluster).or_default();
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 >= generation => *last = generation.max(*last),
                Some(_) | None => ranges.push((generation, generation)),
            }
        }
    }

    /// Puts what is known of a cluster into its placement.
    pub fn place(&self, cluster: ClusterKey, placement: &mut Placement) {
        placement.loose = self.0.get(&cluster).cloned().unwrap_or_default();
    }
}

//! Which servers of a run keep no contents, and what follows from that for what is asked of whom.
//! May not know what a witness does.

use crate::options::{Options, Shape};
use crate::rng::Stream;

impl Shape {
    /// True when less than half of its MASTERs are among these.
    #[must_use]
    pub fn has_few(&self, witnesses: &[usize]) -> bool {
        let among = self.masters.iter().filter(|server| witnesses.contains(server)).count();
        2 * among < self.masters.len()
    }
}

impl Options {
    /// Some MASTERs keep no contents.
    pub(crate) fn draw_witnesses(&mut self, rng: &mut Stream) {
        if !rng.chance(300) {
            return;
        }
        for _ in 0..=rng.index(2) {
            let server = rng.index(self.servers);
            let masters = || self.clusters.iter().filter(|shape| shape.masters.contains(&server));
            let is_few = |shape: &Shape| {
                let mut with = self.witnesses.clone();
                with.push(server);
                shape.has_few(&with)
            };
            let is_fit = masters().count() > 0 && masters().all(is_few);
            if is_fit && !self.witnesses.contains(&server) {
                self.witnesses.push(server);
                for shape in &mut self.clusters {
                    shape.replicas.retain(|replica| *replica != server);
                }
            }
        }
    }

    /// True when a server's state shows all records.
    #[must_use]
    pub fn shows_all(&self, server: usize) -> bool {
        self.holds_all(server) && !self.witnesses.contains(&server)
    }

    /// Those of a cluster's MASTERs that may own it.
    #[must_use]
    pub fn owners_of(&self, shape: &Shape) -> Vec<usize> {
        let mut owners = shape.masters.clone();
        owners.retain(|server| !self.witnesses.contains(server));
        owners
    }
}

//! When this server stands for election beside the library's own time-outs: at once where nobody
//! can lead yet, and soon after the leader cannot be reached, instead of waiting out its silence.
//! May not decide who leads: that is votes, and whoever still hears the leader refuses them.

use quorate_api::NodeId;
use raft::{INVALID_ID, StateRole};

use super::{Plane, StateMachine};

/// Ticks between one server that stands because it lost its leader, and the next. They stand one
/// after the other, in order of id: two at once would split the votes.
const APART: usize = 2;

impl<A: StateMachine> Plane<A> {
    /// A server alone need not wait for anybody's silence, nor need the first of the founders, for
    /// nobody can lead yet.
    pub(super) fn stand_early(&mut self, is_first: bool) {
        let voters = self.raft.raft.prs().conf().voters().clone();
        let alone = voters.ids().iter().all(|id| id == self.config.node.0);
        if voters.contains(self.config.node.0) && (is_first || alone) {
            self.raft.campaign().ok();
        }
    }

    /// A server cannot be reached. If it led, it leads no more as far as this one is concerned,
    /// which from now on may vote for another one at once.
    pub(super) fn lose(&mut self, node: NodeId) {
        let raft = &mut self.raft.raft;
        if raft.state != StateRole::Follower || raft.leader_id != node.0 {
            return;
        }
        raft.become_follower(raft.term, INVALID_ID);
        let voters = raft.prs().conf().voters().ids();
        let before = voters.iter().filter(|id| *id < self.config.node.0 && *id != node.0).count();
        self.stands_in = Some(1 + APART * before);
    }

    /// A tick later.
    pub(super) fn stand_if_due(&mut self) {
        let raft = &self.raft.raft;
        let is_led = raft.state != StateRole::Follower || raft.leader_id != INVALID_ID;
        let Some(ticks) = self.stands_in.take().filter(|_| !is_led) else { return };
        if ticks > 1 {
            self.stands_in = Some(ticks - 1);
        } else if self.raft.raft.promotable() {
            // The library would let who has lost its vote meanwhile stand, and even win.
            self.raft.campaign().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{World, create_class, create_database};
    use super::super::{Answer, ELECTION, Event, TICK};

    /// Before it stops; commands go on without an election time-out.
    #[test]
    fn a_leader_that_resigns_is_followed_at_once() {
        for seed in 0..20 {
            let mut world = World::new(seed, 3);
            world.run_ms(2_000);
            world.propose(0, create_database());
            world.run_ms(500);
            let before = world.leader().unwrap();
            assert!(world.servers[before].plane.as_ref().unwrap().can_resign(), "seed {seed}");
            world.step(before, Event::Resign);
            let mut waited = 0;
            while world.leader().is_none_or(|leader| leader == before) {
                world.run_ms(1);
                waited += 1;
                assert!(waited < ELECTION as u64 * TICK / 1_000, "seed {seed}: {waited} ms");
            }
            let after = world.leader().unwrap();
            world.step(before, Event::Resign);
            assert!(!world.servers[before].plane.as_ref().unwrap().can_resign(), "seed {seed}");
            world.crash(before);
            let made = world.propose(after, create_class("After"));
            world.run_ms(500);
            assert_eq!(world.answers.get(&made), Some(&Answer::Applied(Ok(()))), "seed {seed}");
        }
        let mut alone = World::new(1, 1);
        alone.run_ms(30);
        assert!(!alone.servers[0].plane.as_ref().unwrap().can_resign(), "to whom?");
    }
}

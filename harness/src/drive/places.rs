//! Which key holds which place of popularity, while deletes empty places and creations fill them.
//! Part of the schedule, so a function of the seed alone: knows no server, reply or clock.
//!
//! A distribution draws places, and place p begins with loaded key p. A delete takes the key out
//! of the place that was drawn, and no later operation is meant for that key: under a skewed
//! distribution the popular keys would be gone within seconds, and everything after them would be
//! told `not_found`, which measures nothing. The next creation takes the place over, so that what
//! is popular stays popular. Until then, whoever draws the place goes to the next one below it.
//!
//! When more than half of the places are empty, because a mix deletes more than it creates, they
//! are no longer passed over: operations then meet deleted keys, as the mix asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Places 0, 1, 2, … below a count that is handed in, since it may grow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// Keys of the places that were filled again; every other place p has key p.
    keys: BTreeMap<u64, u64>,
    /// Places whose key was deleted.
    empty: BTreeSet<u64>,
    /// The same, the longest empty first.
    waiting: VecDeque<u64>,
}

impl Places {
    /// The key to work on when `place` of `count` was drawn.
    pub(crate) fn key(&self, place: u64, count: u64) -> u64 {
        self.key_at(self.held(place, count))
    }

    /// The key to delete when `place` of `count` was drawn; its place is empty from now on.
    pub(crate) fn delete(&mut self, place: u64, count: u64) -> u64 {
        let place = self.held(place, count);
        if self.empty.insert(place) {
            self.waiting.push_back(place);
        }
        self.key_at(place)
    }

    /// Gives `key` the place that has been empty for the longest time, if any is.
    pub(crate) fn fill(&mut self, key: u64) {
        if let Some(place) = self.waiting.pop_front() {
            self.empty.remove(&place);
            self.keys.insert(place, key);
        }
    }

    /// `place`, or the nearest one below it, from the top again, that is not empty.
    fn held(&self, place: u64, count: u64) -> u64 {
        if self.empty.len() as u64 * 2 > count {
            return place;
        }
        let mut at = place;
        while self.empty.contains(&at) {
            at = at.checked_sub(1).unwrap_or(count.saturating_sub(1));
        }
        at
    }

    fn key_at(&self, place: u64) -> u64 {
        self.keys.get(&place).copied().unwrap_or(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_takes_over_the_place_of_the_key_that_was_deleted_first() {
        let mut places = Places::default();
        places.fill(100);
        assert_eq!((places.key(7, 10), places.delete(7, 10), places.delete(3, 10)), (7, 7, 3));
        assert_eq!((places.key(7, 10), places.key(3, 10)), (6, 2));
        places.fill(101);
        assert_eq!((places.key(7, 10), places.key(3, 10)), (101, 2));
        places.fill(102);
        assert_eq!((places.delete(7, 10), places.key(3, 10)), (101, 102));
    }

    #[test]
    fn neighbours_stand_in_round_the_end() {
        let mut places = Places::default();
        assert_eq!((places.delete(0, 6), places.delete(5, 6)), (0, 5));
        assert_eq!((places.key(0, 6), places.delete(0, 6), places.key(0, 6)), (4, 4, 3));
    }

    #[test]
    fn where_everything_is_deleted_deleted_keys_are_met() {
        let mut places = Places::default();
        let deleted: BTreeSet<u64> = (0..100).map(|draw| places.delete(draw % 3, 3)).collect();
        assert_eq!(deleted, [0, 1, 2].into());
        assert_eq!(places.key(1, 3), 1);
        (10..13).for_each(|key| places.fill(key));
        assert_eq!([0, 1, 2].map(|place| places.key(place, 3)), [10, 11, 12]);
        assert_eq!((places.delete(0, 1), places.key(0, 1)), (10, 10));
    }
}

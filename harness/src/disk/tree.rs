//! Names: as programs see them, as they are synced, and the steps between. May not know contents.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use super::{Ino, ROOT};

/// A directory's names.
pub(super) type Names = BTreeMap<OsString, Ino>;

/// One name of one directory is set or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameChange {
    pub(super) dir: Ino,
    pub(super) name: OsString,
    pub(super) to: Option<Ino>,
}

/// Changes that are left by a cut all or none: a rename has two.
type Step = Vec<NameChange>;

/// All directories.
#[derive(Debug)]
pub(super) struct Tree {
    live: BTreeMap<Ino, Names>,
    synced: BTreeMap<Ino, Names>,
    pending: Vec<Step>,
}

impl Tree {
    /// The topmost directory alone.
    pub(super) fn new() -> Self {
        let only_root = BTreeMap::from([(ROOT, Names::new())]);
        Self { live: only_root.clone(), synced: only_root, pending: Vec::new() }
    }

    /// Names of a directory as programs see them; `None` when it is none, or was removed.
    pub(super) fn names(&self, dir: Ino) -> Option<&Names> {
        self.live.get(&dir)
    }

    pub(super) fn lookup(&self, dir: Ino, name: &OsStr) -> Option<Ino> {
        self.live.get(&dir)?.get(name).copied()
    }

    /// Adds a directory that has no name yet.
    pub(super) fn add_directory(&mut self, dir: Ino) {
        self.live.insert(dir, Names::new());
        self.synced.insert(dir, Names::new());
    }

    /// A directory without names is gone for programs; a cut may bring it back.
    pub(super) fn remove_directory(&mut self, dir: Ino) {
        self.live.remove(&dir);
    }

    /// Does a step, unsynced.
    pub(super) fn step(&mut self, step: Vec<NameChange>) {
        apply(&mut self.live, &step);
        self.pending.push(step);
    }

    /// Makes the steps that touch a directory survive, and those that they build on.
    pub(super) fn sync(&mut self, dir: Ino) {
        let mut touched = BTreeSet::from([dir]);
        let mut chosen = vec![false; self.pending.len()];
        for (index, step) in self.pending.iter().enumerate().rev() {
            if step.iter().any(|change| touched.contains(&change.dir)) {
                chosen[index] = true;
                touched.extend(step.iter().map(|change| change.dir));
            }
        }
        let mut chosen = chosen.into_iter();
        let (synced, pending): (Vec<_>, Vec<_>) =
            self.pending.drain(..).partition(|_| chosen.next().unwrap_or(false));
        self.pending = pending;
        for step in synced {
            apply(&mut self.synced, &step);
        }
    }

    /// Number of steps that are not synced.
    pub(super) fn unsynced(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Power is cut: the first `kept` unsynced steps are left.
    pub(super) fn cut(&mut self, kept: u64) {
        for step in self.pending.drain(..).take(usize::try_from(kept).unwrap_or(usize::MAX)) {
            apply(&mut self.synced, &step);
        }
        let reached = self.reached();
        self.synced.retain(|dir, _| reached.contains(dir));
        self.live = self.synced.clone();
    }

    /// Everything with a name, from the topmost directory on, as synced.
    fn reached(&self) -> BTreeSet<Ino> {
        let mut reached = BTreeSet::from([ROOT]);
        let mut ahead = vec![ROOT];
        while let Some(dir) = ahead.pop() {
            for found in self.synced.get(&dir).into_iter().flat_map(Names::values) {
                if reached.insert(*found) {
                    ahead.push(*found);
                }
            }
        }
        reached
    }

    /// Everything that has a name, or may have one after a cut.
    pub(super) fn referred(&self) -> BTreeSet<Ino> {
        let steps = self.pending.iter().flatten().filter_map(|change| change.to);
        let names = self.live.values().chain(self.synced.values());
        names.flat_map(Names::values).copied().chain(steps).chain([ROOT]).collect()
    }
}

fn apply(names: &mut BTreeMap<Ino, Names>, step: &[NameChange]) {
    for NameChange { dir, name, to } in step {
        let Some(names) = names.get_mut(dir) else { continue };
        match to {
            Some(ino) => drop(names.insert(name.clone(), *ino)),
            None => drop(names.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(dir: Ino, name: &str, to: Option<Ino>) -> NameChange {
        NameChange { dir, name: name.into(), to }
    }

    fn names(tree: &Tree, dir: Ino) -> Vec<(&str, Ino)> {
        let names = tree.names(dir).unwrap().iter();
        names.map(|(name, ino)| (name.to_str().unwrap(), *ino)).collect()
    }

    #[test]
    fn a_rename_is_left_as_a_whole_or_not_at_all() {
        for (kept, wanted) in [(0, vec![]), (1, vec![("new", 2)]), (2, vec![("current", 2)])] {
            let mut tree = Tree::new();
            tree.step(vec![set(ROOT, "new", Some(2))]);
            tree.step(vec![set(ROOT, "new", None), set(ROOT, "current", Some(2))]);
            assert_eq!(names(&tree, ROOT), [("current", 2)]);
            tree.cut(kept);
            assert_eq!(names(&tree, ROOT), wanted);
        }
    }

    #[test]
    fn a_synced_directory_keeps_its_names_and_another_loses_them() {
        let mut tree = Tree::new();
        for dir in [2, 3] {
            tree.add_directory(dir);
            tree.step(vec![set(ROOT, &format!("d{dir}"), Some(dir))]);
        }
        tree.sync(ROOT);
        tree.step(vec![set(2, "a", Some(4))]);
        tree.step(vec![set(3, "b", Some(5))]);
        tree.step(vec![set(2, "a", None), set(3, "c", Some(4))]);
        tree.step(vec![set(2, "x", Some(6))]);
        // The move builds on the name it moves, which lies in another directory; x does not.
        tree.sync(3);
        assert_eq!(tree.unsynced(), 1);
        tree.cut(0);
        assert_eq!(names(&tree, 2), []);
        assert_eq!(names(&tree, 3), [("b", 5), ("c", 4)]);
    }

    #[test]
    fn a_removed_name_comes_back_and_what_lost_its_name_is_gone() {
        let mut tree = Tree::new();
        tree.step(vec![set(ROOT, "old", Some(2))]);
        tree.sync(ROOT);
        tree.step(vec![set(ROOT, "old", None)]);
        tree.add_directory(3);
        tree.step(vec![set(ROOT, "dir", Some(3))]);
        assert_eq!(tree.referred(), BTreeSet::from([ROOT, 2, 3]));
        tree.cut(0);
        assert_eq!(names(&tree, ROOT), [("old", 2)]);
        assert_eq!(tree.names(3), None);
        assert_eq!(tree.referred(), BTreeSet::from([ROOT, 2]));
    }
}

//! The order of writes that record versions give: a version is its base's plus one (PROTOCOL.md
//! 3.1), so whoever names versions names the order, and nothing need be searched for (HARNESS.md
//! 4.3b, 4.4). No judging here.
//!
//! A record that was deleted and created again may count from the start, so versions are compared
//! only inside one record: by rid, or by key where the key cannot have been created twice.

use std::collections::{BTreeMap, BTreeSet};

use crate::budget::{Budget, OutOfBudget};
use crate::history::{Outcome, Seen};
use crate::index::{Index, Read, Write};

/// A version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which record, dense from 0.
    pub(crate) record: usize,
    /// 0 is the absence before the first write.
    pub(crate) version: u64,
}

/// A version that somebody wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Link {
    pub(crate) place: Place,
    /// Position in [`Index::writes`].
    pub(crate) write: usize,
    /// Index into the operations.
    pub(crate) op: usize,
}

/// What is known of the order of writes.
#[derive(Debug)]
pub(crate) struct Order<'h> {
    /// By position in [`Index::writes`].
    places: Vec<Option<Place>>,
    /// Every placed write, sorted by place.
    pub(crate) chain: Vec<Link>,
    /// Records of which one version has two writers: these have no order.
    ambiguous: BTreeSet<usize>,
    records: BTreeMap<(u64, Option<&'h str>), usize>,
    /// Keys whose record must be named by rid.
    recreated: BTreeSet<u64>,
}

impl<'h> Order<'h> {
    /// Collects the versions that acknowledged operations named.
    pub(crate) fn new(index: &Index<'h>, budget: &mut Budget) -> Result<Self, OutOfBudget> {
        budget.spend(index.writes.len())?;
        let recreated = index
            .writes
            .chunk_by(|a, b| a.key == b.key)
            .map(|writes| writes[0].key)
            .filter(|&key| index.may_be_recreated(key))
            .collect();
        let mut order = Self {
            places: vec![None; index.writes.len()],
            chain: Vec::new(),
            ambiguous: BTreeSet::new(),
            records: BTreeMap::new(),
            recreated,
        };
        order.place_own(index, budget)?;
        order.place_seen(index, budget)?;
        order.link(index);
        Ok(order)
    }

    /// The versions that writers were told.
    fn place_own(&mut self, index: &Index<'h>, budget: &mut Budget) -> Result<(), OutOfBudget> {
        let acknowledged = index.history.operations.iter().filter(|operation| operation.is_ok());
        for operation in acknowledged {
            budget.spend(operation.steps.len())?;
            for step in operation.steps.iter().filter(|step| step.version.is_some()) {
                let at = step.written().and_then(|seen| index.source(step.key, seen));
                if let (Some(at), Some(version)) = (at, step.version)
                    && index.writes[at].last
                {
                    let record = self.record(step.key, step.rid.as_deref());
                    self.places[at] = record.map(|record| Place { record, version });
                }
            }
        }
        Ok(())
    }

    /// The versions that readers were told, for writes whose own reply named none.
    fn place_seen(&mut self, index: &Index<'h>, budget: &mut Budget) -> Result<(), OutOfBudget> {
        for read in index.reads() {
            budget.spend(1)?;
            let Some(version) = read.step.version else { continue };
            let Some(at) = index.source(read.step.key, read.seen) else { continue };
            let write = &index.writes[at];
            let may_be_seen = write.last && index.outcome(write) != Outcome::Failed;
            if may_be_seen && self.places[at].is_none() {
                let record = self.record(read.step.key, read.step.rid.as_deref());
                self.places[at] = record.map(|record| Place { record, version });
            }
        }
        Ok(())
    }

    fn link(&mut self, index: &Index<'_>) {
        let placed = self.places.iter().zip(&index.writes).enumerate();
        let link = |(write, (place, of)): (usize, (&Option<Place>, &Write))| {
            place.map(|place| Link { place, write, op: of.op })
        };
        self.chain = placed.filter_map(link).collect();
        self.chain.sort_unstable();
        let doubled = self.chain.windows(2).filter(|pair| pair[0].place == pair[1].place);
        self.ambiguous = doubled.map(|pair| pair[0].place.record).collect();
    }

    fn record(&mut self, key: u64, rid: Option<&'h str>) -> Option<usize> {
        let rid = rid.filter(|_| self.recreated.contains(&key));
        if rid.is_none() && self.recreated.contains(&key) {
            return None;
        }
        let next = self.records.len();
        Some(*self.records.entry((key, rid)).or_insert(next))
    }

    /// How many records have no order because one version has two writers.
    pub(crate) fn ambiguous(&self) -> usize {
        self.ambiguous.len()
    }

    /// The place of a write, by its position in [`Index::writes`].
    pub(crate) fn of_write(&self, write: usize) -> Option<Place> {
        self.places[write].filter(|place| !self.ambiguous.contains(&place.record))
    }

    /// The place of what a read saw; `None` if it is not known.
    pub(crate) fn of_read(&self, index: &Index<'_>, read: &Read<'_>) -> Option<Place> {
        if read.seen == Seen::Absent(None) {
            let record = *self.records.get(&(read.step.key, None))?;
            let beginning = Place { record, version: 0 };
            return (!self.ambiguous.contains(&record)).then_some(beginning);
        }
        index.source(read.step.key, read.seen).and_then(|write| self.of_write(write))
    }

    /// The first known version after `place`.
    pub(crate) fn next(&self, place: Place) -> Option<Link> {
        let at = self.chain.partition_point(|link| link.place <= place);
        self.chain.get(at).filter(|link| link.place.record == place.record).copied()
    }

    /// Neighbours in the order of one record.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Link, &Link)> {
        let neighbours = self.chain.windows(2).map(|pair| (&pair[0], &pair[1]));
        neighbours.filter(|(first, then)| {
            first.place.record == then.place.record && !self.ambiguous.contains(&first.place.record)
        })
    }
}

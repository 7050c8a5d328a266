//! What the two dirty reads of Adya have in common: every acknowledged read is held against the
//! write that it saw. Which writes may not be seen is for `aborted_read` and `intermediate_read`.

use super::Checker;
use crate::budget::{Budget, OutOfBudget};
use crate::describe::{counterexample, seen};
use crate::index::{Index, Read, Write};
use crate::verdict::{Counts, Judgement};

/// A kind of dirty read.
pub(super) struct Dirty {
    /// Who judges it.
    pub(super) checker: Checker,
    /// Its count.
    pub(super) count: &'static str,
    /// What such a read did, in words that follow "reads".
    pub(super) did: &'static str,
    /// Whether the read may not have seen the write.
    pub(super) is_dirty: fn(&Index<'_>, &Read<'_>, &Write) -> bool,
    /// Why it is impossible: id of the writer, the value in words, the key.
    pub(super) reason: fn(u64, &str, u64) -> String,
}

impl Dirty {
    /// Judges every acknowledged read.
    pub(super) fn judge(
        &self,
        index: &Index<'_>,
        budget: &mut Budget,
    ) -> Result<Judgement, OutOfBudget> {
        let mut counts = Counts::of(&["reads", self.count]);
        let mut first = None;
        for read in index.reads() {
            budget.spend(1)?;
            counts.add("reads");
            let Some(at) = index.source(read.step.key, read.seen) else { continue };
            let write = &index.writes[at];
            if (self.is_dirty)(index, &read, write) {
                counts.add(self.count);
                first.get_or_insert((read, write.op));
            }
        }
        let Self { checker, did, .. } = *self;
        let reads = counts.get("reads");
        if let Some((read, writer)) = first {
            let said = format!("{} of {reads} reads {did}", counts.get(self.count));
            let (id, key) = (index.operation(writer).id, read.step.key);
            let reason = (self.reason)(id, &seen(read.seen), key);
            let example = counterexample(index, vec![read.op, writer], Some(key), reason);
            return Ok(Judgement::violated(checker, counts, said, example));
        }
        if reads == 0 {
            let said = "no acknowledged read to judge".to_owned();
            return Ok(Judgement::unknown(checker, counts, said));
        }
        Ok(Judgement::valid(checker, counts, format!("no read {did}")))
    }
}

//! One outcome per transaction, whoever writes it and whenever (PROTOCOL.md 3.11; Gray & Lamport,
//! "Consensus on Transaction Commit", 2006: stability and consistency).

use std::collections::BTreeMap;

use quorate_api::TxId;
use quorate_protocol::io::Write;
use quorate_protocol::message::Decided;

#[derive(Debug, Default)]
pub(super) struct OneOutcome(BTreeMap<TxId, Decided>);

impl OneOutcome {
    pub(super) fn see(&mut self, write: &Write) -> Option<String> {
        let (tx, outcome) = match write {
            Write::Outcome(tx, outcome) => (*tx, *outcome),
            Write::Log(_, entry) => (entry.tx, entry.outcome),
            Write::Item(..)
            | Write::Tx(..)
            | Write::TruncateLog(_)
            | Write::Applied(..)
            | Write::BootEnd(..)
            | Write::OutOfLog(_)
            | Write::InLog(_)
            | Write::Low(..)
            | Write::Shown(..)
            | Write::Begun(_)
            | Write::Copied(..)
            | Write::Sealed(..)
            | Write::Entered(..)
            | Write::Ancestors(..)
            | Write::Rivals(..)
            | Write::Lost(..)
            | Write::Purge(_)
            | Write::Aligning(_) => return None,
        };
        let before = *self.0.entry(tx).or_insert(outcome);
        (before != outcome).then(|| format!("{tx} was {before:?} and is now {outcome:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outcomes_are_caught() {
        let mut invariant = OneOutcome::default();
        assert_eq!(invariant.see(&Write::Outcome(TxId::NONE, Decided::Commit)), None);
        assert!(invariant.see(&Write::Outcome(TxId::NONE, Decided::Abort)).is_some());
    }
}

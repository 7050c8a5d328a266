//! Servers that have applied the log up to the same entry agree, whatever leaders came between:
//! nothing that some server has applied is ever replaced (Raft's state machine safety; PROTOCOL.md
//! 3.9 rests on it).

use std::collections::BTreeMap;

/// Content of the state at an entry, as it was first seen, and where.
#[derive(Debug, Default)]
pub(super) struct OneAgreement(BTreeMap<u64, (usize, u64)>);

impl OneAgreement {
    /// `digest` is of the state of `server` when it has applied everything up to an entry.
    pub(super) fn see(&mut self, server: usize, applied: u64, digest: u64) -> Option<String> {
        let (first, known) = *self.0.entry(applied).or_insert((server, digest));
        (known != digest)
            .then(|| format!("agreed on something else than server {first} at entry {applied}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_states_at_one_entry_are_caught() {
        let mut invariant = OneAgreement::default();
        assert_eq!(invariant.see(0, 4, 11), None);
        assert_eq!(invariant.see(1, 5, 12), None);
        assert_eq!(invariant.see(2, 4, 11), None);
        assert!(invariant.see(2, 5, 11).is_some());
    }
}

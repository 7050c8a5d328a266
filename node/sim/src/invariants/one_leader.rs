//! A term of the control plane has at most one leader (Raft's election safety: a server votes once
//! a term, and durably before anybody hears of it; PROTOCOL.md 3.2, the durability rule).

use std::collections::BTreeMap;

/// Who led each term.
#[derive(Debug, Default)]
pub(super) struct OneLeader(BTreeMap<u64, usize>);

impl OneLeader {
    pub(super) fn see(&mut self, server: usize, term: u64) -> Option<String> {
        let first = *self.0.entry(term).or_insert(server);
        (first != server).then(|| format!("leads term {term}, as server {first} did"))
    }

    /// Number of terms that had one.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_a_term_are_caught() {
        let mut invariant = OneLeader::default();
        assert_eq!(invariant.see(0, 2), None);
        assert_eq!(invariant.see(1, 3), None);
        assert_eq!(invariant.see(0, 2), None);
        assert!(invariant.see(0, 3).is_some());
        assert_eq!(invariant.count(), 2);
    }
}

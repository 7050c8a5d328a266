//! A server never goes back to an older configuration, also over a crash: what it has refused
//! because of an entry (an older writer, a sealed cluster) it goes on refusing (PROTOCOL.md 3.9;
//! `control/plane`, "what is applied stays applied").

use std::collections::BTreeMap;

/// How far each server has ever been: the index of the last entry applied, and the configuration.
#[derive(Debug, Default)]
pub(super) struct ConfigurationKept(BTreeMap<usize, (u64, u64)>);

impl ConfigurationKept {
    pub(super) fn see(&mut self, server: usize, applied: u64, cfg: u64) -> Option<String> {
        let known = self.0.entry(server).or_default();
        let before = *known;
        *known = (applied.max(before.0), cfg.max(before.1));
        (applied < before.0 || cfg < before.1).then(|| {
            format!(
                "is at entry {applied} with configuration {cfg}, and was at {} with {}",
                before.0, before.1
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_configuration_is_caught() {
        let mut invariant = ConfigurationKept::default();
        assert_eq!(invariant.see(1, 7, 5), None);
        assert_eq!(invariant.see(2, 3, 3), None, "another server");
        assert_eq!(invariant.see(1, 8, 5), None);
        assert!(invariant.see(1, 7, 5).is_some());
        assert!(invariant.see(1, 9, 4).is_some());
    }
}

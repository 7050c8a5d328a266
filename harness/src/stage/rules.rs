//! The rules that faults put on links, and their sum where faults overlap.
//! Pure: telling the proxy lives in `network.rs`.

use std::collections::BTreeMap;

use super::Link;
use super::extension::{Cut, Delay};
use super::toxics::Milliseconds;

/// Rules in force, by fault name, then link.
pub(crate) type Rules = BTreeMap<String, BTreeMap<Link, Rule>>;

/// What one fault asks of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Cut it.
    Cut(Cut),
    /// Delay it.
    Delay(Delay),
}

/// The sum of the rules that the faults in force put on a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) cut: Option<Cut>,
    pub(crate) delay: Option<Delay>,
}

impl Sum {
    pub(crate) fn of(rules: &Rules, link: &Link) -> Self {
        let mut sum = Self::default();
        for rule in rules.values().filter_map(|of_fault| of_fault.get(link)) {
            match *rule {
                Rule::Cut(cut) => sum.cut = Some(sum.cut.map_or(cut, |other| other.and(cut))),
                Rule::Delay(delay) => sum.delay = Some(delay),
            }
        }
        sum
    }

    /// The delay as a standard toxic, if it can be one.
    pub(crate) fn coarse(self) -> Option<Milliseconds> {
        self.delay.and_then(Milliseconds::of)
    }

    /// The delay as a rule of the extension, if it cannot be a standard toxic.
    pub(crate) fn fine(self) -> Option<Delay> {
        if self.coarse().is_some() { None } else { self.delay }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::DelayDistribution;
    use crate::stage::extension::{CutKind, Streams};

    #[test]
    fn a_closed_cut_hides_a_silent_one_until_it_is_lifted() {
        let link = Link::new("n1", "n2");
        let silent = |stream| Cut { kind: CutKind::Silent, stream };
        let closed = Cut { kind: CutKind::Closed, stream: Streams::Both };
        let one = |rule| BTreeMap::from([(link.clone(), rule)]);
        let mut rules = BTreeMap::from([
            ("a".to_string(), one(Rule::Cut(closed))),
            ("b".to_string(), one(Rule::Cut(silent(Streams::Upstream)))),
        ]);
        assert_eq!(Sum::of(&rules, &link).cut, Some(closed));
        rules.remove("a");
        assert_eq!(Sum::of(&rules, &link).cut, Some(silent(Streams::Upstream)));
        rules.insert("c".to_string(), one(Rule::Cut(silent(Streams::Downstream))));
        assert_eq!(Sum::of(&rules, &link).cut, Some(silent(Streams::Both)));
        assert_eq!(Sum::of(&rules, &Link::new("n2", "n1")), Sum::default());
    }

    #[test]
    fn a_delay_is_a_toxic_or_a_rule_but_never_both() {
        let distribution = DelayDistribution::Uniform;
        let sum = |latency_us| {
            let delay = Delay { latency_us, jitter_us: 0, distribution };
            Sum { cut: None, delay: Some(delay) }
        };
        assert!(sum(2_000).coarse().is_some() && sum(2_000).fine().is_none());
        assert!(sum(300).coarse().is_none() && sum(300).fine().is_some());
    }
}

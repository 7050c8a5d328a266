//! How long writers that had a majority were interrupted, by kind of fault over all its times.
//! May not judge: what is too long is the reader's business.

use quorate_check::history::{Nanos, Operation};
use serde::{Deserialize, Serialize};

use super::operations::is_write;
use super::{FaultFigures, Gap, GroupFigures, Input, gaps};

/// Share of the times between writes that the resolution covers.
const RESOLVED: f64 = 0.99;

/// What all faults of one kind did to the writers of the servers that were not hit and still were
/// a majority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interruption {
    /// Kind and target as requested.
    pub requested: String,
    /// How many faults this is over.
    pub times: usize,
    /// The median of their longest times without an acknowledged write. Nanoseconds.
    pub median: Nanos,
    /// The longest of all.
    pub longest: Gap,
    /// The fault that it belongs to.
    pub longest_of: String,
    /// While no fault was in force, 99 % of the acknowledged writes of these writers followed the
    /// one before within this time; shorter interruptions cannot be told from none. Nanoseconds;
    /// `None` if there were no two such writes.
    pub resolution: Option<Nanos>,
}

/// A fault that left a majority: its clients there, and their longest time without a write.
struct Served<'a> {
    fault: &'a FaultFigures,
    group: &'a GroupFigures,
    gap: Gap,
}

/// One entry a kind of fault, in order of the first; none for faults that left no majority.
pub(super) fn interruptions(input: &Input<'_>, faults: &[FaultFigures]) -> Vec<Interruption> {
    let mut kinds: Vec<Vec<Served<'_>>> = Vec::new();
    for served in faults.iter().filter_map(|fault| serving(input, fault)) {
        let requested = &served.fault.requested;
        match kinds.iter_mut().find(|kind| kind[0].fault.requested == *requested) {
            Some(kind) => kind.push(served),
            None => kinds.push(vec![served]),
        }
    }
    kinds.into_iter().filter_map(|kind| sum(input, faults, kind)).collect()
}

fn sum(input: &Input<'_>, all: &[FaultFigures], mut kind: Vec<Served<'_>>) -> Option<Interruption> {
    kind.sort_by_key(|served| served.gap.length());
    let worst = kind.last()?;
    let quiet = kind.iter().flat_map(|served| distances(input, all, &served.group.nodes));
    Some(Interruption {
        requested: worst.fault.requested.clone(),
        times: kind.len(),
        median: kind[(kind.len() - 1) / 2].gap.length(),
        longest: worst.gap,
        longest_of: worst.fault.name.clone(),
        resolution: nearest_rank(quiet.collect()),
    })
}

/// The servers that were not hit, if they are a majority and somebody wrote through them.
fn serving<'a>(input: &Input<'_>, fault: &'a FaultFigures) -> Option<Served<'a>> {
    let masters = &input.plan.topology.masters;
    // Who is hit has a group of its own, unless nobody is.
    let hits = fault.groups.len() > 1;
    let group = fault.groups.iter().rfind(|group| {
        let is_hit = |name: &String| hits && fault.resolved.contains(name);
        !fault.resolved.is_empty() && !group.nodes.iter().any(is_hit)
    })?;
    let serving = masters.iter().filter(|name| group.nodes.contains(name)).count();
    (serving > masters.len() / 2).then_some(())?;
    Some(Served { fault, group, gap: group.gap_writes? })
}

/// Times between acknowledged writes through these servers while no fault was in force.
fn distances(input: &Input<'_>, faults: &[FaultFigures], nodes: &[String]) -> Vec<Nanos> {
    let names = &input.history.header.nodes;
    let through = |op: &Operation| {
        let name = names.get(op.node as usize);
        is_write(op) && name.is_some_and(|name| nodes.contains(name))
    };
    let window = input.measure_window();
    let acknowledged = gaps::acknowledged(input, through);
    let inside: Vec<Nanos> = acknowledged.into_iter().filter(|at| window.contains(*at)).collect();
    let is_quiet = |from: Nanos, to: Nanos| {
        let windows = faults.iter().map(|fault| fault.window(window.to));
        windows.into_iter().all(|fault| to < fault.from || fault.to <= from)
    };
    let pairs = inside.windows(2).filter(|pair| is_quiet(pair[0], pair[1]));
    pairs.map(|pair| pair[1] - pair[0]).collect()
}

fn nearest_rank(mut times: Vec<Nanos>) -> Option<Nanos> {
    times.sort_unstable();
    let rank = (RESOLVED * times.len() as f64).ceil() as usize;
    times.get(rank.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use quorate_check::history::Outcome;

    use super::super::fault_figures;
    use super::super::sample::{MS, Sample, fail};
    use super::*;
    use crate::plan::FaultKind;

    /// Every server is written through every 10 ms, n3 is cut off from 2 s to 3 s and from 5 s to
    /// 6 s. Writers of the others see nothing acknowledged for 100 and for 40 ms.
    fn cuts() -> Sample {
        let mut sample = Sample::new(10_000);
        for at in (0..10_000).step_by(10) {
            for node in 0..3 {
                let is_cut = (2000..3000).contains(&at) || (5000..6000).contains(&at);
                let is_late = (2000..2090).contains(&at) || (5000..5030).contains(&at);
                let op = sample.update(node, at, 500);
                if is_late || node == 2 && is_cut {
                    fail(op, Outcome::Failed, "no_quorum");
                }
            }
        }
        sample.partition("cut-1", 2000, 3000);
        sample.partition("cut-2", 5000, 6000);
        sample
    }

    fn of(sample: &Sample) -> Vec<Interruption> {
        let input = sample.input();
        interruptions(&input, &fault_figures(&input, 100 * MS))
    }

    #[test]
    fn faults_of_one_kind_are_one_entry_with_its_worst() {
        let found = of(&cuts());
        let [cut] = &found[..] else { panic!("one kind: {found:?}") };
        assert_eq!((cut.requested.as_str(), cut.times), ("partition silent one", 2));
        assert_eq!((cut.median, cut.longest.length()), (40 * MS, 100 * MS));
        assert_eq!(cut.longest_of, "cut-1");
        // What happens during the faults says nothing about the resolution.
        assert_eq!(cut.resolution, Some(10 * MS));
    }

    #[test]
    fn writers_without_a_majority_are_not_asked() {
        let mut sample = cuts();
        for record in &mut sample.faults {
            record.resolved = vec!["n2".to_owned(), "n3".to_owned()];
        }
        assert_eq!(of(&sample), []);
        let mut nobody = cuts();
        nobody.faults.iter_mut().for_each(|record| record.resolved.clear());
        assert_eq!(of(&nobody), []);
    }

    /// Everybody serves on, and is measured.
    #[test]
    fn a_change_of_the_configuration_hits_nobody() {
        let mut sample = cuts();
        for fault in &mut sample.plan.faults {
            let [write_quorum, before] = ["all", "majority"].map(str::to_owned);
            fault.kind = FaultKind::Reconfigure { write_quorum, before };
        }
        for record in &mut sample.faults {
            record.resolved = sample.plan.topology.masters.clone();
        }
        let input = sample.input();
        let faults = fault_figures(&input, 100 * MS);
        assert_eq!(faults[0].groups.len(), 1, "{:?}", faults[0].groups);
        assert_eq!(interruptions(&input, &faults)[0].longest.length(), 100 * MS);
    }

    #[test]
    fn readers_have_no_interrupted_writers() {
        let mut sample = Sample::new(1_000);
        for at in 0..1_000 {
            sample.read(0, at, 500);
        }
        sample.partition("cut", 200, 300);
        assert_eq!(of(&sample), []);
    }

    #[test]
    fn a_resolution_needs_two_writes() {
        assert_eq!(nearest_rank(Vec::new()), None);
        assert_eq!(nearest_rank(vec![7]), Some(7));
        assert_eq!(nearest_rank((1..=200).rev().collect()), Some(198));
    }
}

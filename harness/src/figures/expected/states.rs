//! The cluster over time: what each fault makes of it between its inject and its heal, as far as
//! that was proven, and for how long nothing certain can be said round these.
//! May not know what is expected of whom.

use quorate_check::history::Nanos;

use super::super::faults::heal_of;
use super::super::{Input, Window};
use super::arithmetic::{Known, State};
use super::stalls::Stall;
use crate::folder::{FaultAction, FaultRecord};
use crate::plan::{DiskFault, FaultKind, PlannedFault, Topology};

/// How long servers may take to notice a change of who is up and who hears whom, in nanoseconds:
/// twice what they wait for a sign of life by default.
pub const DETECTION: Nanos = 1_000_000_000;

/// A state and since when it holds.
#[derive(Debug)]
pub(super) struct Since {
    pub(super) from: Nanos,
    pub(super) state: State,
}

/// What a fault did, and when.
struct Deed<'a> {
    planned: &'a PlannedFault,
    hit: &'a [String],
    /// From the begin of the inject until nothing of it can be felt any more.
    felt: Window,
    /// In force beyond doubt; empty if that was not proven.
    certain: Window,
    /// Begins and ends: servers find out in the time behind each.
    changes: Vec<Window>,
}

/// Every state of the run in order; the first holds from the begin on. Nobody has to keep up while
/// the machine stands still.
pub(super) fn states(input: &Input<'_>, stalls: &[Stall]) -> Vec<Since> {
    let injects = input.faults.iter().filter(|record| record.action == FaultAction::Inject);
    let deeds: Vec<Deed<'_>> = injects.filter_map(|inject| deed(input, inject)).collect();
    let stalled = stalls.iter().map(|stall| Window {
        from: stall.window.from,
        to: stall.window.to.saturating_add(DETECTION),
    });
    let changes = deeds.iter().flat_map(|deed| deed.changes.iter().copied());
    let unsettled: Vec<Window> = changes.chain(stalled).collect();
    let windows = deeds.iter().flat_map(|deed| [deed.felt, deed.certain]).chain(unsettled.clone());
    let mut times: Vec<Nanos> = windows.flat_map(|window| [window.from, window.to]).collect();
    times.push(0);
    times.sort_unstable();
    times.dedup();
    let at = |from| {
        let unsettled = unsettled.iter().any(|window| window.contains(from));
        Since { from, state: State { unsettled, ..state(input, &deeds, from) } }
    };
    times.into_iter().map(at).collect()
}

/// What the spec calls it.
fn drawn_as(fault: &PlannedFault) -> &str {
    fault.drawn_as.as_ref().unwrap_or(&fault.name)
}

/// `None` for a record that the plan does not know.
fn deed<'a>(input: &Input<'a>, inject: &'a FaultRecord) -> Option<Deed<'a>> {
    let planned = input.plan.faults.iter().find(|fault| fault.name == inject.name)?;
    let heal = heal_of(input, inject);
    let healing = heal.map_or(Nanos::MAX, |heal| heal.begun);
    // Whoever was away may need as long again to catch up: from the first time on where this one
    // is drawn several times, for in between nobody had time to.
    let drawn = drawn_as(planned);
    let same = |record: &&FaultRecord| {
        let known = input.plan.faults.iter().find(|fault| fault.name == record.name);
        record.action == FaultAction::Inject && known.is_some_and(|known| drawn_as(known) == drawn)
    };
    let first = input.faults.iter().filter(same).map(|record| record.begun).min();
    let away = healing.saturating_sub(first.unwrap_or(inject.begun)).saturating_add(DETECTION);
    let healed = heal.map(|heal| heal.proven.unwrap_or(heal.acknowledged));
    let over = healed.map_or(Nanos::MAX, |at| at.saturating_add(away));
    let settled = |at: Nanos| at.saturating_add(DETECTION);
    let effect = inject.proven.unwrap_or(inject.acknowledged);
    let mut changes = vec![Window { from: inject.begun, to: settled(effect) }];
    changes.extend(healed.map(|at| Window { from: healing, to: settled(at) }));
    Some(Deed {
        planned,
        hit: &inject.resolved,
        felt: Window { from: inject.begun, to: over },
        certain: Window { from: inject.proven.unwrap_or(healing), to: healing },
        changes,
    })
}

fn state(input: &Input<'_>, deeds: &[Deed<'_>], at: Nanos) -> State {
    let topology = &input.plan.topology;
    let quorum = quorum_of(&topology.write_quorum, topology.masters.len());
    let (masters, replicas) = (topology.masters.len(), topology.replicas.len());
    let mut state = State::healthy(masters, replicas, quorum);
    for deed in deeds.iter().filter(|deed| deed.felt.contains(at)) {
        let known = if deed.certain.contains(at) { Known::Broken } else { Known::Unsure };
        apply(topology, deed, known, &mut state);
    }
    // When a quorum that was changed and changed back is in force again is not told here.
    let begun = deeds.iter().filter(|deed| deed.felt.from <= at);
    for deed in begun {
        if let FaultKind::Reconfigure { write_quorum, before } = &deed.planned.kind {
            let both = [write_quorum, before].map(|quorum| quorum_of(quorum, masters));
            state.quorums.extend(both);
        }
    }
    state
}

/// A write quorum in MASTERs.
fn quorum_of(quorum: &str, masters: usize) -> usize {
    match quorum {
        "majority" => masters / 2 + 1,
        "all" => masters,
        number => number.parse().unwrap_or(masters),
    }
}

fn apply(topology: &Topology, deed: &Deed<'_>, known: Known, state: &mut State) {
    let names = topology.servers();
    let hit = || (0..names.len()).filter(|server| deed.hit.contains(&names[*server]));
    match &deed.planned.kind {
        FaultKind::Kill { .. }
        | FaultKind::Restart { .. }
        | FaultKind::Pause { .. }
        | FaultKind::Disk { disk: DiskFault::PowerCut { .. }, .. } => {
            hit().for_each(|server| worsen(&mut state.servers[server], known));
        }
        FaultKind::Disk { disk: DiskFault::Slow { .. } | DiskFault::Full, .. } => {
            hit().for_each(|server| worsen(&mut state.servers[server], Known::Unsure));
        }
        FaultKind::Latency { .. } | FaultKind::Traffic { .. } => {
            for server in hit() {
                worsen(&mut state.servers[server], Known::Unsure);
                for other in 0..names.len() {
                    worsen(&mut state.ways[server][other], Known::Unsure);
                    worsen(&mut state.ways[other][server], Known::Unsure);
                }
            }
        }
        FaultKind::Partition { cut, shape, .. } => {
            let unheard = cut.felt(*shape).unheard(&names, deed.hit);
            let number = |name: &String| names.iter().position(|other| other == name);
            let mut lost = vec![vec![false; names.len()]; names.len()];
            for (from, to) in &unheard {
                let (Some(from), Some(to)) = (number(from), number(to)) else { continue };
                worsen(&mut state.ways[from][to], known);
                (lost[from][to], lost[to][from]) = (true, true);
            }
            if known == Known::Unsure {
                // Who was without a majority has to catch up before it serves.
                let masters = topology.masters.len();
                for (known, lost) in state.servers.iter_mut().zip(&lost) {
                    let left = lost.iter().take(masters).filter(|lost| !**lost).count();
                    if left <= masters / 2 {
                        worsen(known, Known::Unsure);
                    }
                }
            }
        }
        // Nobody is hit; the quorum is told apart.
        FaultKind::Reconfigure { .. } => {}
    }
}

/// What two faults do to the same is not certain: the heal of one may undo the other.
fn worsen(known: &mut Known, by: Known) {
    *known = if *known == Known::Works { by } else { Known::Unsure };
}

#[cfg(test)]
mod tests {
    use super::super::super::sample::{MS, Sample};
    use super::*;
    use crate::plan::{Cut, Shape};

    fn at(states: &[Since], ms: u64) -> &State {
        let index = states.partition_point(|since| since.from <= ms * MS);
        &states[index - 1].state
    }

    #[test]
    fn a_cut_is_certain_between_proof_and_heal_and_felt_as_long_again() {
        let mut sample = Sample::new(20_000);
        sample.partition("cut", 2000, 5000);
        for record in &mut sample.faults {
            record.proven = Some(record.begun + 100 * MS);
        }
        let states = states(&sample.input(), &[]);
        let ways = |ms| at(&states, ms).ways[2][0];
        assert_eq!(ways(1999), Known::Works);
        assert_eq!((ways(2050), ways(2100)), (Known::Unsure, Known::Broken));
        assert_eq!((ways(4999), ways(5000)), (Known::Broken, Known::Unsure));
        // Three seconds away and one to notice, from the proof of the heal on.
        assert_eq!((ways(9099), ways(9100)), (Known::Unsure, Known::Works));
        let unsettled = |ms| at(&states, ms).unsettled;
        assert_eq!(
            [2050, 3099, 3100, 5000, 6099, 6100].map(unsettled),
            [true, true, false, true, true, false]
        );
        // Who is cut off lives on, and comes back without a promise; the others go on.
        let servers = |ms| at(&states, ms).servers.clone();
        assert_eq!(servers(4000), [Known::Works; 3]);
        assert_eq!(servers(7000), [Known::Works, Known::Works, Known::Unsure]);
    }

    #[test]
    fn a_cut_that_flaps_is_felt_as_long_as_all_of_it_took() {
        let mut sample = Sample::new(20_000);
        sample.partition("one", 2000, 3000);
        sample.partition("two", 4000, 5000);
        let last = |sample: &Sample| {
            let states = states(&sample.input(), &[]);
            [6999, 8999, 9000].map(|ms| at(&states, ms).ways[2][0])
        };
        assert_eq!(last(&sample), [Known::Unsure, Known::Works, Known::Works]);
        for fault in &mut sample.plan.faults {
            fault.drawn_as = Some("flapping".to_owned());
        }
        assert_eq!(last(&sample), [Known::Unsure, Known::Unsure, Known::Works]);
    }

    #[test]
    fn while_a_disk_stands_still_and_just_after_nothing_is_settled() {
        let window = Window { from: 2000 * MS, to: 4000 * MS };
        let stall = Stall { node: "n1".to_owned(), window };
        let states = states(&Sample::new(9_000).input(), &[stall]);
        let unsettled = |ms| at(&states, ms).unsettled;
        assert_eq!([1999, 2000, 4999, 5000].map(unsettled), [false, true, true, false]);
    }

    #[test]
    fn nothing_passes_either_way_where_one_end_is_gone() {
        let mut sample = Sample::new(20_000);
        sample.partition("cut", 2000, 5000);
        for record in &mut sample.faults {
            record.proven = Some(record.begun);
        }
        let ways = |sample: &Sample| {
            let states = states(&sample.input(), &[]);
            let ways = &at(&states, 4000).ways;
            (ways[2][0], ways[0][2])
        };
        for (cut, back) in [(Cut::Silent, Known::Works), (Cut::HalfOpen, Known::Broken)] {
            let target = crate::plan::Target::One;
            let kind = FaultKind::Partition { cut, target, shape: Shape::OneWayOut };
            sample.plan.faults[0].kind = kind;
            assert_eq!(ways(&sample), (Known::Broken, back), "{cut:?}");
        }
    }

    #[test]
    fn what_was_not_proven_is_never_certain() {
        let mut sample = Sample::new(20_000);
        sample.partition("cut", 2000, 5000);
        sample.faults[0].proven = None;
        let states = states(&sample.input(), &[]);
        assert_eq!(at(&states, 3000).ways[2][0], Known::Unsure);
    }

    #[test]
    fn a_server_that_two_faults_hit_is_in_no_certain_state() {
        let mut sample = Sample::new(20_000);
        for (name, from, to) in [("one", 2000, 5000), ("two", 3000, 6000)] {
            sample.partition(name, from, to);
        }
        let target = crate::plan::Target::One;
        for fault in &mut sample.plan.faults {
            fault.kind = FaultKind::Kill { target: target.clone() };
        }
        let states = states(&sample.input(), &[]);
        let third = |ms| at(&states, ms).servers[2];
        assert_eq!([2500, 4000, 5500].map(third), [Known::Broken, Known::Unsure, Known::Unsure]);
    }

    #[test]
    fn after_a_change_of_the_quorum_either_may_be_in_force() {
        let mut sample = Sample::new(20_000);
        sample.partition("more", 2000, 5000);
        let [write_quorum, before] = ["all", "majority"].map(str::to_owned);
        sample.plan.faults[0].kind = FaultKind::Reconfigure { write_quorum, before };
        let states = states(&sample.input(), &[]);
        assert_eq!(at(&states, 1000).quorums, [2]);
        assert_eq!(at(&states, 15_000).quorums, [2, 3, 2]);
        assert_eq!(at(&states, 3500).ways[2][0], Known::Works);
    }
}

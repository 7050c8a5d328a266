//! What a fault waits for before its time begins to count, and when it begins at the earliest.
//! Pure; the waiting is `crate::fault`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::PlannedFault;

/// What a fault waits for: its `at_ms` counts from then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// What must have happened.
    #[serde(flatten)]
    pub event: Event,
    /// True if the run is as sound without it: it is left out, with a note, when it would end
    /// behind the measure phase.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_lapse: bool,
}

/// What a fault can wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The heals of other faults were proven.
    Healed {
        /// Their names: one, or all repeats of one.
        faults: Vec<String>,
    },
    /// A server said that it is in this state, at the first look that showed it so.
    State {
        /// Its name.
        server: String,
        /// The state.
        state: ServerState,
    },
    /// So many transactions were committed since the measure phase began.
    Committed {
        /// How many, as their coordinators count.
        count: u64,
    },
}

/// A state as servers call their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServerState {
    /// It runs and has not met the others yet.
    Starting,
    /// It serves.
    Online,
    /// It gets what it lacks and serves nobody.
    Synchronizing,
    /// It was told to stop.
    ShuttingDown,
}

impl ServerState {
    /// As it is said.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Online => "ONLINE",
            Self::Synchronizing => "SYNCHRONIZING",
            Self::ShuttingDown => "SHUTTINGDOWN",
        }
    }
}

impl Event {
    /// The faults that it is about.
    #[must_use]
    pub fn faults(&self) -> &[String] {
        match self {
            Self::Healed { faults } => faults,
            Self::State { .. } | Self::Committed { .. } => &[],
        }
    }

    /// True if two that wait for it count from the same moment: what is looked for again and again
    /// is seen by each on its own.
    fn is_one_moment(&self) -> bool {
        match self {
            Self::Healed { .. } => true,
            Self::State { .. } | Self::Committed { .. } => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healed { faults } => match &faults[..] {
                [first, .., last] => write!(f, "after {first} … {last} are healed"),
                few => write!(f, "after {} is healed", few.concat()),
            },
            Self::State { server, state } => write!(f, "after {server} is {}", state.word()),
            Self::Committed { count } => {
                write!(f, "after {count} transactions are committed")
            }
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Which of some faults come after which, and when each begins at the earliest.
#[derive(Debug, Clone, Default)]
pub struct Order<'a> {
    places: BTreeMap<&'a str, Place<'a>>,
}

#[derive(Debug, Clone, Default)]
struct Place<'a> {
    earliest_ms: u64,
    /// Everything that has been healed when it begins.
    behind: BTreeSet<&'a str>,
}

impl<'a> Order<'a> {
    /// The order of these faults, however they are listed.
    #[must_use]
    pub fn of(faults: impl IntoIterator<Item = &'a PlannedFault>) -> Self {
        let named: BTreeMap<&str, &PlannedFault> =
            faults.into_iter().map(|fault| (fault.name.as_str(), fault)).collect();
        let mut order = Self::default();
        for fault in named.values() {
            order.visit(fault, &named);
        }
        order
    }

    fn visit(&mut self, fault: &'a PlannedFault, named: &BTreeMap<&'a str, &'a PlannedFault>) {
        if self.places.contains_key(fault.name.as_str()) {
            return;
        }
        // Marked before it is known: a plan written by hand may go in a circle.
        self.places.insert(&fault.name, Place::default());
        let awaited = fault.trigger.iter().flat_map(|trigger| trigger.event.faults());
        let mut place = Place::default();
        for other in awaited.filter_map(|name| named.get(name.as_str())) {
            self.visit(other, named);
            let ended = self.earliest_ms(other).saturating_add(other.for_ms);
            place.earliest_ms = place.earliest_ms.max(ended);
            place.behind.insert(&other.name);
            place
                .behind
                .extend(self.places.get(other.name.as_str()).iter().flat_map(|p| &p.behind));
        }
        place.earliest_ms = place.earliest_ms.saturating_add(fault.at_ms);
        self.places.insert(&fault.name, place);
    }

    /// Milliseconds after the start of the measure phase at which a fault begins at the earliest.
    #[must_use]
    pub fn earliest_ms(&self, fault: &PlannedFault) -> u64 {
        self.places.get(fault.name.as_str()).map_or(fault.at_ms, |place| place.earliest_ms)
    }

    /// Whether two faults may be in force at once, or with less than `rest_ms` between them.
    /// One that waits begins at an unknown time: it is clear only of those it waits for, of those
    /// that wait for the same, and of those that are over before it can begin.
    #[must_use]
    pub fn can_meet(&self, a: &PlannedFault, b: &PlannedFault, rest_ms: u64) -> bool {
        if self.is_behind(a, b) || self.is_behind(b, a) {
            return false;
        }
        let over_by = |first: &PlannedFault, begins: u64| {
            begins >= first.at_ms.saturating_add(first.for_ms).saturating_add(rest_ms)
        };
        let same_moment = match (&a.trigger, &b.trigger) {
            (None, None) => true,
            (Some(a), Some(b)) => a.event == b.event && a.event.is_one_moment(),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if same_moment {
            return !over_by(a, b.at_ms) && !over_by(b, a.at_ms);
        }
        let ends_before = |first: &PlannedFault, second| {
            first.trigger.is_none() && over_by(first, self.earliest_ms(second))
        };
        !ends_before(a, b) && !ends_before(b, a)
    }

    fn is_behind(&self, later: &PlannedFault, earlier: &PlannedFault) -> bool {
        let place = self.places.get(later.name.as_str());
        place.is_some_and(|place| place.behind.contains(earlier.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{FaultKind, Target};

    fn fault(name: &str, after: &[&str], at_ms: u64) -> PlannedFault {
        let faults: Vec<String> = after.iter().map(ToString::to_string).collect();
        let event = (!faults.is_empty()).then_some(Event::Healed { faults });
        PlannedFault {
            name: name.to_owned(),
            at_ms,
            for_ms: 5,
            kind: FaultKind::Kill { target: Target::One },
            drawn_as: None,
            trigger: event.map(|event| Trigger { event, may_lapse: false }),
        }
    }

    #[test]
    fn faults_in_a_chain_never_meet_and_begin_when_all_before_them_ended() {
        let all = [
            fault("a-1", &[], 10),
            fault("a-2", &[], 17),
            fault("b", &["a-1", "a-2"], 2),
            fault("c", &["b"], 1),
        ];
        let order = Order::of(&all);
        assert_eq!(all.each_ref().map(|fault| order.earliest_ms(fault)), [10, 17, 24, 30]);
        for (a, b) in [(0, 2), (1, 2), (2, 3), (0, 3), (3, 1)] {
            assert!(!order.can_meet(&all[a], &all[b], 1), "{a} {b}");
        }
        let told = |fault: &PlannedFault| fault.trigger.as_ref().unwrap().event.to_string();
        assert_eq!(told(&all[2]), "after a-1 … a-2 are healed");
        assert_eq!(told(&all[3]), "after b is healed");
    }

    #[test]
    fn what_waits_may_meet_whatever_is_not_over_before_it_can_begin() {
        let all = [
            fault("a", &[], 10),
            fault("b", &["a"], 2),
            fault("late", &[], 60),
            fault("early", &[], 0),
            fault("same", &["a"], 7),
        ];
        let order = Order::of(&all);
        assert!(order.can_meet(&all[1], &all[2], 0), "the heal of `a` may be late");
        assert!(!order.can_meet(&all[1], &all[3], 0));
        assert!(!order.can_meet(&all[1], &all[4], 0), "both count from the same moment");
        assert!(order.can_meet(&all[1], &all[4], 1));
    }

    #[test]
    fn timed_faults_meet_when_one_begins_before_the_other_ends() {
        let all = [fault("a", &[], 10), fault("b", &[], 14), fault("c", &[], 15)];
        let order = Order::of(&all);
        assert!(order.can_meet(&all[0], &all[1], 0) && order.can_meet(&all[1], &all[0], 0));
        assert!(!order.can_meet(&all[0], &all[2], 0));
        assert!(order.can_meet(&all[0], &all[2], 1) && order.can_meet(&all[2], &all[0], 1));
    }

    #[test]
    fn what_is_looked_for_may_meet_everything_behind_the_first_time_it_can_begin() {
        let count = |count| Some(Event::Committed { count });
        let when = |name, at_ms, event: Option<Event>| PlannedFault {
            trigger: event.map(|event| Trigger { event, may_lapse: false }),
            ..fault(name, &[], at_ms)
        };
        let all = [
            fault("early", &[], 0),
            when("a", 5, count(9)),
            when("b", 50, count(9)),
            fault("c", &["a"], 0),
        ];
        let order = Order::of(&all);
        assert!(!order.can_meet(&all[0], &all[1], 0), "it begins after 5 ms at the earliest");
        assert!(order.can_meet(&all[0], &all[1], 1));
        assert!(order.can_meet(&all[1], &all[2], 0), "each sees it on its own");
        assert!(!order.can_meet(&all[1], &all[3], 0));
        assert_eq!(order.earliest_ms(&all[3]), 10);
        let state = Event::State { server: "n1".to_owned(), state: ServerState::Synchronizing };
        assert_eq!(state.to_string(), "after n1 is SYNCHRONIZING");
        assert_eq!(serde_json::to_value(ServerState::ShuttingDown).unwrap(), "SHUTTINGDOWN");
        assert_eq!(ServerState::ShuttingDown.word(), "SHUTTINGDOWN");
    }

    #[test]
    fn a_circle_in_a_plan_made_by_hand_ends() {
        let all = [fault("a", &["b"], 1), fault("b", &["a"], 1)];
        assert!(Order::of(&all).earliest_ms(&all[0]) >= 6);
    }
}

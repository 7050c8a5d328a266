//! Collecting tombstones past a server that lags (PROTOCOL.md 3.9 Forgetting, 3.6.5): the mark
//! *Realign*, purging, realigning, and majority reads of a record whose delete has committed.
//! Three MASTERs; the last one has missed the delete.

use stateright::{Model, Property};

const SERVERS: usize = 3;
const LAGS: usize = 2;
const MAJORITY: usize = 2;

/// Which rule is followed. All but the first are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// PROTOCOL.md 3.9.
    Sound,
    /// A tombstone goes although its server has not heard of the mark.
    PurgeUnmarked,
    /// Messages carry no cfg: nobody learns of the mark from them.
    NoCfg,
    /// What a server answered before it was marked counts again once the mark is gone.
    OldAnswers,
    /// Realigning takes what differs and keeps what the others do not have at all.
    KeepExtra,
}

/// One server's copy of the record, oldest stamp first as a read compares it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Seen {
    /// No item: the tombstone was purged.
    Gone,
    /// What the delete deleted.
    #[default]
    Live,
    Tombstone,
}

/// The control plane's entries: 1 marks the lagging server, 2 takes the mark away.
const MARKED: u8 = 1;
const REALIGNED: u8 = 2;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    copies: [Seen; SERVERS],
    /// The lagging server has compared itself with a majority since it was marked.
    aligned: bool,
    entries: u8,
    cfg: [u8; SERVERS],
    /// The read under way: who asks, and what was answered,
    reader: usize,
    /// with the cfg of then.
    answers: [Option<(Seen, u8)>; SERVERS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The control plane logs its next entry.
    Logs,
    Learns(usize),
    Purges(usize),
    /// The lagging server compares itself with both others.
    Aligns,
    /// The reader gets this server's answer.
    Answers(usize),
}

#[derive(Debug)]
pub(crate) struct Realign(pub(crate) Rule);

impl Realign {
    /// The highest stamp of a majority of answers that the reader counts.
    fn results(&self, state: &State) -> impl Iterator<Item = Seen> {
        let cfg = state.cfg[state.reader];
        let counts = |server: usize, answered: u8| {
            let old = match self.0 {
                Rule::OldAnswers => cfg == MARKED,
                _ => cfg >= MARKED && answered < REALIGNED,
            };
            !(server == LAGS && old)
        };
        let answers = state.answers.iter().enumerate();
        let counted: Vec<Seen> = answers
            .filter_map(|(server, answer)| answer.filter(|(_, cfg)| counts(server, *cfg)))
            .map(|(seen, _)| seen)
            .collect();
        (0..1_usize << counted.len())
            .filter(|set| set.count_ones() as usize >= MAJORITY)
            .filter_map(move |set| {
                let some = counted.iter().enumerate().filter(|(i, _)| set & (1 << i) != 0);
                some.map(|(_, copy)| *copy).max()
            })
    }
}

impl Model for Realign {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let states = (0..SERVERS).map(|reader| State {
            copies: [Seen::Tombstone, Seen::Tombstone, Seen::Live],
            aligned: false,
            entries: 0,
            cfg: [0; SERVERS],
            reader,
            answers: [None; SERVERS],
        });
        states.collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Logs, Action::Aligns]);
        for server in 0..SERVERS {
            actions.extend([
                Action::Learns(server),
                Action::Purges(server),
                Action::Answers(server),
            ]);
        }
        actions.retain(|action| self.next_state(state, *action).is_some());
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Logs => match state.entries {
                0 => next.entries = MARKED,
                MARKED if state.aligned => next.entries = REALIGNED,
                _ => return None,
            },
            Action::Learns(server) => {
                if state.cfg[server] >= state.entries {
                    return None;
                }
                next.cfg[server] += 1;
            }
            Action::Purges(server) => {
                let may = state.cfg[server] >= MARKED || self.0 == Rule::PurgeUnmarked;
                if !may || state.copies[server] != Seen::Tombstone {
                    return None;
                }
                next.copies[server] = Seen::Gone;
            }
            Action::Aligns => {
                if state.cfg[LAGS] != MARKED || state.aligned {
                    return None;
                }
                next.aligned = true;
                let others = state.copies[..LAGS].iter().copied().max().unwrap_or_default();
                let extra = others == Seen::Gone && self.0 == Rule::KeepExtra;
                if !extra {
                    next.copies[LAGS] = others;
                }
            }
            Action::Answers(server) => {
                if state.answers[server].is_some() {
                    return None;
                }
                // Question and answer carry their sender's cfg; who is behind catches up first.
                if self.0 != Rule::NoCfg {
                    let newest = state.cfg[server].max(state.cfg[state.reader]);
                    next.cfg[server] = newest;
                    next.cfg[state.reader] = newest;
                }
                next.answers[server] = Some((state.copies[server], next.cfg[server]));
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("what was deleted stays deleted", |m: &Self, s| {
            m.results(s).all(|copy| copy != Seen::Live)
        })]
    }
}

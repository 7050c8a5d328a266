//! Acceptors of `changes.rs` against the machine's: as long as no generation changes under them,
//! they vote, accept, promise and learn alike in every state that both can reach.

use std::collections::BTreeSet;

use quorate_protocol::message::{Decided, Vote};
use stateright::Model;

use super::SHIFT;
use super::acceptor::{Acceptor, Answer, Input};
use super::case::Case;
use super::changes::take;
use super::generations::{Changes, Moved, Server, State};

/// What the model's server answers, in the table's words; `None`: nothing to this message, or
/// nothing new.
struct Modelled<'a> {
    changes: &'a Changes,
    state: State,
}

impl Modelled<'_> {
    fn handle(&mut self, input: Input) -> Option<(Server, Said)> {
        let before = self.state.servers[0];
        let (after, said) = match input {
            Input::PrepareUntilTired { tx } | Input::PrepareTooLate { tx } => {
                if matches!(input, Input::PrepareTooLate { .. }) {
                    self.state.servers[0].view = 1;
                }
                let mut after = self.changes.vote(&self.state, 0, tx)?;
                after.view = before.view;
                (after, Said::Vote(after.txs[tx].voted?))
            }
            Input::Accept { tx, round, value, .. } => {
                self.state.proposed[tx][round - 1] = Some(value);
                (self.changes.accept(&self.state, 0, tx, round)?, Said::Accepted)
            }
            Input::Recover { tx, round, .. } => {
                let after = self.changes.promise(&self.state, 0, tx, round)?;
                let promise = after.txs[tx].promises[round - 2]?;
                let accepted = promise.accepted.map(|(round, value)| (u32::from(round), value));
                (after, Said::Promise(format!("{:?} {accepted:?}", promise.vote)))
            }
            Input::Outcome { tx, outcome } => {
                let mut after = before;
                if after.txs[tx].outcome.is_some() {
                    return None;
                }
                take(&mut after.txs[tx], Moved::Outcome(outcome));
                (after, Said::Nothing)
            }
            other => panic!("{other:?} is not modelled"),
        };
        Some((after, said))
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Vote(bool),
    Accepted,
    Promise(String),
}

fn said(table: &Acceptor, answer: Answer) -> Said {
    match answer {
        Answer::Nothing => Said::Nothing,
        Answer::Yes => Said::Vote(true),
        Answer::No => Said::Vote(false),
        Answer::Accepted => Said::Accepted,
        Answer::Promise(number) => {
            let promise = &table.promises[usize::from(number)];
            let vote = promise.vote.as_ref().map(|vote| *vote == Vote::Yes);
            let accepted = promise.accepted.map(|(ballot, value)| (ballot.round, value));
            Said::Promise(format!("{vote:?} {accepted:?}"))
        }
    }
}

/// Outcomes that contradict what is known come from nobody.
fn is_possible(server: &Server, input: Input) -> bool {
    let Input::Outcome { tx, outcome } = input else { return true };
    let rival = server.txs[1 - tx].outcome;
    server.txs[tx].outcome.is_none_or(|known| known == outcome)
        && !(outcome == Decided::Commit && rival == Some(Decided::Commit))
}

#[test]
fn acceptors_of_one_generation_are_the_machine() {
    let case = Case::pair(3, 2, [2, 2]).spurious();
    let table = Acceptor::explore(&case, 0);
    let changes = Changes::new(&SHIFT, [2, 2]).prepared_in(&[0], &[0]);
    let start = changes.init_states().remove(0);
    let mut seen = BTreeSet::from([(0, start.servers[0])]);
    let mut open = vec![(0, start.servers[0])];
    while let Some((number, server)) = open.pop() {
        for (index, input) in table.inputs.iter().enumerate() {
            // The model's Prepares do not wait.
            if matches!(input, Input::Prepare { .. }) || !is_possible(&server, *input) {
                continue;
            }
            let Some(step) = table.steps[number][index] else { continue };
            let mut state = start.clone();
            state.servers[0] = server;
            let mut modelled = Modelled { changes: &changes, state };
            let to = usize::from(step.to);
            let at = || format!("{server:?}: {input:?} in {:?}", table.states[number]);
            let Some((mut after, expected)) = modelled.handle(*input) else {
                let old = said(&table, step.answer);
                let again = matches!(old, Said::Nothing | Said::Vote(_));
                assert!(to == number && again, "{old:?}, {}", at());
                continue;
            };
            assert_eq!(said(&table, step.answer), expected, "{}", at());
            // What was said is compared above, and has no influence on a server.
            for held in &mut after.txs {
                (held.voted, held.has_accepted) = (None, 0);
                held.promises = Default::default();
            }
            if seen.insert((to, after)) {
                open.push((to, after));
            }
        }
    }
    let reached: BTreeSet<usize> = seen.iter().map(|(number, _)| *number).collect();
    assert_eq!(reached.len(), seen.len(), "the model tells states apart that the machine does not");
}

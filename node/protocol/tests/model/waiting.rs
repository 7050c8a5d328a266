//! What a running machine only holds (a Prepare that waits for a lock or for its base, a commit
//! that waits for its base) makes no difference: two messages in one life come to what they come
//! to with a restart before each of them, where the one that waited is delivered once more. This
//! is what allows `acceptor.rs` to be a table.

use super::acceptor::{Acceptor, Answer, Input};
use super::case::{Builds, Case, SERVERS};

/// Every state, every two messages.
fn holds(name: &str, case: &Case) {
    let table = Acceptor::explore(case, 0);
    let mut promises = table.promises.clone();
    let timeless = |input: &Input| {
        !matches!(input, Input::PrepareUntilTired { .. } | Input::PrepareTooLate { .. })
    };
    let inputs = || table.inputs.iter().enumerate().filter(|(_, input)| timeless(input));
    let (mut compared, mut woken, mut asleep) = (0, 0, 0);
    let to = |number: usize| u16::try_from(number).expect("a table numbers its states so");
    for (number, disk) in table.states.iter().enumerate() {
        for (i, first) in inputs() {
            let Some(one) = table.steps[number][i] else { continue };
            for (j, second) in inputs() {
                let Some(two) = table.steps[usize::from(one.to)][j] else { continue };
                let Some(again) = table.steps[usize::from(two.to)][i] else { continue };
                // Contradictory outcomes come from nobody.
                if table.facts[usize::from(again.to)].corrupt {
                    continue;
                }
                let waited = one.answer == Answer::Nothing && usize::from(one.to) == number;
                let (after, said) = disk.live(case, 0, &[*first, *second], &mut promises);
                let is = |to: u16, answers: &[Answer]| {
                    let said = said.iter().filter(|answer| **answer != Answer::Nothing);
                    let answers = answers.iter().filter(|answer| **answer != Answer::Nothing);
                    after == table.states[usize::from(to)] && said.eq(answers)
                };
                // Whoever knows the outcome, if only in memory, tells it instead of an answer: as
                // if the question had been lost.
                let parked = waited && matches!(first, Input::Outcome { .. });
                if parked && first.tx() == second.tx() && is(to(number), &[]) {
                    continue;
                }
                let went_on = is(again.to, &[one.answer, two.answer, again.answer]);
                let waits = waited && is(two.to, &[two.answer]);
                let done = !waited && is(again.to, &[one.answer, two.answer]);
                assert!(
                    done || waits || (waited && went_on),
                    "{name}: {first:?} and {second:?} in {disk:?} came to {after:?}, {said:?}",
                );
                compared += 1;
                woken += usize::from(waited && went_on && again.to != two.to);
                asleep += usize::from(waits && again.to != two.to);
            }
        }
    }
    assert!(woken > 0, "{name}: nothing ever waited");
    let states = table.states.len();
    eprintln!(
        "{name}: {compared} pairs in {states} states; {woken} woke, {asleep} went on waiting"
    );
}

#[test]
fn waiting_is_not_being_delivered() {
    let pair = Case::pair(3, 2, [1, 1]);
    holds("two on one record", &pair);
    holds("with low-water marks", &pair.clone().coordinated_by(SERVERS).forgetting());
    holds("two on two records", &Case::two_records(2, &[0, 0]));
    let mut chain = Case::pair(3, 2, [0, 0]);
    chain.txs.push(chain.txs[1].clone());
    chain.txs[1].builds = Builds::On(0);
    chain.txs[2].builds = Builds::On(1);
    chain.txs[2].coordinator += 1;
    holds("each on the one before", &chain);
}

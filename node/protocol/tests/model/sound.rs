//! The rules of PROTOCOL.md part 1, explored to the end of each space. Names are those of its part 3
//! where the space is the same.

use super::case::{Builds, Case, SERVERS};
use super::explore::{full, holds};
use super::generations::Changes;
use super::realign::{Realign, Rule as Marks};
use super::rounds::Rounds;
use super::{GROW, GROW_SHRINK, MOVE, SHIFT};

#[test]
fn one_transaction_against_spurious_noes() {
    holds("R4 N=3 W=2, 2 recoverers", Rounds::new(Case::single(3, 2, 2).spurious()));
    holds("N=4 W=3, 1 recoverer", Rounds::new(Case::single(4, 3, 1).spurious()));
    holds("N=4 W=4, 1 recoverer", Rounds::new(Case::single(4, 4, 1).spurious()));
    if full() {
        holds("R4b N=3 W=3, 2 recoverers", Rounds::new(Case::single(3, 3, 2).spurious()));
        holds("N=5 W=3, 1 recoverer", Rounds::new(Case::single(5, 3, 1).spurious()));
    }
}

#[test]
fn two_transactions_on_one_record() {
    let pair = |n, w, recoverers| Rounds::new(Case::pair(n, w, recoverers));
    let spurious = |n, w, recoverers| Rounds::new(Case::pair(n, w, recoverers).spurious());
    holds("R3' N=2 W=2, 1 recoverer each, spurious", spurious(2, 2, [1, 1]));
    holds("N=3 W=2, coordinators only, spurious", spurious(3, 2, [0, 0]));
    holds("N=3 W=3, coordinators only, spurious", spurious(3, 3, [0, 0]));
    if full() {
        holds("R7b N=4 W=3, coordinators only, spurious", spurious(4, 3, [0, 0]));
        holds("R1b N=3 W=2, 1 recoverer on one, spurious", spurious(3, 2, [1, 0]));
        holds("R2b N=3 W=3, 1 recoverer on one, spurious", spurious(3, 3, [1, 0]));
        holds("R3 N=2 W=2, 2 recoverers each, spurious", spurious(2, 2, [2, 2]));
        holds("R7c N=4 W=3, 1 recoverer on one", pair(4, 3, [1, 0]));
        holds("R2 N=3 W=3, 1 recoverer each", pair(3, 3, [1, 1]));
        holds("R1 N=3 W=2, 1 recoverer each", pair(3, 2, [1, 1]));
    }
}

/// A dead server never says anything; whoever has a recoverer is decided all the same.
#[test]
fn a_majority_is_enough_to_decide() {
    holds("N=3 W=2, one dead", Rounds::new(Case::pair(3, 2, [1, 1]).dead(1)));
    holds("N=3 W=3, one dead", Rounds::new(Case::pair(3, 3, [1, 1]).dead(1)));
}

#[test]
fn two_clusters() {
    let two = |first, second, recoverers: &[usize]| {
        Case::two_clusters(first, second, recoverers).spurious()
    };
    holds("clusters N=2 and N=1, 1 tx, 1 recoverer", Rounds::new(two(2, 1, &[1])));
    if full() {
        holds("clusters N=1 and N=1, 2 tx, 1 recoverer", Rounds::new(two(1, 1, &[1, 1])));
        holds("R6 clusters N=3 and N=2, 1 tx, 1 recoverer", Rounds::new(two(3, 2, &[1])));
        let calm = Case::two_clusters(2, 1, &[1, 0]);
        holds("R9' clusters N=2 and N=1, 2 tx, 1 recoverer on one", Rounds::new(calm));
    }
}

/// Low-water marks: whatever was forgotten is answered as finished, and no late message, vote or
/// promise makes anything of it.
#[test]
fn forgetting() {
    let single = |n, w| Rounds::new(Case::single(n, w, 1).spurious().forgetting());
    holds("low N=3 W=2, 1 tx, 1 recoverer, spurious", single(3, 2));
    let pair = |recoverers| Case::pair(2, 2, recoverers).forgetting();
    holds("low N=2 W=2, different coordinators", Rounds::new(pair([1, 0])));
    let equal = |recoverers| Rounds::new(pair(recoverers).coordinated_by(SERVERS));
    holds("low N=2 W=2, one coordinator", equal([1, 0]));
    if full() {
        holds("low N=2 W=2, one coordinator, 1 recoverer each", equal([1, 1]));
        let three = Case::pair(3, 2, [0, 0]).coordinated_by(SERVERS).forgetting();
        holds("low N=3 W=2, one coordinator, no recoverer", Rounds::new(three));
        holds("low N=3 W=3, 1 tx, 1 recoverer, spurious", single(3, 3));
    }
}

#[test]
fn tombstones_past_a_lagging_server() {
    holds("realign N=3", Realign(Marks::Sound));
}

/// Two rivals build on what a third transaction writes, at acceptors that have it, hold a vote for
/// it, or have never heard of it.
#[test]
fn lagging_acceptors() {
    let chain = |n, w, recoverers: [usize; 3]| {
        let mut case = Case::pair(n, w, [recoverers[0], recoverers[1]]);
        let mut third = case.txs[1].clone();
        third.coordinator += 1;
        case.txs.push(third);
        for (number, tx) in case.txs.iter_mut().enumerate() {
            tx.recoverers = recoverers[number];
            tx.builds = if number == 0 { Builds::OnNothing } else { Builds::On(0) };
        }
        Rounds::new(case)
    };
    holds("chain N=2 W=2, coordinators only", chain(2, 2, [0, 0, 0]));
    if full() {
        holds("chain N=3 W=2, coordinators only", chain(3, 2, [0, 0, 0]));
        holds("chain N=2 W=2, 1 recoverer on the first", chain(2, 2, [1, 0, 0]));
        holds("chain N=2 W=2, 1 recoverer on a rival", chain(2, 2, [0, 1, 0]));
    }
}

/// A base that never was: nobody votes for it.
#[test]
fn invented_bases() {
    let mut case = Case::pair(3, 2, [0, 0]);
    case.txs[1].builds = Builds::OnGhost;
    holds("ghost N=3 W=2", Rounds::new(case));
}

#[test]
fn changes_of_generation() {
    let change = |generations: &[_], recoverers| Changes::new(generations, recoverers);
    holds("move {ABC}→{D}", change(&MOVE, [0, 0]).prepared_in(&[0], &[1]));
    holds("move {ABC}→{D}, carry", change(&MOVE, [0, 0]).elsewhere().prepared_in(&[0], &[1]));
    if full() {
        holds("move {ABC}→{D}, any generation", change(&MOVE, [0, 0]));
        holds("shift {ABC}→{BCD}", change(&SHIFT, [0, 0]).prepared_in(&[0], &[0, 1]));
        let carry = change(&SHIFT, [1, 0]).elsewhere().prepared_in(&[0], &[1]);
        holds("shift {ABC}→{BCD}, carry, 1 recoverer", carry);
        holds("grow {ABC}→{ABCD}", change(&GROW, [0, 0]).prepared_in(&[0], &[1]));
        holds("E2 {ABC}→{ABCD}→{BCD}", change(&GROW_SHRINK, [0, 0]).prepared_in(&[0], &[2]));
    }
}

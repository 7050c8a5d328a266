//! The rules of PROTOCOL.md part 1, explored to the end of small spaces. Names are those of its
//! part 3 where the space is the same. Larger spaces are in `large.rs`.

use super::case::{Builds, Case, SERVERS};
use super::explore::holds;
use super::generations::Changes;
use super::realign::{Realign, Rule as Marks};
use super::rounds::Rounds;
use super::{MOVE, SWAP};

#[test]
fn one_transaction_against_spurious_noes() {
    holds("R4 N=3 W=2, 2 recoverers", Rounds::new(Case::single(3, 2, 2).spurious()));
    holds("R4b N=3 W=3, 2 recoverers", Rounds::new(Case::single(3, 3, 2).spurious()));
    holds("N=4 W=3, 1 recoverer", Rounds::new(Case::single(4, 3, 1).spurious()));
    holds("N=4 W=4, 1 recoverer", Rounds::new(Case::single(4, 4, 1).spurious()));
}

#[test]
fn two_transactions_on_one_record() {
    let spurious = |n, w, recoverers| Rounds::new(Case::pair(n, w, recoverers).spurious());
    holds("R3' N=2 W=2, 1 recoverer each, spurious", spurious(2, 2, [1, 1]));
    holds("N=3 W=2, 1 recoverer on one", Rounds::new(Case::pair(3, 2, [1, 0])));
    holds("N=3 W=2, coordinators only, spurious", spurious(3, 2, [0, 0]));
    holds("N=3 W=3, coordinators only, spurious", spurious(3, 3, [0, 0]));
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
}

/// Two records in two clusters on the same servers: all of a transaction is seen, or nothing.
#[test]
fn two_records() {
    let two = |n, recoverers: &[usize]| Rounds::new(Case::two_records(n, recoverers));
    holds("records on N=2, 1 tx, 1 recoverer", two(2, &[1]));
}

/// Low-water marks: whatever was forgotten is answered as finished, and no late message, vote or
/// promise makes anything of it.
#[test]
fn forgetting() {
    let single = |n, w| Rounds::new(Case::single(n, w, 1).spurious().forgetting());
    holds("low N=3 W=2, 1 tx, 1 recoverer, spurious", single(3, 2));
    holds("low N=3 W=3, 1 tx, 1 recoverer, spurious", single(3, 3));
    let pair = |recoverers| Case::pair(2, 2, recoverers).forgetting();
    holds("low N=2 W=2, different coordinators", Rounds::new(pair([1, 0])));
    let equal = |recoverers| Rounds::new(pair(recoverers).coordinated_by(SERVERS));
    holds("low N=2 W=2, one coordinator", equal([1, 0]));
    holds("low N=2 W=2, one coordinator, 1 recoverer each", equal([1, 1]));
    let three = Case::pair(3, 2, [0, 0]).coordinated_by(SERVERS).forgetting();
    holds("low N=3 W=2, one coordinator, no recoverer", Rounds::new(three));
}

#[test]
fn tombstones_past_a_lagging_server() {
    holds("realign N=3", Realign(Marks::Sound));
}

/// Two rivals build on what a third transaction writes, at acceptors that have it, hold a vote for
/// it, or have never heard of it.
#[test]
fn lagging_acceptors() {
    holds("chain N=2 W=2, coordinators only", Rounds::new(Case::chain(2, 2, [0, 0, 0])));
    holds("chain N=2 W=2, 1 recoverer on the first", Rounds::new(Case::chain(2, 2, [1, 0, 0])));
    holds("chain N=2 W=2, 1 recoverer on a rival", Rounds::new(Case::chain(2, 2, [0, 1, 0])));
    holds("chain N=3 W=2, coordinators only", Rounds::new(Case::chain(3, 2, [0, 0, 0])));
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
    let swap = Changes::new(&SWAP, [0, 0]).elsewhere().prepared_in(&[0], &[1]);
    holds("swap {AB}→{BC}, carry", swap);
    holds("move {ABC}→{D}", Changes::new(&MOVE, [0, 0]).prepared_in(&[0], &[1]));
}

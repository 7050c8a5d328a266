//! Larger spaces than those of `sound.rs`, each to its end: `make model`, or one of them with
//! `cargo test --release -p quorate-protocol --features large-spaces --test model -- large::r1b`.

use super::case::Case;
use super::explore::holds;
use super::generations::Changes;
use super::rounds::Rounds;
use super::{MOVE, SWAP};

#[test]
fn r1b() {
    holds(
        "R1b N=3 W=2, 1 recoverer on one, spurious",
        Rounds::new(Case::pair(3, 2, [1, 0]).spurious()),
    );
}

#[test]
fn r2b() {
    holds(
        "R2b N=3 W=3, 1 recoverer on one, spurious",
        Rounds::new(Case::pair(3, 3, [1, 0]).spurious()),
    );
}

#[test]
fn r5b() {
    holds(
        "R5b N=5 W=3, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::single(5, 3, 1).spurious()),
    );
}

#[test]
fn r6() {
    holds(
        "R6 clusters N=3 and N=2, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::two_clusters(3, 2, &[1]).spurious()),
    );
}

#[test]
fn r7b() {
    holds(
        "R7b N=4 W=3, coordinators only, spurious",
        Rounds::new(Case::pair(4, 3, [0, 0]).spurious()),
    );
}

#[test]
fn r9b() {
    holds(
        "R9b clusters N=1 and N=1, 2 tx, 1 recoverer each, spurious",
        Rounds::new(Case::two_clusters(1, 1, &[1, 1]).spurious()),
    );
}

#[test]
fn records_n3() {
    holds(
        "records on N=3, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::two_records(3, &[1]).spurious()),
    );
}

#[test]
fn records_2_tx() {
    holds("records on N=2, 2 tx, 1 recoverer on one", Rounds::new(Case::two_records(2, &[1, 0])));
}

#[test]
fn swap() {
    holds(
        "swap {AB}→{BC}, carry, 1 recoverer",
        Changes::new(&SWAP, [1, 0]).elsewhere().prepared_in(&[0], &[1]),
    );
}

#[test]
fn move_carry() {
    holds("move {ABC}→{D}, carry", Changes::new(&MOVE, [0, 0]).elsewhere().prepared_in(&[0], &[1]));
}

//! Larger spaces than those of `sound.rs`, each to its end: `make model`, or one of them with
//! `cargo test --release -p quorate-protocol --test model -- --ignored --nocapture large::r1b`.

use super::case::{Case, SERVERS};
use super::explore::holds;
use super::generations::Changes;
use super::rounds::Rounds;
use super::{GROW, GROW_SHRINK, MOVE, SHIFT, SWAP};

#[test]
#[ignore = "takes minutes"]
fn n3_w2_1_recoverer() {
    holds("pair, N=3 W=2, 1 recoverer on one", Rounds::new(Case::pair(3, 2, [1, 0])));
}

#[test]
#[ignore = "takes minutes"]
fn r1() {
    holds("R1 N=3 W=2, 1 recoverer each", Rounds::new(Case::pair(3, 2, [1, 1])));
}

#[test]
#[ignore = "takes minutes"]
fn r1b() {
    holds(
        "R1b N=3 W=2, 1 recoverer on one, spurious",
        Rounds::new(Case::pair(3, 2, [1, 0]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r2() {
    holds("R2 N=3 W=3, 1 recoverer each", Rounds::new(Case::pair(3, 3, [1, 1])));
}

#[test]
#[ignore = "takes minutes"]
fn r2b() {
    holds(
        "R2b N=3 W=3, 1 recoverer on one, spurious",
        Rounds::new(Case::pair(3, 3, [1, 0]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r3() {
    holds(
        "R3 N=2 W=2, 2 recoverers each, spurious",
        Rounds::new(Case::pair(2, 2, [2, 2]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r4b() {
    holds(
        "R4b N=3 W=3, 1 tx, 2 recoverers, spurious",
        Rounds::new(Case::single(3, 3, 2).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r5b() {
    holds(
        "R5b N=5 W=3, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::single(5, 3, 1).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r6() {
    holds(
        "R6 clusters N=3 and N=2, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::two_clusters(3, 2, &[1]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r7b() {
    holds(
        "R7b N=4 W=3, coordinators only, spurious",
        Rounds::new(Case::pair(4, 3, [0, 0]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn n4_w4() {
    holds("N=4 W=4, coordinators only, spurious", Rounds::new(Case::pair(4, 4, [0, 0]).spurious()));
}

#[test]
#[ignore = "takes minutes"]
fn r7c() {
    holds("R7c N=4 W=3, 1 recoverer on one", Rounds::new(Case::pair(4, 3, [1, 0])));
}

#[test]
#[ignore = "takes minutes"]
fn r9b() {
    holds(
        "R9b clusters N=1 and N=1, 2 tx, 1 recoverer each, spurious",
        Rounds::new(Case::two_clusters(1, 1, &[1, 1]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn r9c() {
    holds(
        "R9c clusters N=2 and N=1, 2 tx, 1 recoverer on one",
        Rounds::new(Case::two_clusters(2, 1, &[1, 0])),
    );
}

#[test]
#[ignore = "takes minutes"]
fn records_n3() {
    holds(
        "records on N=3, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::two_records(3, &[1]).spurious()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn records_2_tx() {
    holds("records on N=2, 2 tx, 1 recoverer on one", Rounds::new(Case::two_records(2, &[1, 0])));
}

#[test]
#[ignore = "takes minutes"]
fn low_w3() {
    holds(
        "low N=3 W=3, 1 tx, 1 recoverer, spurious",
        Rounds::new(Case::single(3, 3, 1).spurious().forgetting()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn low_2_recoverers() {
    holds(
        "low N=2 W=2, one coordinator, 1 recoverer each",
        Rounds::new(Case::pair(2, 2, [1, 1]).coordinated_by(SERVERS).forgetting()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn low_n3() {
    holds(
        "low N=3 W=2, one coordinator, no recoverer",
        Rounds::new(Case::pair(3, 2, [0, 0]).coordinated_by(SERVERS).forgetting()),
    );
}

#[test]
#[ignore = "takes minutes"]
fn chain_n3() {
    holds("chain N=3 W=2, coordinators only", Rounds::new(Case::chain(3, 2, [0, 0, 0])));
}

#[test]
#[ignore = "takes minutes"]
fn chain_first() {
    holds("chain N=2 W=2, 1 recoverer on the first", Rounds::new(Case::chain(2, 2, [1, 0, 0])));
}

#[test]
#[ignore = "takes minutes"]
fn chain_rival() {
    holds("chain N=2 W=2, 1 recoverer on a rival", Rounds::new(Case::chain(2, 2, [0, 1, 0])));
}

#[test]
#[ignore = "takes minutes"]
fn swap() {
    holds(
        "swap {AB}→{BC}, carry, 1 recoverer",
        Changes::new(&SWAP, [1, 0]).elsewhere().prepared_in(&[0], &[1]),
    );
}

#[test]
#[ignore = "takes minutes"]
fn move_one() {
    holds("move {ABC}→{D}", Changes::new(&MOVE, [0, 0]).prepared_in(&[0], &[1]));
}

#[test]
#[ignore = "takes minutes"]
fn move_carry() {
    holds("move {ABC}→{D}, carry", Changes::new(&MOVE, [0, 0]).elsewhere().prepared_in(&[0], &[1]));
}

#[test]
#[ignore = "takes minutes"]
fn move_recover() {
    holds("move {ABC}→{D}, 1 recoverer", Changes::new(&MOVE, [1, 0]).prepared_in(&[0], &[1]));
}

#[test]
#[ignore = "takes minutes"]
fn shift() {
    holds("shift {ABC}→{BCD}", Changes::new(&SHIFT, [0, 0]).prepared_in(&[0], &[1]));
}

#[test]
#[ignore = "takes minutes"]
fn shift_recover() {
    holds("shift {ABC}→{BCD}, 1 recoverer", Changes::new(&SHIFT, [1, 0]).prepared_in(&[0], &[1]));
}

#[test]
#[ignore = "takes minutes"]
fn grow() {
    holds("grow {ABC}→{ABCD}", Changes::new(&GROW, [0, 0]).prepared_in(&[0], &[1]));
}

#[test]
#[ignore = "takes minutes"]
fn e2() {
    holds("E2 {ABC}→{ABCD}→{BCD}", Changes::new(&GROW_SHRINK, [0, 0]).prepared_in(&[0], &[2]));
}

//! Simpler rules that look right (PROTOCOL.md part 2, and a few more): each must be found out. The
//! shortest way to break it is printed.

use super::case::{Builds, Case, Rule};
use super::explore::refuted;
use super::generations::{Changes, Rule as Change};
use super::properties::{
    BASE_WAS_COMMITTED, HALF, NO_CONTRADICTION, NOT_STUCK, ONE_OF_TWO, ONE_OUTCOME, ONE_VALUE,
    READ_SEES, WHOLE,
};
use super::realign::{Realign, Rule as Marks};
use super::rounds::Rounds;
use super::{GROW_SHRINK, MOVE, SHIFT};

fn wrong(case: Case, rule: Rule, property: &'static str) {
    refuted(&format!("{rule:?}"), Rounds::new(case.rule(rule)).only(property));
}

#[test]
fn one_round_with_quorum_w() {
    let rule = Rule::OneRound;
    // O1, O1, O3, O4, O5.
    wrong(Case::pair(3, 2, [0, 1]), rule, READ_SEES);
    wrong(Case::pair(3, 2, [0, 1]), rule, ONE_OF_TWO);
    wrong(Case::single(4, 3, 1).spurious(), rule, ONE_OUTCOME);
    wrong(Case::single(3, 3, 1).spurious(), rule, ONE_OUTCOME);
    wrong(Case::single(5, 3, 1), rule, READ_SEES);
    // O2, O6.
    wrong(Case::pair(3, 2, [1, 1]).dead(1), Rule::OneRoundCovered, NOT_STUCK);
    wrong(Case::two_clusters(1, 1, &[0]).spurious(), Rule::OneRoundOwnDecision, HALF);
}

#[test]
fn one_rule_of_part_1_broken() {
    // X1 to X5.
    wrong(Case::pair(3, 2, [1, 0]), Rule::CommitOnQuorum, ONE_OF_TWO);
    wrong(Case::single(3, 2, 0), Rule::AbortOnSilence, ONE_VALUE);
    wrong(Case::single(3, 2, 0).spurious(), Rule::ForgetNo, ONE_OUTCOME);
    wrong(Case::single(3, 2, 0), Rule::ForgetOnLearning, ONE_OUTCOME);
    wrong(Case::two_clusters(1, 1, &[0]).spurious(), Rule::ApplyOwnValue, HALF);
    // A11, and recovery that counts a missing vote as a possible Yes.
    wrong(Case::single(3, 2, 1), Rule::VoteAfterPromise, ONE_VALUE);
    wrong(Case::pair(3, 2, [0, 1]), Rule::SilentPromise, ONE_OF_TWO);
    // 3.9 Forgetting.
    wrong(Case::single(3, 2, 0).forgetting(), Rule::LowOnMajority, NO_CONTRADICTION);
    // A4.
    let mut ghost = Case::pair(3, 2, [0, 0]);
    ghost.txs[1].builds = Builds::OnGhost;
    wrong(ghost, Rule::BaseByVersion, BASE_WAS_COMMITTED);
}

#[test]
fn changes_of_generation() {
    let wrong = |space: Changes, rule, property| {
        refuted(&format!("{rule:?}"), space.wrong(rule, property));
    };
    let moved = || Changes::new(&MOVE, [0, 0]).prepared_in(&[0], &[1]);
    let shift = |recoverers| Changes::new(&SHIFT, recoverers).prepared_in(&[0], &[1]);
    // E1, E3, E4.
    let twice = Changes::new(&GROW_SHRINK, [0, 0]).prepared_in(&[0], &[2]);
    wrong(twice, Change::NoSeal, ONE_OF_TWO);
    wrong(moved(), Change::NoTransfer, ONE_OF_TWO);
    wrong(moved(), Change::DrainUnsealed, ONE_OF_TWO);
    // Carry-over.
    wrong(moved().elsewhere(), Change::NotCarried, ONE_OF_TWO);
    wrong(moved().elsewhere(), Change::CarriedUnlocked, ONE_OF_TWO);
    wrong(moved(), Change::DrainByVotes, WHOLE);
    wrong(shift([0, 0]), Change::UnsyncedAnswers, ONE_VALUE);
    wrong(shift([1, 0]).elsewhere(), Change::SyncForgets, ONE_VALUE);
}

#[test]
fn tombstones_past_a_lagging_server() {
    for rule in [Marks::PurgeUnmarked, Marks::NoCfg, Marks::OldAnswers, Marks::KeepExtra] {
        refuted(&format!("{rule:?}"), Realign(rule));
    }
}

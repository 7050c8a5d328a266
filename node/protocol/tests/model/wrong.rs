//! Simpler rules that look right (PROTOCOL.md part 2, and a few more): each must be found out. The
//! shortest way to break it is printed.

use super::case::{Builds, Case, Rule, SERVERS};
use super::explore::refuted;
use super::generations::{Changes, Rule as Change};
use super::properties::{
    ALL_OR_NOTHING, BASE_WAS_COMMITTED, HALF, NO_CONTRADICTION, NOT_STUCK, ONE_OF_TWO, ONE_OUTCOME,
    ONE_VALUE, READ_SEES, WHOLE,
};
use super::realign::{Realign, Rule as Marks};
use super::rounds::Rounds;
use super::{GROW_SHRINK, MOVE, SHIFT, SWAP};

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

/// X1 to X3, X5, and what else a coordinator or recoverer may get wrong.
#[test]
fn leaders_that_break_one_rule() {
    wrong(Case::pair(3, 2, [1, 0]), Rule::CommitOnQuorum, ONE_OF_TWO);
    wrong(Case::single(3, 2, 0), Rule::AbortOnSilence, ONE_VALUE);
    wrong(Case::single(3, 2, 0), Rule::FailOnTimeout, ONE_OUTCOME);
    wrong(Case::single(3, 2, 0), Rule::RoundOneAgain, ONE_VALUE);
    wrong(Case::two_clusters(1, 1, &[0]).spurious(), Rule::ApplyOwnValue, HALF);
    wrong(Case::pair(3, 2, [0, 1]), Rule::SilentPromise, ONE_OF_TWO);
    wrong(Case::single(3, 2, 1).spurious(), Rule::IgnoreAccepted, ONE_VALUE);
    // A6: the second transaction is answered with the votes of the first.
    wrong(Case::pair(3, 2, [0, 0]).coordinated_by(SERVERS), Rule::ReusedIds, ONE_OF_TWO);
    // A10: after a recovery only a majority need know.
    wrong(Case::single(3, 3, 1), Rule::ReadByQuorum, READ_SEES);
    // A16: with W=1 recovery would need all three.
    wrong(Case::single(3, 1, 1).dead(1), Rule::OneRound, NOT_STUCK);
}

/// What an acceptor must keep over a restart, and must not take from elsewhere.
#[test]
fn acceptors_that_break_one_rule() {
    wrong(Case::single(3, 2, 0).spurious(), Rule::ForgetNo, ONE_OUTCOME);
    // A11.
    wrong(Case::single(3, 2, 1), Rule::VoteAfterPromise, ONE_VALUE);
    wrong(Case::single(3, 2, 1), Rule::YesBeforeDurable, ONE_VALUE);
    wrong(Case::single(3, 2, 1).spurious(), Rule::AcceptBeforeDurable, ONE_VALUE);
    // A27.
    wrong(Case::pair(3, 2, [0, 0]), Rule::LoseLocks, ONE_OF_TWO);
    // A3.
    wrong(Case::pair(3, 2, [0, 0]), Rule::Wiped, ONE_OF_TWO);
    wrong(Case::single(3, 2, 1), Rule::Wiped, READ_SEES);
    wrong(Case::pair(3, 2, [0, 0]), Rule::CopiedVotes, ONE_OF_TWO);
    // A4.
    let mut ghost = Case::pair(3, 2, [0, 0]);
    ghost.txs[1].builds = Builds::OnGhost;
    wrong(ghost, Rule::BaseByVersion, BASE_WAS_COMMITTED);
    // A12.
    wrong(Case::two_records(1, &[0]), Rule::RepairByItem, ALL_OR_NOTHING);
}

/// A5, X4 and low-water marks that rise too early.
#[test]
fn what_is_forgotten_too_early() {
    wrong(Case::single(3, 2, 0), Rule::ForgetOnLearning, ONE_OUTCOME);
    wrong(Case::single(3, 2, 1), Rule::ForgetOnLearning, ONE_OUTCOME);
    wrong(Case::single(3, 2, 0).spurious(), Rule::ForgetAborts, ONE_OUTCOME);
    wrong(Case::single(3, 2, 0).forgetting(), Rule::LowOnMajority, NO_CONTRADICTION);
}

#[test]
fn changes_of_generation() {
    let wrong = |space: Changes, rule, property| {
        refuted(&format!("{rule:?}"), space.wrong(rule, property));
    };
    let moved = || Changes::new(&MOVE, [0, 0]).prepared_in(&[0], &[1]);
    let shift = Changes::new(&SHIFT, [0, 0]).prepared_in(&[0], &[1]);
    // E1, E3, E4.
    let twice = Changes::new(&GROW_SHRINK, [0, 0]).prepared_in(&[0], &[2]);
    wrong(twice, Change::NoSeal, ONE_OF_TWO);
    wrong(moved(), Change::NoTransfer, ONE_OF_TWO);
    wrong(moved(), Change::DrainUnsealed, ONE_OF_TWO);
    // A19, A10.
    wrong(moved(), Change::SealMinority, ONE_OF_TWO);
    let shift_reads = Changes::new(&SHIFT, [0, 0]).prepared_in(&[0], &[1]);
    wrong(shift_reads, Change::SealedAnswersReads, READ_SEES);
    // Carry-over.
    wrong(moved().elsewhere(), Change::NotCarried, ONE_OF_TWO);
    wrong(moved().elsewhere(), Change::CarriedUnlocked, ONE_OF_TWO);
    wrong(moved(), Change::DrainByVotes, WHOLE);
    wrong(shift, Change::UnsyncedAnswers, ONE_VALUE);
    let swap = Changes::new(&SWAP, [1, 0]).prepared_in(&[0], &[1]).elsewhere();
    wrong(swap, Change::SyncForgets, ONE_VALUE);
}

#[test]
fn tombstones_past_a_lagging_server() {
    for rule in [Marks::PurgeUnmarked, Marks::NoCfg, Marks::OldAnswers, Marks::KeepExtra] {
        refuted(&format!("{rule:?}"), Realign(rule));
    }
}

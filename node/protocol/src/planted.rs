//! Bugs to be planted: simpler rules that look right and are wrong (PROTOCOL.md part 2), so that
//! the simulator can prove that its invariants see them. Without the feature `planted-bugs` none
//! can be chosen, and the tests of `Config::has` are constants.

use crate::io::Config;

/// A wrong rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// X1: commit on W Yes, without the Accept round.
    CommitOnQuorum,
    /// X2: `Accept(1, aborted)` on mere silence, while late Yes votes still count.
    AbortOnSilence,
    /// X3: a No is forgotten by a restart and may become a Yes.
    NoIsForgotten,
    /// X4: outcome and vote are dropped as soon as the outcome is learned.
    ForgetOnLearning,
    /// X5: a cluster applies its own value before the whole transaction has an outcome.
    ApplyOwnValue,
    /// Votes leave before they are durable.
    VoteBeforeDurable,
    /// A majority read does not look at undecided votes.
    ReadIgnoresVotes,
    /// A majority read is answered by whoever answers first.
    ReadOneServer,
    /// An acceptor judges a Prepare again, and says what it finds now.
    VoteTwice,
    /// A promise does not keep its acceptor from voting.
    VoteAfterPromise,
    /// Recovery takes a majority's votes for what they are worth and proposes an abort, whatever
    /// was accepted.
    RecoverToAbort,
    /// Recovery counts a silent MASTER as a possible Yes (O1, trap A1).
    RecoverFromSilence,
    /// A commit that is in already is applied again.
    ApplyTwice,
    /// Locks are not rebuilt from the votes at the start.
    LoseLocks,
    /// A new boot numbers its transactions like the one before (trap A6).
    ReuseIds,
    /// The client is told `ok` when its own server has voted.
    AckBeforeQuorum,
    /// Base stamps are not compared at all.
    SkipVersionCheck,
    /// A base is compared by its version only: a client's version is believed, and an acceptor that
    /// is behind says Yes (trap A4).
    BaseByVersion,
    /// A tombstone is dropped as soon as a server has applied the delete itself (traps A18, A20).
    TombstoneDroppedEarly,
    /// A witness drops contents that it has applied itself, whoever lacks them.
    ContentDroppedEarly,
    /// Back ONLINE after the comparison, without the decisions made since it began (3.6.5).
    BackBeforeMeanwhile,
    /// A server that misses a base takes the record from somebody, while it is ONLINE (trap A12).
    RecordWiseRepair,
    /// A MASTER says that it is sealed, and goes on voting (A2, E1).
    OldSetNotSealed,
    /// A MASTER of the next generation says that it is synced, whatever it lacks (E3).
    EnterWithoutTransfer,
    /// A MASTER says that it is sealed with votes undecided (E4).
    DrainSkipped,
    /// A MASTER that was not waited for votes before it has what it lacks.
    VoterBeforeSynced,
    /// A relay says that everybody below it has what it has itself.
    AckForThoseBelow,
    /// A REPLICA goes on wherever its new parent stands.
    GapSkipped,
    /// A coordinator feeds entries of its log that are not durable.
    FedBeforeDurable,
    /// Everybody who can be reached has acknowledged it, so it is forgotten as if everybody had.
    ForgetPastLagging,
    /// One server's view is enough to align with, a MASTER's own too (trap A3, 3.6.5).
    AlignWithOne,
    /// With W below a majority: another line of history is taken for a newer state of this one.
    DivergenceTakenForLag,
    /// MASTERs that unite say that they have the same, whatever they have.
    UnitedUncompared,
    /// Votes with W below a majority end with their generation, although a change was taken back.
    VotesEndWithGeneration,
    /// A merge is written above the winner's version, and not above the highest one.
    MergeBelowHighest,
}

impl Config {
    /// True when this bug is planted.
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    /// True when this bug is planted: never.
    #[cfg(not(feature = "planted-bugs"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(crate) const fn has(&self, _bug: Bug) -> bool {
        false
    }
}

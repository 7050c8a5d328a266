//! Marks of rare branches, so that a campaign of the simulator can say which ones it never took.
//! Counted with the feature `marks` alone; without it `Mark::hit` is empty. The counters are the
//! only state outside the machine and nothing ever looks at them to decide.

#[cfg(feature = "marks")]
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! marks {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// A rare branch.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mark {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mark {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];
        }
    };
}

marks! {
    /// A message comes before the first configuration, and is lost.
    BeforeConfiguration,
    /// A vote is sent again for a Prepare that came again.
    VoteAgain,
    /// A Prepare comes for what is finished and forgotten.
    PrepareFinished,
    /// A Prepare comes after its outcome.
    PrepareDecided,
    /// A Prepare is refused because a ballot was promised without a vote.
    PrepareRefused,
    /// The base stamp proves that the lock's holder committed.
    HolderProven,
    /// A proven holder cannot be applied yet.
    ProofWithoutBase,
    /// A Prepare waits for a younger holder's lock.
    HeldForLock,
    /// A Prepare waits for missing decisions.
    HeldForLag,
    /// A held Prepare is dropped without a vote.
    HeldDropped,
    /// No: somebody else may create here.
    NoPosition,
    /// No: the version moved on.
    NoVersion,
    /// No: locked.
    NoBusy,
    /// A promise or an accept makes a record without a vote.
    RecordWithoutVote,
    /// An Accept is rejected: a higher ballot was promised.
    AcceptRejected,
    /// A Recover is rejected.
    RecoverRejected,
    /// The second round proposes prepared.
    RoundTwoPrepared,
    /// The second round proposes aborted, with a No in hand.
    RoundTwoAborted,
    /// The second round of one cluster waits for a vote that another one needs.
    AcceptPostponed,
    /// Votes are split and W is out of reach: recovery takes over at once.
    SplitVote,
    /// A coordinator is refused a vote by a recoverer.
    VoteRefused,
    /// A coordinator hears the outcome of its own transaction in a vote.
    VoteDecided,
    /// A client is told `unknown`.
    DeadlinePassed,
    /// Half of the deadline is gone, recovery takes over.
    HalfPassed,
    /// A commit is parked: its base is missing.
    Parked,
    /// A commit is in already when it is learned.
    CommitPresent,
    /// A parked commit is looked at again and still waits.
    ParkedAgain,
    /// A fetched commit is only a part of what this server holds.
    FetchedHalf,
    /// An entry of a decision log comes before the one it follows.
    LogEntryEarly,
    /// A stream begins again after its last acknowledgement.
    StreamRewound,
    /// An acknowledgement was overtaken.
    AckOvertaken,
    /// What was logged and not applied before the start is applied after it.
    OwnLogReplayed,
    /// The low-water mark rises.
    LowRaised,
    /// A coordinator is asked what became of its transaction.
    OrphanAsked,
    /// It says that it is still working, and is waited for.
    OrphanWorking,
    /// Somebody else's transaction is recovered here.
    OrphanTakenOver,
    /// A takeover waits, because as many as may be are led already.
    TurnAwaited,
    /// A takeover that nobody answers makes room for one that waits.
    TurnGivenUp,
    /// And gets its turn again.
    TurnRegained,
    /// A coordinator is asked about what it has forgotten, and finishes it.
    OwnOrphanAsked,
    /// A commit is heard of whose operations are not all here.
    CommitWithoutOps,
    /// A recovery rests after a rejection.
    BallotRested,
    /// Its rival is still working, and is waited for.
    RivalWorking,
    /// A recovery proposes what an earlier ballot had accepted.
    ValueAdopted,
    /// A read finds a commit proven by the votes of all MASTERs.
    ReadProvesCommit,
    /// A read begins again: what was in its way is finished and forgotten.
    ReadBegunAgain,
    /// A commit that a base proved is logged by whoever applied it.
    ProvenLogged,
    /// A server aligns: a decision log does not reach back to it.
    LeftByTruncation,
    /// A server aligns: it missed what everybody else has finished with.
    LeftByFinished,
    /// A server aligns: an entry is streamed to it whose record nobody keeps any more.
    LeftByForgotten,
    /// A server goes on aligning after a restart.
    AligningRestarted,
    /// A source does not know the session any more, and is compared from the beginning.
    SourceBegunAgain,
    /// A source does not answer, and another one is asked.
    SourceSilent,
    /// The digests of a cluster are there when the session for which they were made is over.
    SurveyForNobody,
    /// A chunk of a copy comes twice, late, or when another one is wanted.
    ChunkOutOfTurn,
    /// A server that aligns needs a content that a witness has dropped.
    ContentLacking,
    /// A read of less than a majority waits for whoever has the content.
    ReadAwaitsContent,
    /// No MASTER gives a copy of a cluster: it is compared item by item.
    CopiedByNobody,
    /// A server that aligns asks for a journal that was dropped, in a session of the same number.
    JournalLost,
    /// Too many decisions are settled for a server that aligns, and its session ends.
    JournalFull,
    /// A source has a part of a commit only.
    PartFollowed,
    /// A server would be back, and something of a commit is missing.
    PartMissing,
    /// A server is back, and one of its sources aligns itself.
    SourceAligns,
    /// A log had told of a commit in a part that was skipped here.
    ToldOfASkippedPart,
    /// A MASTER seals its generation.
    Sealed,
    /// No: the generation is sealed.
    NoSealed,
    /// A transaction waits for a change of a cluster.
    Postponed,
    /// A coordinator's transaction is of a generation that ended.
    GenerationEnded,
    /// A server has all that came before a generation.
    GenerationEntered,
    /// It has it from a source of an alignment that has entered.
    EnteredByAlignment,
    /// A server leaves ONLINE to get what no log brings it for the next generation.
    LeftForGeneration,
    /// A vote of an earlier generation is aborted when a server enters a later one.
    VoteVoid,
    /// A vote is dropped whose clusters are all kept elsewhere by now.
    VoteElsewhere,
    /// A server that has entered answers for a generation that is over.
    AnsweredForClosed,
    /// A recovery asks the MASTERs of a later generation.
    LaterGenerationAsked,
    /// A Prepare waits: its acceptor lacks what came before the generation.
    HeldForEntry,
    /// A read is left unanswered: the generation is sealed, or not entered.
    ReadUnanswered,
    /// A commit is streamed without the operations of a cluster that this server still keeps.
    PartStreamed,
    /// A source answers by a newer configuration than that of the server that aligns.
    SourceAhead,
    /// A source knows that the server that aligns keeps a cluster no more.
    SourceKeepsAlone,
    /// A source has not heard yet of the configuration of the server that aligns.
    SourceBehind,
    /// What ended boots left is forgotten.
    BootsForgotten,
    /// A log entry is streamed whose transaction is forgotten already.
    FinishedStreamed,
    /// A relay cannot serve a log from where a child stands.
    RelayLacks,
    /// A child is sent again what it did not acknowledge.
    FeedRewound,
    /// A log that a relay lacks is taken from its origin.
    TakenDirectly,
    /// And from the relay again.
    FedAgain,
    /// A relay sends a commit without the operations of a cluster that this server keeps.
    PartFed,
    /// A relay is told to be finished what this server has not applied yet.
    ToldEarly,
    /// A REPLICA's parent is gone.
    ParentLost,
    /// A REPLICA leaves a parent for a better one.
    ParentChanged,
    /// A candidate is not fed itself.
    CandidateUnfed,
    /// A REPLICA becomes a MASTER of something, or a MASTER of nothing.
    RoleChanged,
    /// A server without a link asks to close its earlier boots.
    EndedCarried,
    /// With W below a majority: a content of another line is kept beside the committed one.
    RivalKept,
    /// An outcome contradicts what recovery found with W below a majority.
    Contradicted,
    /// What diverged is looked at again later: a transaction that is under way holds it.
    MergeBusy,
    /// Something that differs may be mere lag, and is looked at again.
    LagAwaited,
    /// What differed and did not go away by itself is made equal.
    LagMerged,
    /// The chain names a winner among lines that diverged.
    ChainDecided,
    /// It names none.
    ChainUndecided,
    /// Contents are equal, and their stamps are made so.
    SameMerged,
    /// Copies are equal, and what was kept beside them has lost.
    MergeSettled,
    /// A merge is put down because somebody wrote meanwhile.
    MergeRefused,
    /// A commit of a generation that is over, with W below a majority, is listed.
    LateKept,
    /// What a server lists is closed after its MASTERs were united.
    LinesClosed,
}

#[cfg(feature = "marks")]
static HITS: [AtomicU64; Mark::ALL.len()] = [const { AtomicU64::new(0) }; Mark::ALL.len()];

impl Mark {
    /// This branch was taken.
    #[cfg(feature = "marks")]
    pub(crate) fn hit(self) {
        HITS[self as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// This branch was taken: nobody counts.
    #[cfg(not(feature = "marks"))]
    #[expect(clippy::unused_self, reason = "the same call with and without the feature")]
    pub(crate) const fn hit(self) {}

    /// How often it was taken in this process.
    #[cfg(feature = "marks")]
    #[must_use]
    pub fn hits(self) -> u64 {
        HITS[self as usize].load(Ordering::Relaxed)
    }
}

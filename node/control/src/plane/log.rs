//! The control plane's log in memory, as its library wants to see it, and its bytes on a disk. The
//! log is short: it is cut at a snapshot of the state whenever it has grown. May not know what
//! entries mean.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use prost::Message as _;
use quorate_api::NodeId;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use super::state::UnreadableError;

/// Index and term of what a cluster begins with: every founder has it, nobody voted for it.
const FOUNDATION: u64 = 1;

/// A durable write of the control plane's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogWrite {
    /// Term, vote, and how far the log is committed.
    HardState(Vec<u8>),
    /// Entries from this index on are replaced by those that follow.
    Cut(u64),
    /// An entry and its index.
    Entry(u64, Vec<u8>),
    /// The state at an index; entries up to it go.
    Snapshot(u64, Vec<u8>),
}

/// What the disk holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveredLog {
    /// The last [`LogWrite::HardState`].
    pub hard_state: Option<Vec<u8>>,
    /// Entries behind the snapshot, in order.
    pub entries: Vec<Vec<u8>>,
    /// The last [`LogWrite::Snapshot`]; `None`: this server has never been in a cluster.
    pub snapshot: Option<Vec<u8>>,
}

/// The log.
#[derive(Debug)]
pub(super) struct Log {
    hard_state: HardState,
    snapshot: Snapshot,
    /// Behind the snapshot, without gaps.
    entries: Vec<Entry>,
    /// What the entries weigh.
    bytes: usize,
    /// The list of voters as it was applied, where that is more than the snapshot's.
    voters: Option<ConfState>,
}

fn decode<T: prost::Message + Default>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, UnreadableError> {
    T::decode(bytes).map_err(|error| UnreadableError::Wire { what, error: error.to_string() })
}

impl Log {
    /// The log of a server that founds a cluster together with others.
    pub(super) fn founded_by(voters: &[NodeId], state: Vec<u8>) -> Self {
        let voters = voters.iter().map(|node| node.0).collect();
        let conf_state = ConfState { voters, ..ConfState::default() };
        Self {
            hard_state: HardState { term: FOUNDATION, vote: 0, commit: FOUNDATION },
            snapshot: snapshot_of(conf_state, FOUNDATION, FOUNDATION, state),
            entries: Vec::new(),
            bytes: 0,
            voters: None,
        }
    }

    /// The log of a server that nobody has taken in yet: it has no say, and gets everything as a
    /// snapshot.
    pub(super) fn of_a_stranger(state: Vec<u8>) -> Self {
        Self {
            hard_state: HardState::default(),
            snapshot: snapshot_of(ConfState::default(), 0, 0, state),
            entries: Vec::new(),
            bytes: 0,
            voters: None,
        }
    }

    /// The log that a disk holds.
    pub(super) fn read(snapshot: &[u8], rest: &RecoveredLog) -> Result<Self, UnreadableError> {
        let snapshot: Snapshot = decode("a snapshot", snapshot)?;
        let mut log = Self {
            hard_state: HardState { commit: index_of(&snapshot), ..HardState::default() },
            snapshot,
            entries: Vec::new(),
            bytes: 0,
            voters: None,
        };
        for bytes in &rest.entries {
            let entry: Entry = decode("an entry", bytes)?;
            let expected = log.next_index();
            if entry.index != expected {
                let error = format!("index {} stands where {expected} should", entry.index);
                return Err(UnreadableError::Wire { what: "an entry", error });
            }
            log.push(entry);
        }
        if let Some(bytes) = &rest.hard_state {
            let hard_state: HardState = decode("the hard state", bytes)?;
            let last = log.next_index() - 1;
            if !(index_of(&log.snapshot)..=last).contains(&hard_state.commit) {
                let error = format!("entry {} is committed, {last} is the last", hard_state.commit);
                return Err(UnreadableError::Wire { what: "the hard state", error });
            }
            log.hard_state = hard_state;
        }
        Ok(log)
    }

    /// Everything, for an empty disk.
    pub(super) fn writes(&self) -> Vec<LogWrite> {
        [self.snapshot_write(), LogWrite::HardState(self.hard_state.encode_to_vec())].into()
    }

    pub(super) fn snapshot_write(&self) -> LogWrite {
        LogWrite::Snapshot(index_of(&self.snapshot), self.snapshot.encode_to_vec())
    }

    /// The state at the snapshot, and its index.
    pub(super) fn snapshot_state(&self) -> (u64, &[u8]) {
        (index_of(&self.snapshot), &self.snapshot.data)
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) -> LogWrite {
        self.hard_state = hard_state;
        LogWrite::HardState(self.hard_state.encode_to_vec())
    }

    /// Appends entries, over those that were there.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> Vec<LogWrite> {
        let mut writes = Vec::new();
        let Some(first) = entries.first().map(|entry| entry.index) else { return writes };
        if first < self.next_index() {
            let keep = usize::try_from(first - index_of(&self.snapshot) - 1).unwrap_or(0);
            let dropped: usize = self.entries.drain(keep..).map(|entry| weight(&entry)).sum();
            self.bytes -= dropped;
            writes.push(LogWrite::Cut(first));
        }
        for entry in entries {
            writes.push(LogWrite::Entry(entry.index, entry.encode_to_vec()));
            self.push(entry);
        }
        writes
    }

    /// Takes entries that are committed; those who vote are `voters` before them. What stands in
    /// their place is replaced only where it is something else, and with it what follows: none of
    /// that can be committed.
    pub(super) fn take_committed(
        &mut self,
        entries: Vec<Entry>,
        voters: ConfState,
    ) -> Vec<LogWrite> {
        let Some(end) = entries.last().map(|last| (last.index, last.term)) else {
            return Vec::new();
        };
        let is_there = |entry: &Entry| self.term(entry.index) == Ok(entry.term);
        let there = entries.iter().take_while(|entry| is_there(entry)).count();
        let fresh = entries.into_iter().skip(there).collect();
        self.voters = Some(voters);
        let mut writes = self.append(fresh);
        writes.push(self.commit_up_to(end));
        writes
    }

    /// Takes a snapshot of a state that is committed. Where its last entry stands here already,
    /// what is behind that stays: a voter may have acknowledged it, and it may be committed. Where
    /// another one stands, neither that nor what is behind it is, nor ever will be.
    pub(super) fn take_snapshot(&mut self, snapshot: Snapshot) -> Vec<LogWrite> {
        let end = (index_of(&snapshot), snapshot.metadata.as_ref().map_or(0, |m| m.term));
        let mut writes = if self.term(end.0) == Ok(end.1) {
            [self.put_behind(snapshot)].into()
        } else {
            self.restore(snapshot)
        };
        writes.push(self.commit_up_to(end));
        writes
    }

    /// Whoever has an entry of a term has no vote any more in one before it.
    fn commit_up_to(&mut self, (index, term): (u64, u64)) -> LogWrite {
        let HardState { term: known, vote, commit } = self.hard_state;
        let vote = if term > known { 0 } else { vote };
        let (term, commit) = (term.max(known), index.max(commit));
        self.set_hard_state(HardState { term, vote, commit })
    }

    /// The snapshot as it travels.
    pub(super) fn snapshot_bytes(&self) -> Vec<u8> {
        self.snapshot.encode_to_vec()
    }

    /// Takes a snapshot in place of everything.
    pub(super) fn restore(&mut self, snapshot: Snapshot) -> Vec<LogWrite> {
        let commit = index_of(&snapshot).max(self.hard_state.commit);
        self.snapshot = snapshot;
        self.voters = None;
        self.entries.clear();
        self.bytes = 0;
        let hard_state = HardState { commit, ..self.hard_state.clone() };
        [LogWrite::Cut(0), self.snapshot_write(), self.set_hard_state(hard_state)].into()
    }

    /// Puts the state at `index` in place of the entries up to it.
    pub(super) fn compact(&mut self, index: u64, state: Vec<u8>, voters: ConfState) -> LogWrite {
        let term = self.term(index).unwrap_or_default();
        self.put_behind(snapshot_of(voters, index, term, state))
    }

    /// Puts a snapshot in place of the entries up to its own index, the last of which is here.
    fn put_behind(&mut self, snapshot: Snapshot) -> LogWrite {
        let count = index_of(&snapshot) - index_of(&self.snapshot);
        let count = usize::try_from(count).unwrap_or(0);
        let dropped: usize = self.entries.drain(..count).map(|entry| weight(&entry)).sum();
        self.bytes -= dropped;
        self.voters = None;
        self.snapshot = snapshot;
        self.snapshot_write()
    }

    /// Number of entries, and what they weigh.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += weight(&entry);
        self.entries.push(entry);
    }

    fn next_index(&self) -> u64 {
        index_of(&self.snapshot) + 1 + self.entries.len() as u64
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(index_of(&self.snapshot) + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + size_of::<Entry>()
}

fn snapshot_of(conf_state: ConfState, index: u64, term: u64, data: Vec<u8>) -> Snapshot {
    let metadata = SnapshotMetadata { conf_state: Some(conf_state), index, term };
    Snapshot { data, metadata: Some(metadata) }
}

pub(super) fn index_of(snapshot: &Snapshot) -> u64 {
    snapshot.metadata.as_ref().map_or(0, |metadata| metadata.index)
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let metadata = self.snapshot.metadata.clone().unwrap_or_default();
        let of_snapshot = metadata.conf_state.unwrap_or_default();
        let conf_state = self.voters.clone().unwrap_or(of_snapshot);
        Ok(RaftState { hard_state: self.hard_state.clone(), conf_state })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= index_of(&self.snapshot) {
            return Err(Error::Store(StorageError::Compacted));
        }
        let mut found: Vec<Entry> = Vec::new();
        let (limit, mut bytes) = (max_size.into().unwrap_or(u64::MAX), 0);
        for index in low..high {
            let entry = self.at(index).ok_or(Error::Store(StorageError::Unavailable))?;
            bytes += weight(entry) as u64;
            if bytes > limit && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let metadata = self.snapshot.metadata.as_ref();
        match metadata.filter(|metadata| index <= metadata.index) {
            Some(metadata) if metadata.index == index => Ok(metadata.term),
            Some(_) => Err(Error::Store(StorageError::Compacted)),
            None => {
                let entry = self.at(index).ok_or(Error::Store(StorageError::Unavailable))?;
                Ok(entry.term)
            }
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(index_of(&self.snapshot) + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.next_index() - 1)
    }

    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<Snapshot> {
        if index_of(&self.snapshot) < request_index {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}

//! What is to be done about one item of a cluster with W below a majority, from what all servers
//! that are reachable have of it: the lines of its history, and which of them wins. May not send
//! or write; `merge` does.
//!
//! A content is past once anybody knows that another one was built on it; whatever is not past is
//! the head of a line: what a server has committed, and what is listed as open and committed
//! nowhere any more. Ancestors are bounded, so a server that was away for long may have a stamp to
//! which what is known of another line does not reach down. Such a line is in doubt: it is never
//! put to the chain, where the many that lag would win. It is waited for while some decision log
//! may still bring what is missing, and then the highest version wins, as with any lag.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{Committed, ItemId, NodeId, Stamp};

use super::Machine;
use super::merge::AGENDA_MAX;
use crate::chain::{Copy, Resolver};
use crate::conflict::{Logged, Rival, State};
use crate::io::Tick;
use crate::marks::Mark;
use crate::message::LogPosition;

/// Who has which stamp of an item.
type Picture = BTreeMap<NodeId, Stamp>;

/// What may be mere lag, as it was when it was seen first.
#[derive(Debug)]
pub(super) struct Seen {
    since: Tick,
    picture: Picture,
    /// How far every decision log was: what they have up to there may be on its way.
    ends: BTreeMap<NodeId, LogPosition>,
    /// What it is that was on its way.
    missing: Missing,
}

/// Who lacks something of whose decision log, and how far it is.
type Missing = BTreeMap<(NodeId, NodeId), Option<LogPosition>>;

/// While something of before is on its way to who is behind, and does not move: so many times
/// [`crate::io::MergeConfig::settle`] pass. A log stays where it is for good when what it waits for
/// is forgotten elsewhere; a merge sets it free.
const STUCK: Tick = 4;

/// What wins, and who said so.
pub(super) struct Winner<'a> {
    pub(super) committed: &'a Committed,
    pub(super) by: &'static str,
}

/// What is to be done about an item.
pub(super) enum Verdict<'a> {
    /// Nothing differs.
    Equal(Stamp),
    /// It may go away by itself.
    Wait,
    /// This is to be the content of all of them.
    Write(Winner<'a>),
    /// Nobody won.
    Undecided,
}

/// The last content of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) stamp: Stamp,
    /// `None`: absent, or listed by others alone.
    pub(super) committed: Option<&'a Committed>,
}

/// The states of one item, and what they say.
pub(super) struct Scene<'a> {
    pub(super) states: BTreeMap<NodeId, &'a State>,
    /// The last content of every line.
    pub(super) heads: Vec<Head<'a>>,
    /// Lines that may be the past of another one, of which too little is known.
    pub(super) doubtful: Vec<Head<'a>>,
    /// What each stamp was built on, as far as anybody knows.
    past: BTreeMap<Stamp, BTreeSet<Stamp>>,
}

impl<'a> Scene<'a> {
    /// From what every server has, and the contents that are listed here.
    pub(super) fn of(states: BTreeMap<NodeId, &'a State>, listed: &'a [Rival]) -> Self {
        let past = past_of(&states);
        let mut lines: BTreeMap<Stamp, Head<'a>> = BTreeMap::new();
        for state in states.values() {
            let (stamp, committed) = (state.stamp(), state.committed.as_ref());
            lines.entry(stamp).or_insert(Head { stamp, committed });
            for (stamp, _) in &state.rivals {
                let rival = listed.iter().find(|rival| rival.committed.stamp == *stamp);
                let committed = rival.map(|rival| &rival.committed);
                let head = lines.entry(*stamp).or_insert(Head { stamp: *stamp, committed });
                head.committed = head.committed.or(committed);
            }
        }
        if lines.len() > 1 {
            // Everything was built on nothing.
            lines.remove(&Stamp::ABSENT);
        }
        let is_past = |stamp: &Stamp| past.values().any(|stamps| stamps.contains(stamp));
        lines.retain(|stamp, _| !is_past(stamp));
        let reached: Vec<(Stamp, u64)> = lines
            .keys()
            .map(|head| (*head, reached(*head, past.get(head).into_iter().flatten())))
            .collect();
        let is_doubtful = |head: &Head<'_>| {
            let (one, version) = (head.stamp, head.stamp.version);
            reached.iter().any(|(other, reached)| {
                let is_below = version < other.version && version < *reached;
                is_below && !is_told_apart(&states, &past, one, *other)
            })
        };
        let (doubtful, heads) = lines.into_values().partition(is_doubtful);
        Self { states, heads, doubtful, past }
    }

    fn picture(&self) -> Picture {
        self.states.iter().map(|(node, state)| (*node, state.stamp())).collect()
    }

    /// Everything that is known to lie behind a stamp.
    pub(super) fn past_of(&self, stamp: Stamp) -> impl Iterator<Item = Stamp> {
        self.past.get(&stamp).into_iter().flatten().copied()
    }

    /// Everything that lies behind some stamp.
    pub(super) fn all_past(&self) -> impl Iterator<Item = Stamp> {
        self.past.values().flatten().copied()
    }

    /// The head of the one line that a state belongs to.
    fn line_of(&self, state: &State) -> Option<&Head<'a>> {
        let stamp = state.stamp();
        let is_of = |head: &&Head<'a>| {
            head.stamp == stamp || self.past_of(head.stamp).any(|past| past == stamp)
        };
        let mut lines = self.heads.iter().filter(is_of);
        let line = lines.next()?;
        lines.next().is_none().then_some(line)
    }

    /// The highest head whose content is known.
    fn highest(&self) -> Option<Head<'a>> {
        let known = |head: &Head<'_>| head.committed.is_some() || head.stamp == Stamp::ABSENT;
        self.heads.iter().copied().filter(known).max_by_key(|head| head.stamp)
    }

    /// Everybody has this one, or nothing where that lacks nothing, and nothing else is open.
    fn is_equal(&self, head: &Head<'_>, may_lack: impl Fn(&Committed) -> bool) -> bool {
        let may_lack = head.committed.is_none_or(may_lack);
        let is_same = |state: &&State| {
            state.stamp() == head.stamp || (state.stamp() == Stamp::ABSENT && may_lack)
        };
        let is_one = self.heads.len() == 1 && self.doubtful.is_empty();
        is_one && self.states.values().all(is_same)
    }

    /// What decision logs that reach these servers have of before for who is behind.
    fn missing(
        &self,
        ends: &BTreeMap<NodeId, LogPosition>,
        logs: &BTreeMap<NodeId, &Logged>,
    ) -> Missing {
        let top = self.highest().map_or(Stamp::ABSENT, |head| head.stamp);
        let behind = self.states.iter().filter(|(_, state)| state.stamp() != top);
        let mut missing = Missing::new();
        for (node, _) in behind {
            for (origin, end) in ends.iter().filter(|(origin, _)| *origin != node) {
                // Whose log is not reachable brings nothing.
                let acked = logs.get(origin).map(|log| log.acked.get(node).copied());
                if let Some(acked) = acked.filter(|acked| *acked < Some(*end)) {
                    missing.insert((*origin, *node), acked);
                }
            }
        }
        missing
    }
}

/// What each stamp was built on: all that anybody knows, and what that was built on.
fn past_of(states: &BTreeMap<NodeId, &State>) -> BTreeMap<Stamp, BTreeSet<Stamp>> {
    let mut past: BTreeMap<Stamp, BTreeSet<Stamp>> = BTreeMap::new();
    for state in states.values() {
        past.entry(state.stamp()).or_default().extend(&state.ancestors);
        for (stamp, ancestors) in &state.rivals {
            past.entry(*stamp).or_default().extend(ancestors);
        }
    }
    // Ancestors have lower versions, so those of them are complete before they are needed.
    for stamp in past.keys().copied().collect::<Vec<_>>() {
        let further: BTreeSet<Stamp> =
            past[&stamp].iter().filter_map(|known| past.get(known)).flatten().copied().collect();
        past.entry(stamp).or_default().extend(further);
    }
    past
}

/// Who has one of them lists the other, or what that was built on: it found no base for it.
fn is_told_apart(
    states: &BTreeMap<NodeId, &State>,
    past: &BTreeMap<Stamp, BTreeSet<Stamp>>,
    one: Stamp,
    other: Stamp,
) -> bool {
    let is_before = |stamp: &Stamp, line: Stamp| {
        *stamp == line || past.get(&line).is_some_and(|past| past.contains(stamp))
    };
    states.values().any(|state| {
        let lists = |line| state.rivals.iter().any(|(stamp, _)| is_before(stamp, line));
        (state.stamp() == one && lists(other)) || (state.stamp() == other && lists(one))
    })
}

/// Down to which version a line is known without a gap.
fn reached<'b>(head: Stamp, past: impl Iterator<Item = &'b Stamp>) -> u64 {
    let versions: BTreeSet<u64> = past.map(|stamp| stamp.version).collect();
    let mut reached = head.version;
    while reached > 0 && versions.contains(&(reached - 1)) {
        reached -= 1;
    }
    reached
}

/// What is to be equal, whoever wrote it.
fn content(committed: &Committed) -> Option<&[u8]> {
    let bytes = || committed.image.as_ref().map_or(&[][..], |image| &image.0[..]);
    committed.live.then(bytes)
}

impl Machine {
    pub(super) fn verdict<'a>(
        &mut self,
        item: &ItemId,
        scene: &Scene<'a>,
        logs: &BTreeMap<NodeId, &Logged>,
    ) -> Verdict<'a> {
        let Some(highest) = scene.highest() else {
            self.stays(item, scene, logs);
            return Verdict::Wait;
        };
        if scene.is_equal(&highest, |committed| self.may_lack(item, committed)) {
            return Verdict::Equal(highest.stamp);
        }
        let known: Vec<&'a Committed> =
            scene.heads.iter().filter_map(|head| head.committed).collect();
        let is_unclear = known.len() < scene.heads.len() || !scene.doubtful.is_empty();
        if (scene.heads.len() == 1 || is_unclear) && !self.stays(item, scene, logs) {
            return Verdict::Wait;
        }
        let Some(committed) = highest.committed else { return Verdict::Wait };
        if known.len() == 1 {
            Mark::LagMerged.hit();
            return Verdict::Write(Winner { committed, by: "lag" });
        }
        if known.iter().all(|other| content(other) == content(committed)) {
            Mark::SameMerged.hit();
            return Verdict::Write(Winner { committed, by: "same" });
        }
        self.by_chain(item, scene).map_or(Verdict::Undecided, Verdict::Write)
    }

    /// True once what everybody has has been the same for a while, and nothing of then is on its
    /// way any more, or it moves no more. Until then it is looked at again.
    pub(super) fn stays(
        &mut self,
        item: &ItemId,
        scene: &Scene<'_>,
        logs: &BTreeMap<NodeId, &Logged>,
    ) -> bool {
        let (now, settle, picture) = (self.now, self.config.merge.settle, scene.picture());
        let ends_now = || logs.iter().map(|(node, log)| (*node, log.end)).collect();
        if let Some(seen) = self.merger.seen.get_mut(item) {
            let is_same = seen.picture == picture;
            let ends = if is_same { seen.ends.clone() } else { ends_now() };
            let missing = scene.missing(&ends, logs);
            if is_same && missing == seen.missing {
                let patience = if missing.is_empty() { settle } else { STUCK * settle };
                return now >= seen.since + patience;
            }
            let since = if is_same && missing.is_empty() { seen.since } else { now };
            *seen = Seen { since, picture, ends, missing };
            return is_same && now >= since + settle;
        }
        if self.merger.seen.len() < AGENDA_MAX {
            let ends = ends_now();
            let missing = scene.missing(&ends, logs);
            self.merger.seen.insert(item.clone(), Seen { since: now, picture, ends, missing });
        }
        false
    }

    /// MASTERs have one voice each. So has a line that is committed nowhere any more: it was
    /// acknowledged, too.
    fn by_chain<'a>(&self, item: &ItemId, scene: &Scene<'a>) -> Option<Winner<'a>> {
        let placement = self.placements.get(&item.cluster)?;
        let masters =
            placement.masters.iter().filter_map(|node| Some((node, scene.states.get(node)?)));
        let had = |head: &&Head<'a>| scene.states.values().any(|s| s.stamp() == head.stamp);
        let nowhere = scene.heads.iter().filter(|head| !had(head));
        let lines = masters.filter_map(|(node, state)| {
            let center = placement.data_centers.get(node).map(|name| &**name);
            Some((scene.line_of(state)?.committed?, center))
        });
        // Who keeps a line that nobody has is in no data center.
        let lines = lines.chain(nowhere.filter_map(|head| Some((head.committed?, None))));
        let lines: Vec<(&'a Committed, Option<&str>)> = lines.collect();
        let copy = |(committed, data_center): &(&'a Committed, _)| Copy {
            content: content(committed).map(|bytes| (committed.stamp.version, bytes)),
            data_center: *data_center,
        };
        let copies: Vec<Copy<'_>> = lines.iter().map(copy).collect();
        let agreed = self.merger.chains.get(&item.cluster.database);
        let chain = agreed.unwrap_or(&self.config.merge.chain);
        let (winner, step) = chain.winner(&copies, placement.write_quorum)?;
        Mark::ChainDecided.hit();
        Some(Winner { committed: lines[winner].0, by: name_of(step) })
    }
}

const fn name_of(step: &Resolver) -> &'static str {
    match step {
        Resolver::Quorum => "quorum",
        Resolver::Content => "content",
        Resolver::Majority => "majority",
        Resolver::Version => "version",
        Resolver::DataCenter(_) => "dc",
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, ClusterKey, TxId};

    use super::*;

    fn stamp(node: u64, version: u64) -> Stamp {
        let tx = TxId { node: NodeId(node), boot: Boot(1), seq: version };
        Stamp { version, tx }
    }

    fn state(stamp: Stamp, ancestors: Vec<Stamp>, rivals: Vec<(Stamp, Vec<Stamp>)>) -> State {
        let item = ItemId::record(ClusterKey { database: 1, cluster: 10 }, 0);
        let committed = Some(Committed { stamp, live: true, image: None, elsewhere: None });
        State { item, committed, ancestors, rivals, busy: false }
    }

    fn heads(states: &[State]) -> (Vec<Stamp>, Vec<Stamp>) {
        let nodes = (1..).map(NodeId);
        let scene = Scene::of(nodes.zip(states).collect(), &[]);
        let stamps = |heads: &[Head<'_>]| heads.iter().map(|head| head.stamp).collect();
        (stamps(&scene.heads), stamps(&scene.doubtful))
    }

    /// One server went on alone for more versions than are known: the two that have the first one,
    /// or one in the gap, lag.
    #[test]
    fn what_is_known_of_no_line_is_in_doubt_and_not_a_line() {
        let far = |from| (from..42).map(|version| stamp(1, version)).collect::<Vec<_>>();
        let gap = [vec![stamp(1, 1)], far(11)].concat();
        let first = || state(stamp(1, 1), vec![], vec![]);
        let top = stamp(1, 42);
        let found = heads(&[state(top, gap.clone(), vec![]), first(), first()]);
        assert_eq!(found, (vec![top], vec![]), "the first one stays known");
        let found = heads(&[state(top, far(11), vec![]), first(), first()]);
        assert_eq!(found, (vec![top], vec![stamp(1, 1)]));
        let between = state(stamp(1, 5), vec![stamp(1, 4)], vec![]);
        let found = heads(&[state(top, gap, vec![]), between, first()]);
        assert_eq!(found, (vec![top], vec![stamp(1, 5)]));
    }

    /// What one server knows of a stamp counts for who has it without that, after an alignment.
    #[test]
    fn what_anybody_knows_of_a_stamp_counts() {
        let top = stamp(1, 3);
        let ancestors = vec![stamp(1, 1), stamp(1, 2)];
        let copied = state(top, vec![], vec![]);
        let behind = state(stamp(1, 2), vec![], vec![]);
        let found = heads(&[copied, state(top, ancestors, vec![]), behind]);
        assert_eq!(found, (vec![top], vec![]));
    }

    /// All have a merge that was made without this one: it was acknowledged, so it is a line.
    #[test]
    fn what_is_listed_and_built_upon_by_nobody_is_a_line() {
        let (base, top, other) = (stamp(1, 1), stamp(1, 3), stamp(2, 2));
        let known = || vec![base, stamp(1, 2)];
        let with = |rivals| state(top, known(), rivals);
        let listing = with(vec![(other, vec![base])]);
        let found = heads(&[listing.clone(), listing, with(vec![])]);
        assert_eq!(found, (vec![other, top], vec![]));
        let past = with(vec![(stamp(1, 2), vec![base])]);
        assert_eq!(heads(&[past]), (vec![top], vec![]));
    }
}

//! The source's side of an alignment: sessions of servers that align, each with a tree for
//! each cluster and the decisions settled here since it began. May not decide whether this
//! server itself is ONLINE.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, ItemId, ItemKey, NodeId, Operation, TxId};

use super::apply::Decision;
use super::merkle::Tree;
use super::{Cx, Machine};
use crate::alignment::{Answer, Ask, Digest, Followed, Known, Listing, Reached, TreeNode};
use crate::io::{PAGE_BYTES, Placement, bytes_of, is_last_page};
use crate::marks::Mark;
use crate::message::{Decided, Message};
use crate::survey::Leaves;

/// Content of the decisions kept for one server that aligns, in bytes: a source keeps them in
/// memory, for every such server, and must not fail for one that does not keep up.
const JOURNAL_BYTES: usize = 64 << 20;

/// One server that aligns with this one.
#[derive(Debug)]
pub(super) struct Session {
    number: u64,
    /// Number of the journal; no other session has it, not even one of the same number.
    journal_number: u64,
    trees: BTreeMap<ClusterKey, Tree>,
    /// A question about a tree that is not there yet.
    waiting: Option<(ClusterKey, Option<TreeNode>)>,
    /// Decisions settled here since the session began and not asked for yet.
    journal: VecDeque<Followed>,
    /// What those weigh.
    bytes: usize,
    /// Number of the first one in it.
    first: u64,
}

impl Machine {
    pub(super) fn on_ask(&mut self, cx: &mut Cx<'_>, from: NodeId, session: u64, ask: Ask) {
        if let Ask::Copy { cluster, from: after } = ask {
            self.on_ask_copy(cx, from, cluster, after);
            return;
        }
        if ask == Ask::Begin {
            self.begin_session(cx, from, session);
            return;
        }
        let known = self.aligners.get(&from).filter(|known| known.number == session);
        let Some(open_journal) = known.map(|known| known.journal_number) else {
            reply(cx, from, session, Answer::Unknown);
            return;
        };
        let answer = match ask {
            Ask::Begin | Ask::Copy { .. } => return,
            Ask::Known { after } => self.known_outcomes(cx, from, after),
            Ask::Children { cluster, node } => {
                if let Some(answer) = self.children_of(cx, from, cluster, node) {
                    reply(cx, from, session, answer);
                }
                return;
            }
            Ask::List { cluster, from, upto } => self.list(cx, cluster, from, upto.as_ref()),
            Ask::Get { items } => get(cx, items),
            Ask::Follow { journal, .. } if journal != open_journal => {
                // The session was dropped, and a `Begin` from before that came since.
                Mark::JournalLost.hit();
                Answer::Unknown
            }
            Ask::Follow { from: number, round, .. } => match self.followed(from, number, round) {
                Some(answer) => answer,
                None => return,
            },
            Ask::End => {
                self.aligners.remove(&from);
                return;
            }
        };
        reply(cx, from, session, answer);
    }

    /// A later session of the same server replaces an earlier one.
    fn begin_session(&mut self, cx: &mut Cx<'_>, from: NodeId, number: u64) {
        let known = self.aligners.get(&from).map(|known| (known.number, known.journal_number));
        if known.is_some_and(|(known, _)| known > number) {
            return;
        }
        let known = known.filter(|(known, _)| *known == number);
        let journal = known.map_or(self.last_journal + 1, |(_, journal)| journal);
        if known.is_none() {
            self.last_journal = journal;
            let session = Session {
                number,
                journal_number: journal,
                trees: BTreeMap::new(),
                waiting: None,
                journal: VecDeque::new(),
                bytes: 0,
                first: 0,
            };
            self.aligners.insert(from, session);
            // They are wanted one after the other; the first is waited for already.
            for cluster in self.clusters_for(from) {
                self.survey_for(cx, from, journal, cluster);
            }
        }
        reply(cx, from, number, Answer::Begun { journal });
    }

    /// Clusters that this server masters and another one keeps.
    fn clusters_for(&self, node: NodeId) -> Vec<ClusterKey> {
        let me = self.config.node;
        let both = |p: &Placement| p.masters.contains(&me) && p.is_held_by(node);
        self.placements.iter().filter(|(_, p)| both(p)).map(|(cluster, _)| *cluster).collect()
    }

    /// Called for every decision settled here: whoever aligns with this server must hear of it.
    pub(super) fn journal(&mut self, decision: &Decision) {
        if self.aligners.is_empty() {
            return;
        }
        let Decision { tx, outcome, participants, .. } = decision;
        for node in self.aligners.keys().copied().collect::<Vec<_>>() {
            let (ops, participants) = match outcome {
                Decided::Commit => (self.ops_held_by(node, &decision.ops), participants.clone()),
                Decided::Abort => (Vec::new(), Vec::new()),
            };
            if ops.is_empty() && *outcome == Decided::Commit {
                continue;
            }
            let entry = Followed { known: Known { tx: *tx, outcome: *outcome, participants }, ops };
            let Some(session) = self.aligners.get_mut(&node) else { continue };
            session.bytes += bytes_of_ops(&entry.ops);
            session.journal.push_back(entry);
            let is_long = session.journal.len() > self.config.align.journal;
            if is_long || session.bytes > JOURNAL_BYTES {
                Mark::JournalFull.hit();
                // It does not keep up, or is gone; a question shows it that it has to begin again.
                self.aligners.remove(&node);
            }
        }
    }

    /// `None` for a question of long ago, that came twice.
    fn followed(&mut self, asker: NodeId, number: u64, round: u64) -> Option<Answer> {
        let page = self.config.align.items;
        let Some(session) = self.aligners.get_mut(&asker) else { return Some(Answer::Unknown) };
        let last = session.first + session.journal.len() as u64;
        if number < session.first {
            return None;
        }
        if number > last {
            self.aligners.remove(&asker);
            return Some(Answer::Unknown);
        }
        while session.first < number
            && let Some(told) = session.journal.pop_front()
        {
            session.bytes -= bytes_of_ops(&told.ops);
            session.first += 1;
        }
        let mut bytes = 0;
        let decided: Vec<Followed> = session
            .journal
            .iter()
            .take(page)
            .take_while(|entry| {
                let fits = bytes < PAGE_BYTES;
                bytes += bytes_of_ops(&entry.ops);
                fits
            })
            .cloned()
            .collect();
        let is_last = decided.len() == session.journal.len();
        let end = is_last.then(|| Reached {
            applied: self.applied_positions(),
            received: self.told_positions(),
            ended: self.known_ends(),
            low: self.low_of_open_boots(),
            out_of_log: self.unlogged.iter().copied().collect(),
            generations: self.reached_generations(),
        });
        let elsewhere = self.mastered_not_kept_by(asker);
        Some(Answer::Followed { from: number, round, decided, end, elsewhere })
    }

    /// Clusters that this server masters, and another one does not keep.
    pub(super) fn mastered_not_kept_by(&self, node: NodeId) -> Vec<ClusterKey> {
        let me = self.config.node;
        let elsewhere =
            self.placements.iter().filter(|(_, p)| p.masters.contains(&me) && !p.is_held_by(node));
        elsewhere.map(|(cluster, _)| *cluster).collect()
    }

    pub(super) fn keeps_any(&self, clusters: &[ClusterKey]) -> bool {
        clusters.iter().any(|cluster| self.is_kept_by(self.config.node, *cluster))
    }

    /// Aborts not forgotten, and commits that touch a cluster of the asker.
    fn known_outcomes(&self, cx: &Cx<'_>, asker: NodeId, after: TxId) -> Answer {
        let page = self.config.align.items;
        let outcomes = cx.outcomes_after(after, page);
        let mut next =
            (outcomes.len() == page).then(|| outcomes.last().map(|(tx, _)| *tx)).flatten();
        let mut decided = Vec::new();
        let mut bytes = 0;
        for (tx, outcome) in outcomes {
            let participants = match outcome {
                Decided::Commit => {
                    let record = cx.tx(tx).unwrap_or_default();
                    bytes += bytes_of_ops(&record.ops);
                    record.participants
                }
                Decided::Abort => Vec::new(),
            };
            let theirs = participants.iter().any(|p| self.is_kept_by(asker, p.cluster));
            if theirs || outcome == Decided::Abort {
                decided.push(Known { tx, outcome, participants });
            }
            if bytes >= PAGE_BYTES {
                next = Some(tx);
                break;
            }
        }
        let low = self.low.iter().map(|((node, boot), seq)| (*node, *boot, *seq)).collect();
        Answer::Known { after, decided, next, low }
    }

    /// `None` while the digests are read; the answer follows.
    fn children_of(
        &mut self,
        cx: &mut Cx<'_>,
        asker: NodeId,
        cluster: ClusterKey,
        node: Option<TreeNode>,
    ) -> Option<Answer> {
        let session = self.aligners.get_mut(&asker)?;
        if let Some(tree) = session.trees.get(&cluster) {
            return Some(Answer::Children { cluster, node, children: tree.children(node) });
        }
        session.waiting = Some((cluster, node));
        let journal = session.journal_number;
        self.survey_for(cx, asker, journal, cluster);
        None
    }

    /// A session with this journal is open.
    pub(super) fn keeps_journal(&self, asker: NodeId, journal: u64) -> bool {
        let session = self.aligners.get(&asker);
        session.is_some_and(|session| session.journal_number == journal)
    }

    /// The digests of a cluster are read; false when nobody waits for them any more.
    pub(super) fn take_tree(
        &mut self,
        cx: &mut Cx<'_>,
        asker: NodeId,
        journal: u64,
        cluster: ClusterKey,
        leaves: Leaves,
    ) -> bool {
        let session = self.aligners.get_mut(&asker);
        let Some(session) = session.filter(|session| session.journal_number == journal) else {
            return false;
        };
        let tree = session.trees.entry(cluster).or_insert_with(|| Tree::new(leaves));
        if let Some((_, node)) = session.waiting.take_if(|(waits, _)| *waits == cluster) {
            let children = tree.children(node);
            reply(cx, asker, session.number, Answer::Children { cluster, node, children });
        }
        true
    }

    fn list(
        &self,
        cx: &Cx<'_>,
        cluster: ClusterKey,
        from: Option<ItemKey>,
        upto: Option<&ItemKey>,
    ) -> Answer {
        let page = self.config.align.items;
        let items = cx.items_after(cluster, from.as_ref(), page);
        let full = !is_last_page(&items, page);
        let last = items.last().map(|(key, _)| key.clone());
        let inside = |key: &ItemKey| upto.is_none_or(|upto| key <= upto);
        let next = last.filter(|last| full && upto.is_none_or(|upto| last < upto));
        let entries = items
            .into_iter()
            .filter(|(key, committed)| inside(key) && !self.everybody_had(key, committed))
            .map(|(key, committed)| {
                let digest = Digest::of(&key, &committed);
                Listing { key, stamp: committed.stamp, digest }
            })
            .collect();
        Answer::Listed { cluster, from, entries, next }
    }
}

fn get(cx: &Cx<'_>, asked: Vec<ItemId>) -> Answer {
    let first = asked.first().cloned();
    let (mut count, mut bytes) = (0, 0);
    let mut items = Vec::new();
    for item in asked {
        if bytes >= PAGE_BYTES {
            break;
        }
        count += 1;
        if let Some(committed) = cx.item(&item) {
            bytes += bytes_of(&item.key, &committed);
            items.push((item, committed));
        }
    }
    Answer::Got { asked: (count, first), items }
}

fn bytes_of_ops(ops: &[Operation]) -> usize {
    ops.iter().filter_map(|op| op.image.as_ref()).map(|image| image.0.len()).sum()
}

/// What is told to a server that aligns is durable here first, like every answer of an acceptor.
fn reply(cx: &mut Cx<'_>, to: NodeId, session: u64, answer: Answer) {
    cx.send_durable(to, Message::AlignReply { session, answer });
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, Image, OpKind, Stamp};

    use super::*;
    use crate::io::{Effect, Event, Recovered};
    use crate::machine::READS_BITS;
    use crate::machine::testing::{CLUSTER, NOTHING, PEER, configured};

    /// Number of the first journal of a first boot.
    const FIRST: u64 = (1 << READS_BITS) + 1;

    fn ask(machine: &mut Machine, ask: Ask) -> Option<Answer> {
        let mut out = Vec::new();
        let message = Message::Align { session: 1, ask };
        let event = Event::Message { from: PEER, cfg: 1, message };
        machine.step(machine.now, event, &NOTHING, &mut out);
        out.into_iter().find_map(|effect| {
            let Effect::Send { message: Message::AlignReply { answer, .. }, .. } = effect else {
                return None;
            };
            Some(answer)
        })
    }

    fn source() -> Machine {
        let mut machine = configured(Boot(1), Recovered::default());
        let up = Event::Peer { node: PEER, boot: Boot(1), up: true };
        machine.step(0, up, &NOTHING, &mut Vec::new());
        assert_eq!(ask(&mut machine, Ask::Begin), Some(Answer::Begun { journal: FIRST }));
        machine
    }

    fn settled(seq: u64, bytes: usize) -> Decision {
        let op = Operation {
            item: ItemId::record(CLUSTER, seq),
            kind: OpKind::Create,
            base: Stamp::ABSENT,
            image: Some(Image::from(vec![0; bytes])),
        };
        let tx = TxId { node: NodeId(1), boot: Boot(1), seq };
        Decision { tx, outcome: Decided::Commit, participants: Vec::new(), ops: vec![op] }
    }

    /// Numbers of the decisions told, and whether that was all.
    fn follow(machine: &mut Machine, from: u64) -> Option<(Vec<u64>, bool)> {
        let answer = ask(machine, Ask::Follow { journal: FIRST, from, round: 1 })?;
        let Answer::Followed { decided, end, .. } = answer else { panic!("{answer:?}") };
        Some((decided.iter().map(|followed| followed.known.tx.seq).collect(), end.is_some()))
    }

    #[test]
    fn what_is_kept_for_one_that_aligns_is_bounded_in_bytes() {
        let mut machine = source();
        let mib = 1 << 20;
        for seq in 1..=60 {
            machine.journal(&settled(seq, mib));
        }
        // Three are asked for: there is room for three more.
        let mut told = Vec::new();
        for from in 0..4 {
            let (page, is_end) = follow(&mut machine, from).unwrap();
            assert_eq!((page.len(), is_end), (1, false), "one of them is a page");
            told.extend(page);
        }
        assert_eq!(told, [1, 2, 3, 4]);
        for seq in 61..=67 {
            machine.journal(&settled(seq, mib));
        }
        assert!(follow(&mut machine, 4).is_some());
        for seq in 68..=70 {
            machine.journal(&settled(seq, mib));
        }
        let answer = ask(&mut machine, Ask::Follow { journal: FIRST, from: 5, round: 1 });
        assert_eq!(answer, Some(Answer::Unknown), "it does not keep up");
    }

    #[test]
    fn a_question_of_long_ago_does_not_end_the_session() {
        let mut machine = source();
        for seq in 1..=3 {
            machine.journal(&settled(seq, 1));
        }
        assert_eq!(follow(&mut machine, 0), Some((vec![1, 2, 3], true)));
        assert_eq!(follow(&mut machine, 2), Some((vec![3], true)));
        assert_eq!(follow(&mut machine, 0), None, "came twice");
        assert_eq!(follow(&mut machine, 3), Some((vec![], true)));
        let answer = ask(&mut machine, Ask::Follow { journal: FIRST, from: 5, round: 1 });
        assert_eq!(answer, Some(Answer::Unknown), "of a session that was lost here");
    }

    /// It was under way while the link was down, and what was settled then was kept for nobody.
    #[test]
    fn a_begin_that_comes_late_opens_another_journal() {
        let mut machine = source();
        assert_eq!(ask(&mut machine, Ask::Begin), Some(Answer::Begun { journal: FIRST }), "twice");
        for up in [false, true] {
            let peer = Event::Peer { node: PEER, boot: Boot(1), up };
            machine.step(machine.now, peer, &NOTHING, &mut Vec::new());
            machine.journal(&settled(u64::from(up), 1));
        }
        let answer = ask(&mut machine, Ask::Begin);
        assert_eq!(answer, Some(Answer::Begun { journal: FIRST + 1 }));
        let answer = ask(&mut machine, Ask::Follow { journal: FIRST, from: 0, round: 1 });
        assert_eq!(answer, Some(Answer::Unknown));
        let answer = ask(&mut machine, Ask::Follow { journal: FIRST + 1, from: 0, round: 1 });
        assert!(matches!(answer, Some(Answer::Followed { .. })), "{answer:?}");
    }
}

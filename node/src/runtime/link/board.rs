//! What servers tell of themselves, as it goes round: each tells its neighbours in the tree, who
//! pass it on. May not know links, nor who is whose neighbour.
//!
//! A notice is its server's alone: it counts them, and the highest of its highest boot is what
//! holds. A neighbour that cannot reach a server says so of the last notice that it has; whoever
//! hears that of itself tells a newer one, which holds again (as in SWIM). With a neighbour, those
//! are in doubt whose notices came through it: who is there finds another neighbour, and tells a
//! newer one through that; who does not is taken for lost as well.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Boot, NodeId};
use quorate_protocol::io::Tick;
use serde::{Deserialize, Serialize};

use crate::http::backend::NodeState;
use crate::http::members::{Bulletin, ServerState};

/// Periods without a notice after which a server counts as gone, and what messages may take.
const PERIODS: Tick = 4;
const UNDER_WAY: Tick = 2_000_000;
/// What it may take to find another neighbour and to be heard of through it, at least: who stands
/// further below tells nothing new before its next notice.
const DOUBT: Tick = 3_000_000;
/// How long nobody must have heard of a server that is to be given up, at least.
const SILENCE: Tick = 10_000_000;

/// What a server tells of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Notice {
    /// Which.
    pub(crate) node: NodeId,
    /// In which boot.
    pub(crate) boot: Boot,
    /// Counts up within the boot.
    pub(crate) number: u64,
    /// A neighbour could not reach it any more when it had this notice.
    pub(crate) lost: bool,
    /// Where it is in its life.
    pub(crate) state: NodeState,
    /// What else.
    pub(crate) bulletin: Bulletin,
}

impl Notice {
    const fn rank(&self) -> (u32, u64, bool) {
        (self.boot.0, self.number, self.lost)
    }
}

#[derive(Debug)]
struct Known {
    notice: Notice,
    /// Counts changes of the board.
    version: u64,
    from: Option<NodeId>,
    at: Tick,
    /// Since when the neighbour is lost through which it came.
    doubted: Option<Tick>,
}

/// The newest notices.
#[derive(Debug, Default)]
pub(crate) struct Board {
    own: NodeId,
    boot: Boot,
    version: u64,
    known: BTreeMap<NodeId, Known>,
    /// Who is in the cluster; empty before that is known.
    members: BTreeSet<NodeId>,
    now: Tick,
    /// Between two notices of a server.
    period: Tick,
}

impl Board {
    pub(super) fn of(own: NodeId, boot: Boot) -> Self {
        Self { own, boot, ..Self::default() }
    }

    /// Time passes; doubts become losses.
    pub(super) fn pass(&mut self, now: Tick) {
        self.now = self.now.max(now);
        let doubt = DOUBT.max(self.period + UNDER_WAY);
        let is_over = |known: &&Known| known.doubted.is_some_and(|since| since + doubt <= now);
        let lost = self.known.values().filter(is_over).map(|known| known.notice.clone());
        for notice in lost.collect::<Vec<_>>() {
            self.put(Notice { lost: true, ..notice }, None);
        }
    }

    pub(super) fn set_period(&mut self, period: Tick) {
        self.period = period;
    }

    /// Those that are not in the cluster are forgotten, whoever still tells of them.
    pub(super) fn keep(&mut self, members: BTreeSet<NodeId>) {
        let own = self.own;
        self.known.retain(|node, _| *node == own || members.contains(node));
        self.members = members;
    }

    fn put(&mut self, notice: Notice, from: Option<NodeId>) {
        self.version += 1;
        let (version, at) = (self.version, self.now);
        self.known.insert(notice.node, Known { notice, version, from, at, doubted: None });
    }

    /// This server tells of itself.
    pub(super) fn publish(&mut self, state: NodeState, bulletin: Option<Bulletin>) {
        let before = self.known.get(&self.own).map(|known| &known.notice);
        let number = before.map_or(0, |notice| notice.number) + 1;
        let bulletin = bulletin.or_else(|| before.map(|notice| notice.bulletin.clone()));
        let (node, boot, bulletin) = (self.own, self.boot, bulletin.unwrap_or_default());
        self.put(Notice { node, boot, number, lost: false, state, bulletin }, None);
    }

    /// A neighbour passes a notice on. True when this server has to say that it is there.
    pub(super) fn learn(&mut self, notice: Notice, from: Option<NodeId>) -> bool {
        if let Some(known) = self.known.get_mut(&notice.node)
            && known.notice.rank() == notice.rank()
            && known.from == from
        {
            // The neighbour that it came through is back.
            known.doubted = None;
        }
        let known = self.known.get(&notice.node).map(|known| &known.notice);
        if notice.node == self.own {
            let own = known.map_or(0, |known| known.number);
            return notice.lost && notice.boot == self.boot && notice.number >= own;
        }
        let is_there = self.members.is_empty() || self.members.contains(&notice.node);
        if is_there && known.is_none_or(|known| known.rank() < notice.rank()) {
            self.put(notice, from);
        }
        false
    }

    /// A neighbour cannot be reached any more in this boot; those behind it are in doubt.
    pub(super) fn lose(&mut self, node: NodeId, boot: Boot) {
        let now = self.now;
        let behind = |known: &&mut Known| known.from == Some(node) && !known.notice.lost;
        for known in self.known.values_mut().filter(behind) {
            known.doubted.get_or_insert(now);
        }
        let known = self.known.get(&node).map(|known| known.notice.clone());
        if let Some(notice) = known.filter(|notice| !notice.lost && notice.boot == boot) {
            self.put(Notice { lost: true, ..notice }, None);
        }
    }

    /// What changed since a version and did not come from there; and the version now.
    pub(super) fn news(&self, since: u64, to: Option<NodeId>) -> (Vec<Notice>, u64) {
        let is_news =
            |known: &&Known| known.version > since && (known.from.is_none() || known.from != to);
        let news = self.known.values().filter(is_news).map(|known| known.notice.clone());
        (news.collect(), self.version)
    }

    /// What a server told last, at least in this boot.
    pub(super) fn bulletin(&self, node: NodeId, boot: Option<Boot>) -> Option<Bulletin> {
        let known = self.known.get(&node).map(|known| &known.notice);
        let known = known.filter(|notice| boot.is_none_or(|boot| notice.boot >= boot));
        known.map(|notice| notice.bulletin.clone())
    }

    /// True when the last that a server told, at least in this boot, is that it has stopped.
    pub(super) fn has_left(&self, node: NodeId, boot: Boot) -> bool {
        let known = self.known.get(&node).map(|known| &known.notice);
        known.is_some_and(|notice| notice.boot >= boot && notice.state == NodeState::Offline)
    }

    /// Somebody hears a server, or did until a moment ago, or this one has just started and would
    /// not know. What gives a server up for good goes by this.
    pub(super) fn is_heard(&self, node: NodeId) -> bool {
        let silence = SILENCE.max(PERIODS * self.period + UNDER_WAY);
        let known = self.known.get(&node);
        let has_left = known.is_some_and(|known| known.notice.state == NodeState::Offline);
        let last = known.map_or(0, |known| known.at);
        !has_left && self.now.saturating_sub(last) < silence
    }

    /// How a server is that this one has no link with.
    pub(super) fn state(&self, node: NodeId) -> ServerState {
        let Some(Known { notice, at, .. }) = self.known.get(&node) else {
            return ServerState::Offline;
        };
        if notice.state == NodeState::Offline {
            return ServerState::Offline;
        }
        let is_old = self.now.saturating_sub(*at) > PERIODS * self.period + UNDER_WAY;
        if notice.lost || is_old {
            ServerState::NotAvailable
        } else {
            ServerState::Is(notice.state)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONLINE: ServerState = ServerState::Is(NodeState::Online);

    fn board(own: u64) -> Board {
        let mut board = Board::of(NodeId(own), Boot(1));
        board.set_period(1_000_000);
        board
    }

    /// From one board to another, in one go.
    fn tell(from: &Board, to: &mut Board) -> bool {
        let (news, _) = from.news(0, Some(to.own));
        let mut refutes = false;
        for notice in news {
            refutes |= to.learn(notice, Some(from.own));
        }
        refutes
    }

    /// FEATURES: S11
    #[test]
    fn what_is_told_goes_round_once_and_not_back() {
        let (mut a, mut b, mut c) = (board(1), board(2), board(3));
        let told = Bulletin { connections: 3, ..Bulletin::default() };
        a.publish(NodeState::Online, Some(told.clone()));
        tell(&a, &mut b);
        assert_eq!(b.news(0, Some(NodeId(1))).0, [], "it is theirs");
        tell(&b, &mut c);
        assert_eq!((c.state(NodeId(1)), c.bulletin(NodeId(1), None)), (ONLINE, Some(told.clone())));
        assert_eq!(c.bulletin(NodeId(1), Some(Boot(2))), None, "that was another life");
        let (_, version) = b.news(0, None);
        tell(&a, &mut b);
        assert_eq!(b.news(version, None).0, [], "nothing new");
        a.publish(NodeState::Aligning, None);
        tell(&a, &mut b);
        assert_eq!(b.state(NodeId(1)), ServerState::Is(NodeState::Aligning));
        assert_eq!(b.bulletin(NodeId(1), None), Some(told));
    }

    /// FEATURES: S11
    #[test]
    fn who_is_taken_for_lost_says_that_it_is_there() {
        let (mut a, mut b, mut c) = (board(1), board(2), board(3));
        a.publish(NodeState::Online, None);
        tell(&a, &mut b);
        b.lose(NodeId(1), Boot(2));
        assert_eq!(b.state(NodeId(1)), ONLINE, "that boot has not told anything");
        b.lose(NodeId(1), Boot(1));
        tell(&b, &mut c);
        assert_eq!(c.state(NodeId(1)), ServerState::NotAvailable);
        assert!(tell(&c, &mut a), "it hears of it");
        a.publish(NodeState::Online, None);
        tell(&a, &mut c);
        tell(&b, &mut c);
        assert_eq!(c.state(NodeId(1)), ONLINE, "what b says is older");
        a.publish(NodeState::Offline, None);
        tell(&a, &mut b);
        b.lose(NodeId(1), Boot(1));
        b.pass(100_000_000);
        assert_eq!(b.state(NodeId(1)), ServerState::Offline, "it has said so itself");
    }

    /// FEATURES: S11
    #[test]
    fn who_was_behind_a_lost_neighbour_is_lost_unless_it_is_heard_of_elsewhere() {
        let (mut top, mut relay, mut other) = (board(1), board(2), board(3));
        let (mut gone, mut moved) = (board(4), board(5));
        for leaf in [&mut gone, &mut moved] {
            leaf.publish(NodeState::Online, None);
            tell(leaf, &mut relay);
        }
        relay.publish(NodeState::Online, None);
        tell(&relay, &mut top);
        top.lose(NodeId(2), Boot(1));
        assert_eq!(top.state(NodeId(2)), ServerState::NotAvailable);
        moved.publish(NodeState::Online, None);
        tell(&moved, &mut other);
        tell(&other, &mut top);
        top.pass(DOUBT - 1);
        top.lose(NodeId(2), Boot(1));
        assert_eq!(top.state(NodeId(4)), ONLINE, "it may find another neighbour");
        top.pass(DOUBT);
        assert_eq!(top.state(NodeId(4)), ServerState::NotAvailable);
        top.pass(2 * DOUBT);
        assert_eq!(top.state(NodeId(5)), ONLINE, "it was heard of through another");
        tell(&top, &mut other);
        assert_eq!(other.state(NodeId(4)), ServerState::NotAvailable, "others are told");
    }

    /// FEATURES: S11
    #[test]
    fn who_tells_seldom_is_in_doubt_for_longer() {
        let (mut top, mut relay, mut leaf) = (board(1), board(2), board(4));
        let period = 10_000_000;
        top.set_period(period);
        leaf.publish(NodeState::Online, None);
        tell(&leaf, &mut relay);
        tell(&relay, &mut top);
        top.lose(NodeId(2), Boot(1));
        top.pass(period + UNDER_WAY - 1);
        assert_eq!(top.state(NodeId(4)), ONLINE, "its next notice may be under way");
        top.pass(period + UNDER_WAY);
        assert_eq!(top.state(NodeId(4)), ServerState::NotAvailable);
    }

    /// FEATURES: A20, S11
    #[test]
    fn who_is_lost_here_is_heard_until_nobody_has_told_of_it_for_long() {
        let (mut a, mut b, mut c) = (board(1), board(2), board(3));
        assert!(a.is_heard(NodeId(3)), "a has just started");
        a.pass(SILENCE);
        assert!(!a.is_heard(NodeId(3)), "never met");
        c.publish(NodeState::Online, None);
        tell(&c, &mut a);
        tell(&c, &mut b);
        a.lose(NodeId(3), Boot(1));
        a.pass(2 * SILENCE - 1);
        assert_eq!((a.state(NodeId(3)), a.is_heard(NodeId(3))), (ServerState::NotAvailable, true));
        c.publish(NodeState::Online, None);
        tell(&c, &mut b);
        tell(&b, &mut a);
        a.pass(3 * SILENCE - 2);
        assert!(a.is_heard(NodeId(3)), "another one hears it");
        a.pass(3 * SILENCE - 1);
        assert!(!a.is_heard(NodeId(3)), "no more");
        c.publish(NodeState::Online, None);
        tell(&c, &mut a);
        assert!(a.is_heard(NodeId(3)));
        c.publish(NodeState::Offline, None);
        tell(&c, &mut a);
        assert!(!a.is_heard(NodeId(3)), "it has said that it stops");
    }

    #[test]
    fn a_neighbour_that_is_back_ends_the_doubts() {
        let (mut top, mut relay, mut leaf) = (board(1), board(2), board(4));
        leaf.publish(NodeState::Online, None);
        tell(&leaf, &mut relay);
        tell(&relay, &mut top);
        top.lose(NodeId(2), Boot(1));
        tell(&relay, &mut top);
        top.pass(DOUBT);
        assert_eq!(top.state(NodeId(4)), ONLINE);
    }

    #[test]
    fn who_is_not_heard_of_is_gone_and_who_is_removed_forgotten() {
        let (mut a, mut b) = (board(1), board(2));
        a.publish(NodeState::Online, None);
        tell(&a, &mut b);
        assert_eq!(b.state(NodeId(7)), ServerState::Offline);
        b.pass(4_000_000 + UNDER_WAY + 1);
        assert_eq!(b.state(NodeId(1)), ServerState::NotAvailable);
        b.keep([NodeId(2)].into());
        assert_eq!(b.state(NodeId(1)), ServerState::Offline);
        tell(&a, &mut b);
        assert_eq!(b.state(NodeId(1)), ServerState::Offline, "a has not heard that it is removed");
    }
}

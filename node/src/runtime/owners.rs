//! Who of the MASTERs is there, as the server that leads the control plane needs to know: owners of
//! clusters move when one is lost, and home again when it is back (FEATURES A7); one that no
//! database enlists leaves after a while. Time only as ticks of the control plane. May not decide
//! who gets what: that is agreed on.

use std::collections::BTreeMap;

use quorate_api::NodeId;
use quorate_control::command::Command;
use quorate_control::schema::Schema;
use quorate_control::servers::Member;

use crate::http::backend::NodeState;
use crate::http::members::ServerState;

/// Ticks for which a server was gone, or there again, before owners move: a link that is made anew
/// moves nothing.
const SETTLED: u32 = 5;
/// The same for one that this boot has never reached: it may only be starting, too.
const STARTED: u32 = 40;
/// The same before it may leave: in a cluster that starts cold, servers come one after the other.
/// 30 s.
const UNMET: u32 = 600;
/// Before it is asked again for what was refused, or what nobody answered.
const REST: u32 = 20;

/// How a MASTER is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// Reachable and ONLINE.
    Serving,
    /// Reachable, or heard through others.
    Linked,
    /// Not reachable.
    Gone,
}

impl From<ServerState> for Presence {
    fn from(state: ServerState) -> Self {
        match state {
            ServerState::Is(NodeState::Online) => Self::Serving,
            ServerState::Is(
                NodeState::Starting | NodeState::Aligning | NodeState::ShuttingDown,
            ) => Self::Linked,
            ServerState::Is(NodeState::Offline)
            | ServerState::NotAvailable
            | ServerState::Offline => Self::Gone,
        }
    }
}

#[derive(Debug)]
struct Seen {
    presence: Presence,
    /// Ticks for which it is so.
    ticks: u32,
    was_reached: bool,
}

/// What a server that is to stop does with its clusters next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has asked already.
    Wait,
    /// It asks for this.
    Ask(Command),
    /// It has none, or nobody could agree on who gets them.
    Done,
}

/// Every MASTER, as seen from here. Every server watches, so that one that comes to lead knows at
/// once.
#[derive(Debug, Default)]
pub(super) struct Owners {
    seen: BTreeMap<NodeId, Seen>,
    /// Number of the request that moves owners now.
    asked: Option<u64>,
    /// For how many ticks, on top of those above, a MASTER is lost before it leaves, where it may;
    /// `None`: for ever.
    remove_after: Option<u32>,
    /// Ticks until a removal may be asked for.
    rest: u32,
    /// Ticks until it may be asked for that one is taken back.
    rest_back: u32,
}

impl Owners {
    /// Before anybody was seen.
    pub(super) fn new(remove_after: Option<u64>) -> Self {
        let remove_after = remove_after.map(|ticks| u32::try_from(ticks).unwrap_or(u32::MAX));
        Self { remove_after, ..Self::default() }
    }

    /// A tick has passed, and this is how everybody is seen, and whether it was heard lately: who
    /// cannot be reached from here may well be by others, and serve.
    pub(super) fn look(&mut self, states: impl Iterator<Item = (NodeId, ServerState, bool)>) {
        self.rest = self.rest.saturating_sub(1);
        self.rest_back = self.rest_back.saturating_sub(1);
        for (node, state, is_heard) in states {
            let presence = match Presence::from(state) {
                Presence::Gone if is_heard => Presence::Linked,
                presence @ (Presence::Gone | Presence::Linked | Presence::Serving) => presence,
            };
            let before = self.seen.get(&node);
            let same = before.filter(|before| before.presence == presence);
            let ticks = same.map_or(0, |same| same.ticks.saturating_add(1));
            let was_reached = before.is_some_and(|before| before.was_reached);
            let was_reached = was_reached || presence != Presence::Gone;
            self.seen.insert(node, Seen { presence, ticks, was_reached });
        }
    }

    /// What the server that leads has to ask for now, if nothing is asked for yet. With a minority
    /// nothing is: what it asked for would be carried out when the majority is back, too late.
    ///
    /// A MASTER gets nothing before it is one of every cluster (`votes`).
    pub(super) fn due(&self, schema: &Schema, votes: impl Fn(NodeId) -> bool) -> Option<Command> {
        if self.asked.is_some() || !self.has_majority(schema) {
            return None;
        }
        let to = self.serving(schema);
        for (node, seen) in self.masters(schema) {
            let settled = if seen.was_reached { SETTLED } else { STARTED };
            if seen.ticks < settled {
                continue;
            }
            match seen.presence {
                Presence::Gone if schema.has_to_move(node) && !to.is_empty() => {
                    return Some(Command::MoveOwners { lost: node, to });
                }
                Presence::Gone if self.is_to_go(schema, node, seen) => {
                    return Some(Command::RemoveAbsent { node, revision: schema.revision });
                }
                Presence::Serving if !votes(node) => {}
                Presence::Serving if schema.is_missed(node) => {
                    return Some(Command::ReturnOwners { back: node });
                }
                Presence::Serving if schema.lacks_clusters(node) => {
                    return Some(Command::AddClusters { to: node });
                }
                Presence::Gone | Presence::Serving | Presence::Linked => {}
            }
        }
        None
    }

    /// A server was lost for so many ticks that it leaves, if it may.
    fn is_to_go(&self, schema: &Schema, node: NodeId, seen: &Seen) -> bool {
        let settled = if seen.was_reached { SETTLED } else { UNMET };
        let ticks = seen.ticks.checked_sub(settled);
        let is_over = ticks.zip(self.remove_after).is_some_and(|(ticks, after)| ticks >= after);
        is_over && self.rest == 0 && schema.check_absent(node).is_ok()
    }

    /// One of those who are on their way out because they were lost is there again: the server that
    /// leads asks for it to stay what it was. At once, for soon that is too late.
    pub(super) fn stays<'a>(
        &self,
        schema: &Schema,
        mut lost: impl Iterator<Item = &'a Member>,
    ) -> Option<Command> {
        if self.asked.is_some() || self.rest_back > 0 || !self.has_majority(schema) {
            return None;
        }
        let is_there = |seen: &Seen| seen.presence != Presence::Gone;
        let back = lost.find(|server| self.seen.get(&server.node).is_some_and(is_there))?;
        Some(Command::SetRole { server: back.name.clone(), role: back.role })
    }

    /// The server that looks is to stop: whether it leads or not, it asks for others to own what it
    /// does. Again, should it get it back meanwhile.
    pub(super) fn give(&self, schema: &Schema, own: NodeId) -> Step {
        if self.asked.is_some() {
            return Step::Wait;
        }
        let to = self.serving(schema);
        if !schema.has_to_move(own) || to.is_empty() || !self.has_majority(schema) {
            return Step::Done;
        }
        Step::Ask(Command::MoveOwners { lost: own, to })
    }

    fn masters<'a>(&'a self, schema: &'a Schema) -> impl Iterator<Item = (NodeId, &'a Seen)> {
        schema.masters().filter_map(|server| Some((server.node, self.seen.get(&server.node)?)))
    }

    /// Those who own clusters, and witnesses.
    fn voters<'a>(&'a self, schema: &'a Schema) -> impl Iterator<Item = &'a Seen> {
        schema.voters().filter_map(|server| self.seen.get(&server.node))
    }

    fn serving(&self, schema: &Schema) -> Vec<NodeId> {
        let serving = self.masters(schema).filter(|(_, s)| s.presence == Presence::Serving);
        serving.map(|(node, _)| node).collect()
    }

    fn has_majority(&self, schema: &Schema) -> bool {
        let reached = self.voters(schema).filter(|seen| seen.presence != Presence::Gone);
        reached.count() * 2 > schema.master_count()
    }

    /// It was asked for.
    pub(super) fn asked(&mut self, request: u64, command: &Command) {
        self.asked = Some(request);
        if matches!(command, Command::RemoveAbsent { .. }) {
            self.rest = REST;
        } else if matches!(command, Command::SetRole { .. }) {
            self.rest_back = REST;
        }
    }

    /// A request was answered; true when it was the one that moves owners.
    pub(super) fn answered(&mut self, request: u64) -> bool {
        self.asked.take_if(|asked| *asked == request).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use quorate_control::dynamic::NewNodes;
    use quorate_control::members::WriteQuorum;
    use quorate_control::schema::DatabaseKind;
    use quorate_control::settings::NewDatabase;

    const ONLINE: ServerState = ServerState::Is(NodeState::Online);
    const GONE: ServerState = ServerState::NotAvailable;
    /// Not reachable from here, yet heard through another one.
    const HEARD: ServerState = ServerState::Offline;

    fn schema() -> Schema {
        let masters: Vec<_> = (1..=3).map(|n| (format!("n{n}"), NodeId(n))).collect();
        let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
        Schema::founded_by(&masters).create_database(&new).unwrap()
    }

    fn look(owners: &mut Owners, states: [ServerState; 3], ticks: u32) {
        for _ in 0..ticks {
            let all = (1..=3).map(NodeId).zip(states);
            owners.look(all.map(|(node, state)| (node, state, state == HEARD)));
        }
    }

    fn moved(lost: u64, to: &[u64]) -> Option<Command> {
        let to = to.iter().copied().map(NodeId).collect();
        Some(Command::MoveOwners { lost: NodeId(lost), to })
    }

    /// FEATURES: A7
    #[test]
    fn a_server_is_lost_only_after_a_moment_and_with_a_majority_here() {
        let (schema, mut owners) = (schema(), Owners::default());
        look(&mut owners, [ONLINE; 3], 10);
        assert_eq!(owners.due(&schema, |_| true), None);
        look(&mut owners, [ONLINE, GONE, ONLINE], SETTLED);
        assert_eq!(owners.due(&schema, |_| true), None, "it may be back at once");
        look(&mut owners, [ONLINE; 3], 1);
        look(&mut owners, [ONLINE, GONE, ONLINE], SETTLED);
        assert_eq!(owners.due(&schema, |_| true), None, "it was back");
        look(&mut owners, [ONLINE, GONE, ONLINE], 1);
        assert_eq!(owners.due(&schema, |_| true), moved(2, &[1, 3]));
        owners.asked(7, &moved(2, &[1, 3]).unwrap());
        assert_eq!(owners.due(&schema, |_| true), None, "one at a time");
        assert!(!owners.answered(6) && owners.answered(7) && !owners.answered(7));
        assert_eq!(owners.due(&schema, |_| true), moved(2, &[1, 3]));
        // Linked again is not lost, but takes nothing over either.
        look(&mut owners, [ONLINE, ServerState::Is(NodeState::Aligning), GONE], 10);
        assert_eq!(owners.due(&schema, |_| true), moved(3, &[1]));
        look(&mut owners, [ONLINE, HEARD, ONLINE], 10);
        assert_eq!(owners.due(&schema, |_| true), None, "others reach it");
        look(&mut owners, [ONLINE, GONE, GONE], 10);
        assert_eq!(owners.due(&schema, |_| true), None, "a minority moves nothing");
    }

    /// FEATURES: S9, A12
    #[test]
    fn whom_no_database_enlists_leaves_after_a_while_and_never_for_a_minority() {
        let masters: Vec<_> = (1..=3).map(|n| (format!("n{n}"), NodeId(n))).collect();
        let founded = Schema::founded_by(&masters);
        let database = |new_nodes| {
            let new = NewDatabase::new("bench", DatabaseKind::Plocal, WriteQuorum::Majority);
            let new = NewDatabase { new_nodes, ..new };
            let mut given = founded.create_database(&new).unwrap();
            // Whoever is lost has no clusters any more.
            let clusters = given.databases.iter_mut().flat_map(|db| &mut db.clusters);
            for cluster in clusters.filter(|cluster| cluster.owner == NodeId(2)) {
                cluster.owner = NodeId(1);
            }
            given
        };
        let dynamic = database(NewNodes::Dynamic(BTreeSet::new()));
        let (node, revision) = (NodeId(2), dynamic.revision);
        let leaves = Some(Command::RemoveAbsent { node, revision });
        for (after, ticks) in [(Some(0), 0), (Some(10), 10)] {
            let mut owners = Owners::new(after);
            look(&mut owners, [ONLINE; 3], 1);
            look(&mut owners, [ONLINE, GONE, ONLINE], SETTLED + ticks);
            assert_eq!(owners.due(&dynamic, |_| true), None, "it may be back");
            look(&mut owners, [ONLINE, GONE, ONLINE], 1);
            assert_eq!(owners.due(&dynamic, |_| true), leaves);
            assert_eq!(owners.due(&database(NewNodes::Static), |_| true), None, "enlisted");
            owners.asked(7, leaves.as_ref().unwrap());
            assert!(owners.answered(7));
            assert_eq!(owners.due(&dynamic, |_| true), None, "refused: not at once again");
            look(&mut owners, [ONLINE, GONE, GONE], REST);
            assert_eq!(owners.due(&dynamic, |_| true), None, "a minority removes nobody");
            look(&mut owners, [ONLINE, GONE, ONLINE], 1);
            assert_eq!(owners.due(&dynamic, |_| true), leaves);
        }
        let mut never = Owners::new(None);
        look(&mut never, [ONLINE, GONE, ONLINE], 10_000);
        assert_eq!(never.due(&dynamic, |_| true), None);
        let mut cold = Owners::new(Some(10));
        look(&mut cold, [ONLINE, GONE, ONLINE], UNMET + 10);
        assert_eq!(cold.due(&dynamic, |_| true), None, "it may only be starting");
        look(&mut cold, [ONLINE, GONE, ONLINE], 1);
        assert_eq!(cold.due(&dynamic, |_| true), leaves);
    }

    /// FEATURES: S9
    #[test]
    fn who_is_there_again_before_it_has_left_stays() {
        let (schema, mut owners) = (schema(), Owners::new(Some(0)));
        let lost = Member::founder("n3", NodeId(3));
        let stays = |owners: &Owners| owners.stays(&schema, [&lost].into_iter());
        look(&mut owners, [ONLINE, ONLINE, GONE], 10);
        assert_eq!(stays(&owners), None, "it is lost");
        let wanted = Command::SetRole { server: "n3".into(), role: lost.role };
        look(&mut owners, [ONLINE, ONLINE, ServerState::Is(NodeState::Starting)], 1);
        assert_eq!(owners.stays(&schema, [].into_iter()), None, "it is not on its way out");
        assert_eq!(stays(&owners), Some(wanted.clone()));
        owners.asked(7, &wanted);
        assert_eq!(stays(&owners), None, "one at a time");
        assert!(owners.answered(7));
        assert_eq!(stays(&owners), None, "refused: not at once again");
        look(&mut owners, [ONLINE, GONE, GONE], REST);
        assert_eq!(stays(&owners), None);
        look(&mut owners, [ONLINE, GONE, ONLINE], 1);
        assert_eq!(stays(&owners), Some(wanted));
    }

    /// FEATURES: A7
    #[test]
    fn who_is_to_stop_asks_at_once_and_once_unless_nobody_could_agree() {
        let (mut schema, mut owners) = (schema(), Owners::default());
        let stopping = ServerState::Is(NodeState::ShuttingDown);
        let own = NodeId(1);
        look(&mut owners, [stopping, ONLINE, stopping], 1);
        let command = moved(1, &[2]).unwrap();
        assert_eq!(owners.give(&schema, own), Step::Ask(command.clone()), "not to who stops, too");
        assert_eq!(owners.due(&schema, |_| true), None, "nobody is lost");
        owners.asked(7, &command);
        assert_eq!(owners.give(&schema, own), Step::Wait);
        owners.answered(7);
        look(&mut owners, [stopping, GONE, GONE], 1);
        assert_eq!(owners.give(&schema, own), Step::Done, "without a majority");
        look(&mut owners, [stopping; 3], 1);
        assert_eq!(owners.give(&schema, own), Step::Done, "all stop");
        look(&mut owners, [stopping, ONLINE, ONLINE], 1);
        for database in &mut schema.databases {
            database.clusters.iter_mut().for_each(|cluster| cluster.owner = NodeId(2));
        }
        assert_eq!(owners.give(&schema, own), Step::Done, "it has none");
    }

    /// FEATURES: A7
    #[test]
    fn one_that_was_never_reached_may_be_starting() {
        let (schema, mut owners) = (schema(), Owners::default());
        look(&mut owners, [ONLINE, ONLINE, GONE], STARTED);
        assert_eq!(owners.due(&schema, |_| true), None);
        look(&mut owners, [ONLINE, ONLINE, GONE], 1);
        assert_eq!(owners.due(&schema, |_| true), moved(3, &[1, 2]));
    }

    /// FEATURES: A7
    #[test]
    fn what_was_made_for_a_server_goes_home_once_it_serves() {
        let mut away = schema();
        for database in &mut away.databases {
            for cluster in &mut database.clusters {
                cluster.owner = NodeId(1);
            }
        }
        let mut owners = Owners::default();
        let aligning = ServerState::Is(NodeState::Aligning);
        look(&mut owners, [ONLINE, aligning, GONE], 20);
        assert_eq!(owners.due(&away, |_| true), None);
        look(&mut owners, [ONLINE, ONLINE, GONE], SETTLED + 1);
        assert_eq!(owners.due(&away, |node| node != NodeId(2)), None, "not yet a MASTER of all");
        assert_eq!(owners.due(&away, |_| true), Some(Command::ReturnOwners { back: NodeId(2) }));
        assert_eq!(owners.due(&Schema::default(), |_| true), None);
    }
}

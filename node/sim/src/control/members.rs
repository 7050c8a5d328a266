//! Who comes and goes while clients write: servers join, get other roles, are removed, lose their
//! disks and come back as others; classes, databases and owners beside. Each is a command of the
//! server's own, at a drawn server. May not know how commands are agreed on.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::NodeId;
use quorate_control::agreement::Agreement;
use quorate_control::command::Command as Order;
use quorate_control::dynamic::NewNodes;
use quorate_control::members::WriteQuorum;
use quorate_control::plane::StateMachine;
use quorate_control::schema::DatabaseKind;
use quorate_control::servers::{Member, Role};
use quorate_control::settings::NewDatabase;

use super::orders::Pending;
use crate::membership::Membership;
use crate::world::{Happening, World};

/// Classes and databases that are made in a run: each costs whoever aligns a while.
const NAMES_MAX: u64 = 6;

/// The database that clients use.
pub(super) const DATABASE: &str = "bench";

/// What was asked for in the names of servers.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// By request.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Classes and databases asked for so far.
    names: u64,
}

/// The database that a cluster is founded with.
pub(super) fn first_database(membership: &Membership) -> Order {
    Order::CreateDatabase { new: new_database(DATABASE, membership) }
}

fn new_database(name: &str, membership: &Membership) -> NewDatabase {
    let new = NewDatabase::new(name, DatabaseKind::Plocal, WriteQuorum::Majority);
    let dynamic = NewNodes::Dynamic(BTreeSet::new());
    NewDatabase { new_nodes: if membership.dynamic { dynamic } else { NewNodes::Static }, ..new }
}

impl World {
    /// Somebody comes, goes, or gets another role.
    pub(crate) fn change_members(&mut self) {
        let Some(every) = self.options.membership.as_ref().map(|m| m.every) else { return };
        if self.healed {
            return;
        }
        self.forget_late_orders();
        match self.changes.below(10) {
            0..4 => self.join_one(),
            4..6 => self.promote_one(),
            6 => self.demote_one(),
            _ => self.remove_one(),
        }
        let next = self.now + self.changes.between(1, 2 * every);
        self.at(next, Happening::Member);
    }

    /// Classes, databases, owners.
    pub(crate) fn give_order(&mut self) {
        let Some(membership) = self.options.membership.clone() else { return };
        let every = membership.orders_every;
        if self.healed {
            return;
        }
        let is_full = self.control.orders.names >= NAMES_MAX;
        match if is_full { 4 + self.changes.below(4) } else { self.changes.below(8) } {
            0..3 => {
                let name = self.next_name();
                let (database, supers) = (DATABASE.to_owned(), Vec::new());
                self.order_at_several(&Order::CreateClass { database, name, supers });
            }
            3 => {
                let name = self.next_name();
                let new = new_database(&name, &membership);
                self.order_at_several(&Order::CreateDatabase { new });
            }
            4 => self.drop_one(),
            5 => {
                let lost = self.draw_server();
                let to = (0..self.servers.len()).filter(|at| self.lives(*at));
                let to = to.map(|at| self.servers[at].id).filter(|node| *node != lost).collect();
                self.order_somewhere(Order::MoveOwners { lost, to });
            }
            6 => {
                let back = self.draw_server();
                self.order_somewhere(Order::ReturnOwners { back });
            }
            _ => {
                let to = self.draw_server();
                self.order_somewhere(Order::AddClusters { to });
            }
        }
        let next = self.now + self.changes.between(1, 2 * every);
        self.at(next, Happening::Order);
    }

    fn next_name(&mut self) -> String {
        self.control.orders.names += 1;
        format!("C{}", self.control.orders.names)
    }

    fn draw_server(&mut self) -> NodeId {
        let at = self.changes.index(self.servers.len());
        self.servers[at].id
    }

    fn order_somewhere(&mut self, order: Order) {
        let at = self.changes.index(self.servers.len());
        self.order(at, order);
    }

    /// The same, asked for at several servers at once (FEATURES L3).
    fn order_at_several(&mut self, order: &Order) {
        for _ in 0..=self.changes.below(3) {
            self.order_somewhere(order.clone());
        }
    }

    fn drop_one(&mut self) {
        let Some(agreement) = self.control.newest.agreement() else { return };
        let found = agreement.schema.database(DATABASE);
        let classes = found.map_or(&[][..], |database| &database.classes);
        let names: Vec<String> = classes.iter().map(|class| class.name.clone()).collect();
        let of_swarm: Vec<String> = names.into_iter().filter(|name| name.len() > 1).collect();
        if !of_swarm.is_empty() {
            let (database, name) = (DATABASE.to_owned(), self.changes.pick(&of_swarm).clone());
            self.order_somewhere(Order::DropClass { database, name });
        }
    }

    /// A server that was never there begins, with nothing, and wants to be in the cluster; under a
    /// name of its own, or under that of one that was removed; of one that was lost, first of all.
    fn join_one(&mut self) {
        let waits = |at: &usize| self.servers[*at].dead && self.servers[*at].boot.0 == 0;
        let Some(index) = (0..self.servers.len()).find(waits) else { return };
        let agreement = self.control.newest.agreement();
        let schema = agreement.map(|agreement| agreement.schema.clone()).unwrap_or_default();
        let is_away = |name: &str| schema.servers.iter().all(|server| server.name != name);
        if let Some(absent) = schema.absent.iter().find(|absent| is_away(&absent.name)) {
            self.servers[index].name = absent.name.clone();
        } else if let Some(last) = schema.gone.last().filter(|_| self.changes.chance(500)) {
            self.servers[index].name = last.name.clone();
        }
        self.servers[index].dead = false;
        self.start(index);
        self.at(self.now + 1_000, Happening::Enlist(index));
    }

    fn members(&self, wanted: impl Fn(&Member) -> bool) -> Vec<(usize, String)> {
        let agreement = self.control.newest.agreement();
        let servers = agreement.map_or(&[][..], |agreement| &agreement.schema.servers);
        let wanted = servers.iter().filter(|member| wanted(member));
        let index = |node: NodeId| self.servers.iter().position(|server| server.id == node);
        wanted.filter_map(|m| Some((index(m.node)?, m.name.clone()))).collect()
    }

    /// Those that were MASTERs when they were lost come first.
    fn promote_one(&mut self) {
        let schema = self.control.newest.agreement().map(|agreement| agreement.schema.clone());
        let back: BTreeSet<NodeId> =
            schema.iter().flat_map(|schema| schema.returned()).map(|server| server.node).collect();
        let wanted = |member: &Member| back.is_empty() || back.contains(&member.node);
        let replicas = self
            .members(|member| member.role == Role::Replica && !member.leaving && wanted(member));
        let there: Vec<_> = replicas.into_iter().filter(|(at, _)| self.lives(*at)).collect();
        if !there.is_empty() {
            let (_, server) = self.changes.pick(&there).clone();
            self.regroup(Order::SetRole { server, role: Role::Master });
        }
    }

    fn demote_one(&mut self) {
        let masters = self.members(|member| member.role == Role::Master && !member.leaving);
        if !masters.is_empty() {
            let (_, server) = self.changes.pick(&masters).clone();
            self.regroup(Order::SetRole { server, role: Role::Replica });
        }
    }

    /// Whoever is gone for good is removed first; by itself, where no database enlists it.
    fn remove_one(&mut self) {
        let all = self.members(|member| !member.leaving);
        let lost: Vec<_> = all.iter().filter(|(at, _)| !self.lives(*at)).cloned().collect();
        let from = if lost.is_empty() { all } else { lost };
        if !from.is_empty() {
            let (at, server) = self.changes.pick(&from).clone();
            let node = self.servers[at].id;
            let schema = self.control.newest.agreement().map(|agreement| &agreement.schema);
            let judged = schema.filter(|schema| schema.check_absent(node).is_ok());
            let order = match judged.map(|schema| schema.revision) {
                Some(revision) => Order::RemoveAbsent { node, revision },
                None => Order::RemoveServer { server, force: false },
            };
            self.regroup(order);
        }
    }

    /// Asks for it, if everything would still serve if it came on top of what may yet come.
    fn regroup(&mut self, order: Order) {
        let is_regrouping = |pending: &Pending| {
            matches!(
                pending.order,
                Order::SetRole { .. } | Order::RemoveServer { .. } | Order::RemoveAbsent { .. }
            )
        };
        if self.control.orders.pending.values().any(is_regrouping) {
            return;
        }
        let Some(agreement) = self.control.newest.agreement() else { return };
        let mut next = agreement.clone();
        if next.apply(&order).is_ok() && self.serves_with(&next, None) {
            self.order_somewhere(order);
        }
    }

    /// True when the servers that are there, without one more, are enough of every group that an
    /// agreement has or is about to have.
    fn serves_with(&self, agreement: &Agreement, without: Option<usize>) -> bool {
        let lives = |node: &NodeId| {
            let index = self.servers.iter().position(|server| server.id == *node);
            index.is_some_and(|index| self.lives(index) && without != Some(index))
        };
        let enough = |group: &mut dyn Iterator<Item = NodeId>| {
            let group: BTreeSet<NodeId> = group.collect();
            group.iter().filter(|node| lives(node)).count() > group.len() / 2
        };
        let wanted = StateMachine::voters(agreement);
        let planes = self.servers.iter().filter_map(|server| server.plane.as_ref());
        let mut lists = planes.map(super::Plane::voting).filter(|list| !list.is_empty());
        let voted = enough(&mut wanted.iter().copied())
            && lists.all(|list| {
                enough(&mut list.iter().copied()) && enough(&mut list.union(&wanted).copied())
            });
        let mut placements = agreement.placements().into_values();
        voted
            && placements.all(|placement| {
                let next = placement.change.as_ref();
                let next = next.map_or(&placement.masters, |change| &change.masters);
                enough(&mut placement.masters.iter().copied()) && enough(&mut next.iter().copied())
            })
    }

    /// True when everything serves without this server, and will, whatever comes of what was asked.
    pub(super) fn members_can_spare(&self, agreement: &Agreement, index: usize) -> bool {
        let mut next = agreement.clone();
        for pending in self.control.orders.pending.values() {
            // What is refused changes nothing.
            next.apply(&pending.order).ok();
        }
        let now = self.serves_with(agreement, Some(index));
        now && self.serves_with(&next, Some(index))
    }

    /// Servers that a change leaves, or that are not where all are, as text.
    pub(super) fn members_in_doubt(&self) -> Vec<String> {
        let Some(agreement) = self.control.newest.agreement() else { return Vec::new() };
        let mut leaving = Vec::new();
        for member in agreement.schema.servers.iter().filter(|member| member.leaving) {
            leaving.push(format!("{} is leaving", member.node));
        }
        let outside = self.servers.iter().filter(|s| !s.dead && !s.place.is_member);
        leaving.extend(outside.map(|server| format!("{} is not in the cluster", server.id)));
        leaving
    }
}

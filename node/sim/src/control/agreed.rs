//! What the simulator's servers agree on, in either kind of swarm: clusters of every shape
//! (`table`), or what the server itself agrees on (`Agreement`), by its own commands, with servers
//! that come and go. May not decide anything: it hands on.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{ClusterKey, ErrorCode, NodeId};
use quorate_control::agreement::{Agreement, Refusal};
use quorate_control::command::Command as Order;
use quorate_control::plane::StateMachine;
use quorate_protocol::io::{Placement, Report};
use serde::{Deserialize, Serialize};

use super::table::{self, Table};
use crate::plant::ControlBug;

/// A change of what all servers agree on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// From now on they agree on what servers do; these found the cluster.
    Begin(Vec<(String, NodeId)>, Option<ControlBug>),
    /// For what servers agree on.
    Server(Order),
    /// For clusters of every shape, and reports of both kinds.
    Table(table::Command),
}

/// What a server agrees on, with something wrong in it if a test wants that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) agreement: Agreement,
    planted: Option<ControlBug>,
}

/// See the module's doc.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Agreed {
    Shapes(Table),
    Servers(Box<Product>),
}

impl Default for Agreed {
    fn default() -> Self {
        Self::Shapes(Table::default())
    }
}

impl Agreed {
    /// Clusters of every shape, if that is what is agreed on.
    pub(crate) const fn table(&self) -> Option<&Table> {
        match self {
            Self::Shapes(table) => Some(table),
            Self::Servers(_) => None,
        }
    }

    /// What servers agree on, if it is that.
    pub(crate) fn agreement(&self) -> Option<&Agreement> {
        match self {
            Self::Shapes(_) => None,
            Self::Servers(product) => Some(&product.agreement),
        }
    }

    /// Where every cluster is, and in which generation.
    pub(crate) fn placements(&self) -> BTreeMap<ClusterKey, Placement> {
        match self {
            Self::Shapes(table) => table.placements(),
            Self::Servers(product) => product.agreement.placements(),
        }
    }
}

impl Product {
    fn apply(&mut self, order: &Order) -> Result<bool, Refusal> {
        let changed = self.agreement.apply(order);
        let moves = matches!(order, Order::MoveOwners { .. } | Order::ReturnOwners { .. });
        if moves && self.planted == Some(ControlBug::GrantsForgotten) {
            self.forget_grants();
        }
        changed
    }

    /// The planted bug: which blocks were granted is not part of what is agreed on.
    fn forget_grants(&mut self) {
        let readable = "an agreement is plain data";
        let mut all = serde_json::to_value(&self.agreement).expect(readable);
        let none = serde_json::to_value(Agreement::default()).expect(readable);
        all["positions"] = none["positions"].clone();
        self.agreement = serde_json::from_value(all).expect(readable);
    }
}

impl StateMachine for Agreed {
    type Command = Command;

    fn founded_by(founders: &[(String, NodeId)]) -> Self {
        Self::Shapes(Table::founded_by(founders))
    }

    fn members(&self) -> BTreeSet<NodeId> {
        match self {
            Self::Shapes(table) => table.members(),
            Self::Servers(product) => StateMachine::members(&product.agreement),
        }
    }

    fn feeders(&self, node: NodeId) -> Vec<NodeId> {
        match self {
            Self::Shapes(table) => table.feeders(node),
            Self::Servers(product) => StateMachine::feeders(&product.agreement, node),
        }
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        match self {
            Self::Shapes(table) => StateMachine::voters(table),
            Self::Servers(product) => StateMachine::voters(&product.agreement),
        }
    }

    fn apply(&mut self, command: &Command) -> Result<bool, Refusal> {
        match (self, command) {
            (Self::Shapes(table), Command::Table(command)) => table.apply(command),
            (this @ Self::Shapes(_), Command::Begin(founders, planted)) => {
                let (agreement, planted) = (Agreement::founded_by(founders), *planted);
                *this = Self::Servers(Box::new(Product { agreement, planted }));
                Ok(true)
            }
            (Self::Servers(product), Command::Server(order)) => product.apply(order),
            (Self::Servers(product), Command::Table(table::Command::Reports(from, reports))) => {
                product.apply(&Order::Reports { from: *from, reports: reports.clone() })
            }
            (Self::Shapes(_), Command::Server(_))
            | (Self::Servers(_), Command::Begin(..) | Command::Table(_)) => {
                let text = "a command for the other kind of swarm".to_owned();
                Err(Refusal { code: ErrorCode::BadRequest, text })
            }
        }
    }

    fn news(&self, from: NodeId, reports: Vec<Report>) -> Vec<Report> {
        match self {
            Self::Shapes(table) => table.news(from, reports),
            Self::Servers(product) => StateMachine::news(&product.agreement, from, reports),
        }
    }

    fn let_go(&self, list: &BTreeSet<NodeId>) -> Option<Command> {
        let order = self.agreement().and_then(|agreement| StateMachine::let_go(agreement, list));
        order.map(Command::Server)
    }

    fn tell(from: NodeId, reports: Vec<Report>) -> Command {
        Command::Table(Table::tell(from, reports))
    }
}

//! What the control plane's log drives, as the log sees it: any state that commands change, one
//! after the other. In a server that is the `Agreement`; the simulator runs the same control plane
//! over a state of its own. May not know how commands come to have one order.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Debug;

use quorate_api::NodeId;
use quorate_protocol::io::Report;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agreement::{Agreement, Refusal};
use crate::command::Command;

/// A replicated state machine: whoever applies the same commands in the same order has the same
/// state. Its default is what a cluster is founded with.
pub trait StateMachine: Debug + Clone + PartialEq + Default + Serialize + DeserializeOwned {
    /// What changes it.
    type Command: Debug + Clone + PartialEq + Serialize + DeserializeOwned;

    /// What a cluster of these MASTERs begins with.
    fn founded_by(founders: &[(String, NodeId)]) -> Self;

    /// Who gets the log from its leader, with or without a vote: its own list. All other servers
    /// follow one that has it.
    fn members(&self) -> BTreeSet<NodeId>;

    /// Whom a server may follow that is not among them, best first; empty where that is not known.
    fn feeders(&self, node: NodeId) -> Vec<NodeId>;

    /// Who of them votes on it.
    fn voters(&self) -> BTreeSet<NodeId>;

    /// Carries a command out; true when that changed what servers are configured with.
    ///
    /// # Errors
    /// It does not fit; nothing has changed.
    fn apply(&mut self, command: &Self::Command) -> Result<bool, Refusal>;

    /// Those of a server's reports that would change something.
    fn news(&self, from: NodeId, reports: Vec<Report>) -> Vec<Report>;

    /// The command that lets a server go for good that is not on the log's own `list` any more, if
    /// there is such a server; without one nobody ever goes.
    fn let_go(&self, _list: &BTreeSet<NodeId>) -> Option<Self::Command> {
        None
    }

    /// The command that tells of a server's reports.
    fn tell(from: NodeId, reports: Vec<Report>) -> Self::Command;
}

impl StateMachine for Agreement {
    type Command = Command;

    fn founded_by(founders: &[(String, NodeId)]) -> Self {
        Self::founded_by(founders)
    }

    fn members(&self) -> BTreeSet<NodeId> {
        self.listed().collect()
    }

    fn feeders(&self, node: NodeId) -> Vec<NodeId> {
        self.schema.feeders(node)
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        Self::voters(self).collect()
    }

    fn apply(&mut self, command: &Command) -> Result<bool, Refusal> {
        Self::apply(self, command)
    }

    fn news(&self, from: NodeId, reports: Vec<Report>) -> Vec<Report> {
        Self::news(self, from, reports)
    }

    fn let_go(&self, list: &BTreeSet<NodeId>) -> Option<Command> {
        self.released(list).map(|node| Command::LetGo { node })
    }

    fn tell(from: NodeId, reports: Vec<Report>) -> Command {
        Command::Reports { from, reports }
    }
}

//! A command that was answered as carried out is never gone again: whatever is agreed on later
//! still has what it made, until somebody asks for the contrary (PROTOCOL.md 3.9; `control/plane`:
//! a command happens at most once, what is applied stays applied). And what can be made only once
//! is made only once, however many asked for it (FEATURES L3).

use std::collections::BTreeSet;

use quorate_api::NodeId;
use quorate_control::command::Command;
use quorate_control::schema::Schema;

/// What was made, as far as somebody was told so.
#[derive(Debug, Default)]
pub(super) struct CommandKept {
    classes: BTreeSet<(String, String)>,
    databases: BTreeSet<String>,
    enlisted: BTreeSet<NodeId>,
    /// Classes that somebody wanted dropped.
    dropped: BTreeSet<(String, String)>,
}

impl CommandKept {
    /// Somebody asks for something.
    pub(super) fn asked(&mut self, command: &Command) {
        if let Command::DropClass { database, name } = command {
            self.dropped.insert((database.clone(), name.clone()));
        }
    }

    /// Somebody was told that it was carried out.
    pub(super) fn carried_out(&mut self, command: &Command) -> Option<String> {
        let mut is_first = true;
        if let Command::CreateClass { database, name, .. } = command {
            let class = (database.clone(), name.clone());
            is_first = self.classes.insert(class.clone()) || self.dropped.contains(&class);
        }
        if let Command::CreateDatabase { new } = command {
            is_first = self.databases.insert(new.name.clone());
        }
        if let Command::Enlist { node, .. } = command {
            self.enlisted.insert(*node);
        }
        (!is_first).then(|| format!("two were told that it was carried out: {command:?}"))
    }

    /// Something new was agreed on.
    pub(super) fn agreed(&self, schema: &Schema) -> Option<String> {
        let is_class = |(database, name): &&(String, String)| {
            schema.database(database).is_some_and(|database| database.class(name).is_some())
        };
        let made = self.classes.iter().filter(|class| !self.dropped.contains(*class));
        if let Some((database, name)) = made.clone().find(|class| !is_class(class)) {
            return Some(format!("class '{name}' of '{database}' was made, and is not there"));
        }
        if let Some(name) = self.databases.iter().find(|name| schema.database(name).is_none()) {
            return Some(format!("database '{name}' was made, and is not there"));
        }
        let was = |node: &NodeId| schema.gone.iter().any(|gone| gone.node == *node);
        let lost = self.enlisted.iter().find(|node| schema.server(**node).is_none() && !was(node));
        lost.map(|node| format!("server {node} was taken in, and never was there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_and_is_gone_is_caught() {
        let (database, supers) = ("bench".to_owned(), Vec::new());
        let class = Command::CreateClass { database, name: "A".to_owned(), supers };
        let mut invariant = CommandKept::default();
        let schema = Schema::founded_by(&[("n1".to_owned(), NodeId(1))]);
        assert_eq!(invariant.agreed(&schema), None);
        assert_eq!(invariant.carried_out(&class), None);
        assert!(invariant.carried_out(&class).is_some(), "twice");
        assert!(invariant.agreed(&schema).is_some());
        let (database, name) = ("bench".to_owned(), "A".to_owned());
        invariant.asked(&Command::DropClass { database, name });
        assert_eq!(invariant.agreed(&schema), None);
        let (name, address) = ("n2".to_owned(), "n2:1".to_owned());
        let enlist = Command::Enlist { name, node: NodeId(2), address };
        assert_eq!(invariant.carried_out(&enlist), None);
        assert!(invariant.agreed(&schema).is_some());
    }
}

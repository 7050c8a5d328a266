//! States that were seen as one: snapshots, and the final reads of each server and at majority, by
//! what their records held. No judging here.

use std::collections::BTreeMap;

use crate::budget::{Budget, OutOfBudget};
use crate::history::{Content, OpKind, Phase, ReadLevel, Step};
use crate::index::{Index, Read};

/// One state: a snapshot by its operation, the final reads of a server, those at majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    Snapshot(usize),
    Server(u32),
    Majority,
}

/// What was seen in one state, by logical key: the operation that saw it, and the content, if there
/// was any.
pub(crate) type State<'h> = BTreeMap<u64, (usize, Option<&'h Content>)>;

/// All states. A snapshot is a transaction that only reads, at one server or declared serializable;
/// of several final reads of a record the last one sent counts.
pub(crate) fn states<'h>(
    index: &Index<'h>,
    budget: &mut Budget,
) -> Result<BTreeMap<Whose, State<'h>>, OutOfBudget> {
    let mut states: BTreeMap<Whose, State<'h>> = BTreeMap::new();
    for Read { op, step, seen } in index.reads() {
        budget.spend(1)?;
        let operation = index.operation(op);
        let whose = match (operation.kind, operation.phase, operation.level) {
            (OpKind::Transaction, _, _) if operation.steps.iter().any(Step::is_write) => continue,
            (OpKind::Transaction, _, Some(ReadLevel::Local)) => Whose::Snapshot(op),
            (OpKind::Transaction, _, _) if index.history.header.promises.serializable => {
                Whose::Snapshot(op)
            }
            (OpKind::Read, Phase::Final, Some(ReadLevel::Local)) => Whose::Server(operation.node),
            (OpKind::Read, Phase::Final, _) => Whose::Majority,
            _ => continue,
        };
        let content = step.content.as_ref().or_else(|| index.content(step.key, seen));
        let last = states.entry(whose).or_default().entry(step.key).or_insert((op, content));
        if index.operation(last.0).sent <= operation.sent {
            *last = (op, content);
        }
    }
    Ok(states)
}

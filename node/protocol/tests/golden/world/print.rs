//! What a script's world prints: messages as they leave, what servers have, and time as it passes.
//! May not change what happens in it.

use std::fmt::Write as _;

use quorate_api::{NodeId, TxId};
use quorate_protocol::message::Message;

use super::World;
use crate::show;

/// Acknowledgements and marks are under way all the time; printing them would bury the rest.
const QUIET: [&str; 6] = ["decide_ack", "low", "everywhere", "ended", "ended_reply", "follow"];

impl World {
    pub(crate) fn take_output(&mut self) -> String {
        self.finish_line();
        std::mem::take(&mut self.output)
    }

    pub(super) fn status(&mut self, only: Option<NodeId>) {
        let mut lines = Vec::new();
        for (node, server) in &self.servers {
            if only.is_some_and(|only| only != *node) {
                continue;
            }
            let name = show::node(*node);
            let Some(machine) = &server.machine else {
                lines.push(format!("{name} is down"));
                continue;
            };
            for (item, committed) in &server.disk.visible().items {
                lines.push(format!("{name} has {item}{}", show::committed(Some(committed))));
                let rivals = server.disk.visible().rivals.get(item);
                for rival in rivals.into_iter().flatten() {
                    lines.push(format!("{name} beside {item}{}", show::rival(rival)));
                }
            }
            for (tx, record) in machine.undecided() {
                let (tx, record) = (show::tx(*tx), show::record(record));
                lines.push(format!("{name} undecided {tx}: {record}"));
            }
        }
        lines.iter().for_each(|line| self.print(line));
    }

    pub(super) fn outcome(&mut self, tx: TxId) {
        let known = self.servers.iter().map(|(node, server)| {
            let outcome = server.disk.visible().outcomes.get(&tx).copied();
            format!("{} {}", show::node(*node), outcome.map_or("nothing", show::outcome))
        });
        let text = known.collect::<Vec<_>>().join(", ");
        self.print(&format!("{}: {text}", show::tx(tx)));
    }

    pub(super) fn print_message(&mut self, from: NodeId, to: NodeId, message: &Message) {
        if self.muted || QUIET.contains(&message.name()) {
            return;
        }
        let text = show::message(message);
        if let Some((sender, receivers, last)) = &mut self.last
            && *sender == from
            && *last == text
            && !receivers.contains(&to)
        {
            receivers.push(to);
            return;
        }
        self.finish_line();
        self.print_time();
        self.last = Some((from, vec![to], text));
    }

    fn finish_line(&mut self) {
        if let Some((from, to, text)) = self.last.take() {
            let to: Vec<String> = to.into_iter().map(show::node).collect();
            let (from, to) = (show::node(from), to.join(","));
            writeln!(self.output, "{from} > {to} {text}").expect("writing to a String");
        }
    }

    pub(super) fn print(&mut self, line: &str) {
        if !self.muted {
            self.finish_line();
            self.print_time();
            writeln!(self.output, "{line}").expect("writing to a String");
        }
    }

    /// A line of its own whenever time has passed.
    fn print_time(&mut self) {
        if self.now != self.printed_at {
            self.printed_at = self.now;
            writeln!(self.output, "[{} us]", self.now).expect("writing to a String");
        }
    }
}

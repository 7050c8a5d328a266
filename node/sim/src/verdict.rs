//! After the heal: nothing in doubt, service, convergence, and the scan of everything.

use std::collections::BTreeMap;

use quorate_api::{Committed, ItemId};
use quorate_protocol::io::Tick;

use crate::server::Server;
use crate::world::{Happening, World};

/// How long a healed cluster may take to converge while it serves.
const LIVENESS: Tick = 10_000_000;

impl World {
    fn alive(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.servers.iter().enumerate().filter(|(_, server)| !server.dead)
    }

    /// What is in doubt anywhere, as text.
    fn in_doubt(&self) -> Vec<String> {
        let of_server = |server: &Server| {
            let machine = server.machine.as_ref()?;
            let undecided: Vec<_> = machine.undecided().map(|(tx, _)| tx.to_string()).collect();
            let (locks, in_flight) = (machine.locked(), machine.in_flight());
            let id = server.id;
            (!undecided.is_empty() || locks > 0 || in_flight > 0).then(|| {
                format!("{id}: undecided {undecided:?}, {locks} locks, {in_flight} in flight")
            })
        };
        self.alive().filter_map(|(_, server)| of_server(server)).collect()
    }

    /// The heal is two seconds old: nothing may be in doubt any more. Clients come back.
    pub(crate) fn serve(&mut self) {
        let doubts = self.in_doubt();
        if !doubts.is_empty() {
            self.invariants.report("nothing-in-doubt", doubts.join("; "));
        }
        self.trace.line(self.now, format_args!("serve"));
        self.serving = true;
        for client in 0..self.options.clients {
            self.at(self.now + client * 500, Happening::Client { client });
        }
        self.at(self.now + LIVENESS, Happening::Judge);
    }

    pub(crate) fn has_converged(&self) -> bool {
        let whole = self.items();
        self.alive().all(|(index, server)| {
            let quiet = server
                .machine
                .as_ref()
                .is_some_and(|machine| machine.undecided().len() == 0 && machine.in_flight() == 0);
            let mine = whole.iter().filter(|(item, _)| self.options.holds(index, item.cluster));
            quiet && server.disk.visible().items.iter().eq(mine)
        })
    }

    /// All items, each as the first MASTER alive of its cluster has it.
    fn items(&self) -> BTreeMap<ItemId, Committed> {
        let mut all = BTreeMap::new();
        for shape in &self.options.clusters {
            let Some(first) = shape.masters.iter().find(|s| !self.servers[**s].dead) else {
                continue;
            };
            let items = &self.servers[*first].disk.visible().items;
            let of_cluster = items.iter().filter(|(item, _)| item.cluster == shape.cluster);
            all.extend(of_cluster.map(|(item, committed)| (item.clone(), committed.clone())));
        }
        all
    }

    pub(crate) fn judge_end(&mut self) {
        if !self.clients.all_quiet() {
            let waiting = self.clients.describe_waiting();
            self.invariants.report("serves-after-heal", waiting);
        }
        if let Some(refusal) = self.clients.refusals().first() {
            self.invariants.report("serves-after-heal", refusal.clone());
        }
        if !self.has_converged() {
            let items =
                |(_, s): (usize, &Server)| format!("{}: {}", s.id, s.disk.visible().items.len());
            let items: Vec<_> = self.alive().map(items).collect();
            let doubts = self.in_doubt().join("; ");
            let text = format!("items {}; {doubts}", items.join(", "));
            self.invariants.report("converges-after-heal", text);
            return;
        }
        let items = self.items();
        self.invariants.final_state(&items, &self.options);
        let options = &self.options;
        let alive = self.servers.iter().enumerate().filter(|(_, server)| !server.dead);
        let local: Vec<_> = alive.map(|(s, server)| (s, &server.disk.visible().items)).collect();
        let recorder = self.clients.recorder();
        recorder.scan(self.now, &items, &local, |s, item| options.holds(s, item.cluster));
        for (checker, detail) in recorder.judge(self.servers.len()) {
            self.invariants.report(checker, detail);
        }
    }
}

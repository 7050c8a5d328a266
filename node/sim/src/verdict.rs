//! After the heal: nothing in doubt, service, convergence, and the scan of everything.
//!
//! A server whose disk is damaged never comes back: its votes are gone, so it may only come as
//! another one, by an entry of the control plane (PROTOCOL.md 3.9, trap A3), and with nothing at
//! all it cannot align under its old id. What it alone had in its decision log, and had told some
//! of the others, is not told to the rest until that entry is there, or somebody builds on it and
//! they fetch it or align: who is behind a log that is gone does not know it. Majority reads see
//! it; that all copies are equal is not asked of such an item.

use std::collections::BTreeMap;

use quorate_api::{Committed, ItemId};
use quorate_protocol::conflict::Fate;
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
            let (id, aligning) = (server.id, machine.is_aligning());
            let doubts = !undecided.is_empty() || locks > 0 || in_flight > 0 || aligning;
            let aligns = if aligning { ", aligning" } else { "" };
            doubts.then(|| {
                format!(
                    "{id}: undecided {undecided:?}, {locks} locks, {in_flight} in flight{aligns}"
                )
            })
        };
        self.alive().filter_map(|(_, server)| of_server(server)).collect()
    }

    /// The heal is two seconds old: nothing may be in doubt any more.
    pub(crate) fn serve(&mut self) {
        let mut doubts = self.in_doubt();
        if self.options.low_quorums {
            // Merges are under way.
            doubts.clear();
        }
        if !self.options.crossing {
            // Before MASTERs unite, all has to be merged.
            doubts.extend(self.control_in_doubt());
        }
        if !doubts.is_empty() {
            self.invariants.report("nothing-in-doubt", doubts.join("; "));
        }
        self.reopen();
    }

    /// Everything takes writes.
    pub(crate) fn clients_return(&mut self) {
        self.trace.line(self.now, format_args!("serve"));
        self.serving = true;
        for client in 0..self.options.clients {
            self.at(self.now + client * 500, Happening::Client { client });
        }
        self.at(self.now + LIVENESS, Happening::Judge);
    }

    pub(crate) fn has_converged(&self) -> bool {
        let mut alive = self.alive();
        let is_quiet = |server: &Server| {
            let machine = server.machine.as_ref();
            machine
                .is_some_and(|m| m.undecided().len() == 0 && m.in_flight() == 0 && !m.is_aligning())
        };
        alive.all(|(_, server)| is_quiet(server))
            && self.control_in_doubt().is_empty()
            && self.unmerged().is_empty()
            && self.contents_left().is_empty()
            && self.unequal(&self.items()).is_empty()
    }

    /// Contents at witnesses although everybody has them, as text. One that is gone for good does
    /// not say so; what a witness keeps no more it does not look at again. Tombstones keep theirs.
    fn contents_left(&self) -> Vec<String> {
        if self.servers.iter().any(|server| server.dead) {
            return Vec::new();
        }
        let of_server = |at: &usize| {
            let server = &self.servers[*at];
            let items = server.disk.visible().items.iter();
            let kept = items.filter(|(item, _)| self.options.belongs(*at, item.cluster));
            let left = kept.filter(|(_, committed)| committed.live && committed.image.is_some());
            let left: Vec<String> = left.map(|(item, _)| item.to_string()).collect();
            (!left.is_empty()).then(|| format!("{} still has the content of {left:?}", server.id))
        };
        self.options.witnesses.iter().filter_map(of_server).collect()
    }

    /// Copies that are not what they should be, as text.
    fn unequal(&self, items: &BTreeMap<ItemId, Committed>) -> Vec<String> {
        let mut found = Vec::new();
        for (index, server) in self.alive() {
            let held = &server.disk.visible().items;
            let kept = items.iter().filter(|(item, _)| self.options.holds(index, item.cluster));
            for (item, newest) in kept {
                let copy = held.get(item);
                // Servers drop tombstones at their own pace.
                let purged = copy.is_none() && self.invariants.has_purged(index, item);
                let told = !self.died_with_its_log(newest) && !self.is_undecided(item);
                if !is_copy(copy, newest) && !purged && told {
                    let (id, copy) = (server.id, copy.map(|copy| copy.stamp));
                    found.push(format!("{id} has {item} at {copy:?}, not {:?}", newest.stamp));
                }
            }
            if let Some(item) = held.keys().find(|item| !items.contains_key(*item)) {
                found.push(format!("{} has {item}, which is not its to keep", server.id));
            }
        }
        found
    }

    /// Servers that list what is neither merged nor without a winner, as text.
    fn unmerged(&self) -> Vec<String> {
        let of_server = |(_, server): (usize, &Server)| {
            let open = server.disk.visible().open().filter(|item| !self.is_undecided(item));
            let open: Vec<String> = open.map(ToString::to_string).collect();
            (!open.is_empty()).then(|| format!("{} has not merged {open:?}", server.id))
        };
        self.alive().filter_map(of_server).collect()
    }

    /// Nobody won, and people have to choose.
    fn is_undecided(&self, item: &ItemId) -> bool {
        self.alive().any(|(_, server)| {
            let rivals = server.disk.visible().rivals.get(item);
            rivals.into_iter().flatten().any(|rival| rival.fate == Fate::NoWinner)
        })
    }

    /// True when nobody is left who tells the others of a commit; see the module's doc.
    fn died_with_its_log(&self, committed: &Committed) -> bool {
        let tells = |server: &Server| server.disk.visible().has_logged(committed.stamp.tx);
        let mut dead = self.servers.iter().filter(|server| server.dead);
        dead.any(tells) && !self.alive().any(|(_, server)| tells(server))
    }

    /// All items, each in the newest state that a MASTER alive of its cluster has, or had before it
    /// dropped the tombstone.
    fn items(&self) -> BTreeMap<ItemId, Committed> {
        let mut all: BTreeMap<ItemId, Committed> = BTreeMap::new();
        for shape in &self.options.clusters {
            let masters = self.masters_now(shape.cluster);
            for (_, server) in self.alive().filter(|(s, _)| masters.contains(s)) {
                let items = &server.disk.visible().items;
                for (item, committed) in items.iter().filter(|(i, _)| i.cluster == shape.cluster) {
                    take_newer(&mut all, item, committed);
                }
            }
        }
        for (item, tombstone) in self.invariants.purged_items() {
            take_newer(&mut all, item, tombstone);
        }
        all
    }

    pub(crate) fn judge_end(&mut self) {
        if !self.clients.all_quiet() {
            let waiting = self.clients.describe_waiting();
            self.invariants.report("serves-after-heal", waiting);
        }
        if let Some(refusal) = self.clients.refusals().first()
            && !self.options.low_quorums
        {
            self.invariants.report("serves-after-heal", refusal.clone());
        }
        if !self.has_converged() {
            let mut differences = self.unequal(&self.items());
            differences.extend(self.in_doubt());
            differences.extend(self.control_in_doubt());
            differences.extend(self.unmerged());
            differences.extend(self.contents_left());
            self.invariants.report("converges-after-heal", differences.join("; "));
            return;
        }
        let items = self.items();
        if self.options.low_quorums {
            let alive = self.servers.iter().filter(|server| !server.dead);
            let disks: Vec<_> = alive.map(|server| server.disk.visible()).collect();
            self.invariants.final_below_majority(&items, &disks);
            return;
        }
        self.invariants.final_state(&items, &self.options);
        let options = &self.options;
        let alive = self.servers.iter().enumerate().filter(|(_, server)| !server.dead);
        let local: Vec<_> = alive.map(|(s, server)| (s, &server.disk.visible().items)).collect();
        // A copy that may be behind is not read.
        let told: BTreeMap<&ItemId, bool> =
            items.iter().map(|(item, newest)| (item, !self.died_with_its_log(newest))).collect();
        let is_current = |server: usize, item: &ItemId| {
            let newest = self.servers[server].disk.visible().items.get(item) == items.get(item);
            newest || told.get(item).copied().unwrap_or(true)
        };
        let recorder = self.clients.recorder();
        let shows =
            |s, item: &ItemId| options.holds(s, item.cluster) && !options.witnesses.contains(&s);
        let read = |s, item: &ItemId| shows(s, item) && is_current(s, item);
        recorder.scan(self.now, &items, &local, read);
        for (checker, detail) in recorder.judge(self.servers.len()) {
            self.invariants.report(checker, detail);
        }
    }
}

fn take_newer(items: &mut BTreeMap<ItemId, Committed>, item: &ItemId, committed: &Committed) {
    let known = items.entry(item.clone()).or_insert_with(|| committed.clone());
    let order = |c: &Committed| (c.stamp, c.elsewhere.is_none());
    if order(known) < order(committed) {
        *known = committed.clone();
    }
}

/// Equal, or the same without the content.
fn is_copy(copy: Option<&Committed>, of: &Committed) -> bool {
    copy.is_some_and(|copy| match copy.elsewhere {
        None => copy == of,
        Some(_) => (copy.stamp, copy.live) == (of.stamp, of.live),
    })
}

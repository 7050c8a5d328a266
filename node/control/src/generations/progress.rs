//! How a change of one cluster goes on by what servers report. May not begin one.

use alloc::collections::{BTreeMap, BTreeSet};

use quorate_api::NodeId;
use quorate_protocol::io::SessionToken;

use super::{Change, Cluster, Contents, Stage};

impl Cluster {
    pub(super) fn sealed(&mut self, from: NodeId, generation: u32, token: &SessionToken) -> bool {
        let Some(Change { next, stage }) = &mut self.change else { return false };
        let (asked, sealed) = match stage {
            Stage::Sealing { sealed } => (&self.keepers.masters, sealed),
            Stage::Uniting { sealed } => (&next.masters, sealed),
            Stage::Transferring { .. } | Stage::Merging { .. } | Stage::Comparing { .. } => {
                return false;
            }
        };
        if generation != self.generation || !asked.contains(&from) || sealed.contains_key(&from) {
            return false;
        }
        sealed.insert(from, token.clone());
        self.go_on();
        true
    }

    pub(super) fn synced(&mut self, from: NodeId, generation: u32) -> bool {
        let mut changed = false;
        let has_turn = self.turn == Some(from);
        if has_turn && (generation > self.generation || self.is_entering(generation)) {
            self.turn = None;
            changed = true;
        }
        if let Some(Change { next, stage: Stage::Transferring { synced, .. } }) = &mut self.change
            && generation == self.generation + 1
            && next.masters.contains(&from)
        {
            changed |= synced.insert(from);
            self.go_on();
        }
        changed
    }

    pub(super) fn merged(&mut self, from: NodeId, generation: u32) -> bool {
        let Some(Change { next, stage: Stage::Merging { merged, .. } }) = &mut self.change else {
            return false;
        };
        let is_asked = next.masters.contains(&from);
        let is_news = generation == self.generation && is_asked && merged.insert(from);
        self.go_on();
        is_news
    }

    pub(super) fn compared(&mut self, from: NodeId, generation: u32, contents: Contents) -> bool {
        let Some(Change { next, stage: Stage::Comparing { compared, .. } }) = &mut self.change
        else {
            return false;
        };
        let is_asked = next.masters.contains(&from);
        if generation != self.generation + 1 || !is_asked || compared.contains_key(&from) {
            return false;
        }
        compared.insert(from, contents);
        self.turn = self.turn.filter(|turn| *turn != from);
        self.go_on();
        true
    }

    /// The generation that MASTERs get ready for.
    const fn is_entering(&self, generation: u32) -> bool {
        let transferring = matches!(
            self.change,
            Some(Change { stage: Stage::Transferring { .. } | Stage::Comparing { .. }, .. })
        );
        generation == self.generation + transferring as u32
    }

    pub(super) fn behind(
        &mut self,
        from: NodeId,
        generation: u32,
        instead_of: Option<NodeId>,
    ) -> bool {
        let masters = match &self.change {
            Some(Change { next, stage: Stage::Transferring { .. } | Stage::Comparing { .. } }) => {
                &next.masters
            }
            Some(_) | None => &self.keepers.masters,
        };
        let is_free = self.turn.is_none() || self.turn == instead_of;
        if !self.is_entering(generation) || !masters.contains(&from) || !is_free {
            return false;
        }
        self.turn = Some(from);
        true
    }

    /// To the next stage, as soon as enough have reported: all MASTERs that stay where they unite,
    /// else a majority.
    pub(super) fn go_on(&mut self) {
        self.unite();
        let Some(change) = &mut self.change else { return };
        if let Stage::Sealing { sealed } = &change.stage
            && sealed.len() >= self.keepers.majority()
        {
            let token = merged(sealed);
            change.stage = Stage::Transferring { token, synced: BTreeSet::new() };
            // Whoever needs it for the next generation asks anew.
            self.turn = None;
        }
        if let Stage::Transferring { token, synced } = &mut change.stage
            && synced.len() >= change.next.majority()
        {
            self.entry = core::mem::take(token);
            self.generation += 1;
            self.keepers = change.next.clone();
            self.turn = self.turn.filter(|node| self.keepers.masters.contains(node));
            self.change = None;
        }
    }

    fn unite(&mut self) {
        let Some(change) = &mut self.change else { return };
        let all = change.next.masters.len();
        match &mut change.stage {
            Stage::Merging { merged, .. } if merged.len() == all => {
                change.stage = Stage::Uniting { sealed: BTreeMap::new() };
            }
            Stage::Uniting { sealed } if sealed.len() == all => {
                let token = merged(sealed);
                change.stage = Stage::Comparing { token, compared: BTreeMap::new() };
                self.turn = None;
            }
            Stage::Comparing { token, compared } if compared.len() == all => {
                self.entry = core::mem::take(token);
                self.generation += 1;
                let mut contents = compared.values();
                let first = contents.next().copied();
                let is_one = first.is_some_and(|(digest, differs)| {
                    !differs && contents.all(|other| *other == (digest, false))
                });
                if is_one {
                    self.keepers = change.next.clone();
                    self.change = None;
                } else {
                    change.stage = Stage::Merging { merged: BTreeSet::new(), quiet: true };
                }
            }
            Stage::Merging { .. }
            | Stage::Uniting { .. }
            | Stage::Comparing { .. }
            | Stage::Sealing { .. }
            | Stage::Transferring { .. } => {}
        }
    }
}

/// Below it is whatever any of them has.
fn merged(sealed: &BTreeMap<NodeId, SessionToken>) -> SessionToken {
    let mut token = SessionToken::new();
    for (log, index) in sealed.values().flatten() {
        let merged = token.entry(*log).or_default();
        *merged = (*merged).max(*index);
    }
    token
}

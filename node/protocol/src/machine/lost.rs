//! Contents that lost to others and are kept for people to look at: how many there are, and in
//! which order they lost, so that the oldest go when there are too many, and those that people
//! dismiss. What is not merged, or has no winner, is never dropped. May not decide what has lost:
//! `lineage` does.
//!
//! The order is written beside the lists, a row a content. Contents without such a row, which an
//! older program wrote, are taken for the oldest; rows without a content are overlooked.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use quorate_api::{ClusterKey, ItemId, Stamp};

use super::{Cx, Machine};
use crate::config::MergeConfig;
use crate::conflict::{Dismiss, Dismissed, Fate, LostContent, Rival, lost_of};
use crate::io::{Note, Reply, Write};

/// Contents dropped in one step: each is a list read and written.
const PIECE: usize = 256;

/// Where the order begins; what is older than what was written stands before it.
const FIRST: u64 = 1 << 32;

/// Contents that have lost, as they are listed on the disk.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// In the order in which they lost.
    order: BTreeMap<u64, LostContent>,
    /// Where each of them stands in it.
    places: BTreeMap<(ItemId, Stamp), u64>,
    bytes: usize,
    /// Some were dropped, and nobody has made room since.
    is_full: bool,
}

impl Lost {
    pub(super) fn recovered(
        listed: Vec<LostContent>,
        order: &BTreeMap<u64, (ItemId, Stamp)>,
    ) -> Self {
        let mut known: BTreeMap<&(ItemId, Stamp), u64> = BTreeMap::new();
        for (place, content) in order {
            known.entry(content).or_insert(*place);
        }
        let mut lost = Self::default();
        let before = order.first_key_value().map_or(FIRST, |(place, _)| *place);
        let mut older = before.saturating_sub(listed.len() as u64);
        for content in listed {
            let of = (content.item.clone(), content.stamp);
            let place = known.get(&of).copied().unwrap_or_else(|| {
                older += 1;
                older - 1
            });
            lost.add(place, content);
        }
        lost
    }

    fn add(&mut self, place: u64, content: LostContent) {
        self.bytes += content.bytes;
        self.places.insert((content.item.clone(), content.stamp), place);
        self.order.insert(place, content);
    }

    fn remove(&mut self, of: &(ItemId, Stamp)) -> Option<u64> {
        let place = self.places.remove(of)?;
        self.bytes -= self.order.remove(&place)?.bytes;
        Some(place)
    }

    fn of_item<'a>(&'a self, item: &'a ItemId) -> impl Iterator<Item = Stamp> + 'a {
        let behind = self.places.range((item.clone(), Stamp::ABSENT)..);
        behind.take_while(move |((of, _), _)| of == item).map(|((_, stamp), _)| *stamp)
    }

    /// Takes note of an item's list; gives what changes in the order.
    fn note(&mut self, item: &ItemId, rivals: &[Rival]) -> Vec<Write> {
        let listed: Vec<LostContent> = lost_of(item, rivals).collect();
        let now: BTreeSet<Stamp> = listed.iter().map(|content| content.stamp).collect();
        let before: BTreeSet<Stamp> = self.of_item(item).collect();
        let mut writes = Vec::new();
        for stamp in before.difference(&now) {
            let place = self.remove(&(item.clone(), *stamp));
            writes.extend(place.map(|place| Write::Lost(place, None)));
        }
        for content in listed.into_iter().filter(|content| !before.contains(&content.stamp)) {
            let place = self.order.last_key_value().map_or(FIRST, |(last, _)| last + 1);
            let of = (content.item.clone(), content.stamp);
            self.add(place, content);
            writes.push(Write::Lost(place, Some(of)));
        }
        writes
    }

    /// The oldest one, when there are too many.
    fn surplus(&self, bounds: &MergeConfig) -> Option<&LostContent> {
        let is_over = self.order.len() > bounds.lost_max || self.bytes > bounds.lost_bytes_max;
        self.order.first_key_value().map(|(_, content)| content).filter(|_| is_over)
    }

    /// An eighth of what may be kept is free: the next one that is dropped is news again.
    fn has_room(&self, bounds: &MergeConfig) -> bool {
        let has_room = |kept: usize, most: usize| kept <= most - most.div_ceil(8);
        has_room(self.order.len(), bounds.lost_max) && has_room(self.bytes, bounds.lost_bytes_max)
    }

    /// The first of those that are meant, item by item.
    fn dismissed(&self, contents: &Dismissed) -> Vec<(ItemId, Stamp)> {
        let of_item = |item: &ItemId, stamp| (item.clone(), stamp);
        match contents {
            Dismissed::Content(item, stamp) => {
                let of = of_item(item, *stamp);
                if self.places.contains_key(&of) { [of].into() } else { Vec::new() }
            }
            Dismissed::Item(item) => self.of_item(item).map(|stamp| of_item(item, stamp)).collect(),
            Dismissed::Database(database) => {
                let first = ItemId::record(ClusterKey { database: *database, cluster: 0 }, 0);
                let behind = self.places.range((first, Stamp::ABSENT)..).map(|(of, _)| of);
                let is_meant = |(item, _): &&(ItemId, Stamp)| item.cluster.database == *database;
                behind.take_while(is_meant).take(PIECE).cloned().collect()
            }
        }
    }
}

impl Machine {
    /// How many contents that have lost are kept here, and their bytes.
    #[must_use]
    pub fn lost(&self) -> (usize, usize) {
        (self.merger.lost.order.len(), self.merger.lost.bytes)
    }

    /// Writes the list of an item, and the places of those in it that have lost.
    pub(super) fn put_rivals(&mut self, cx: &mut Cx<'_>, item: &ItemId, rivals: Vec<Rival>) {
        for write in self.merger.lost.note(item, &rivals) {
            cx.write(write);
        }
        cx.write(Write::Rivals(item.clone(), rivals));
    }

    /// Drops the oldest that are too many; `dropped` were already.
    pub(super) fn bound_lost(&mut self, cx: &mut Cx<'_>, dropped: u64) {
        let mut contents = dropped;
        for _ in 0..PIECE {
            let Some(oldest) = self.merger.lost.surplus(&self.config.merge).cloned() else { break };
            self.drop_lost(cx, &oldest.item, oldest.stamp);
            contents += 1;
        }
        if contents > 0 {
            let is_first = !core::mem::replace(&mut self.merger.lost.is_full, true);
            cx.note(Note::LostDropped { contents, is_first });
        }
    }

    fn drop_lost(&mut self, cx: &mut Cx<'_>, item: &ItemId, stamp: Stamp) {
        let mut rivals = cx.rivals(item);
        rivals.retain(|rival| rival.committed.stamp != stamp || rival.fate != Fate::Lost);
        self.put_rivals(cx, item, rivals);
    }

    /// People have looked at them. Of many the first ones: who asked asks again.
    pub(super) fn on_dismiss(&mut self, cx: &mut Cx<'_>, dismiss: &Dismiss) {
        let meant = self.merger.lost.dismissed(&dismiss.contents);
        for (item, stamp) in &meant {
            self.drop_lost(cx, item, *stamp);
        }
        let more = !self.merger.lost.dismissed(&dismiss.contents).is_empty();
        if !meant.is_empty() && self.merger.lost.has_room(&self.config.merge) {
            self.merger.lost.is_full = false;
        }
        let contents = meant.len() as u64;
        cx.reply_durable(dismiss.request, Reply::Dismissed { contents, more });
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use quorate_api::{Boot, Committed, Image, NodeId, TxId};

    use super::*;
    use crate::io::{Effect, Event, PersistSeq, Recovered};
    use crate::machine::testing::{CLUSTER, Disk, configured};

    /// What a disk would have, and what was said.
    #[derive(Default)]
    struct Kept {
        disk: Disk,
        order: BTreeMap<u64, (ItemId, Stamp)>,
        notes: Vec<Note>,
        replies: Vec<(PersistSeq, Reply)>,
    }

    impl Kept {
        fn take(&mut self, effects: Vec<Effect>) {
            for effect in effects {
                match effect {
                    Effect::Persist { writes, .. } => writes.into_iter().for_each(|w| self.put(w)),
                    Effect::Note(note @ Note::LostDropped { .. }) => self.notes.push(note),
                    Effect::Reply { after, reply, .. } => self.replies.push((after, reply)),
                    Effect::Note(_)
                    | Effect::Send { .. }
                    | Effect::Copy { .. }
                    | Effect::Survey { .. }
                    | Effect::Report { .. } => {}
                }
            }
        }

        fn put(&mut self, write: Write) {
            if let Write::Rivals(item, rivals) = &write {
                self.disk.rivals.insert(item.clone(), rivals.clone());
            }
            if let Write::Lost(place, content) = write {
                match content {
                    Some(content) => drop(self.order.insert(place, content)),
                    None => drop(self.order.remove(&place)),
                }
            }
        }

        fn recovered(&self) -> Recovered {
            let listed = self.disk.rivals.iter().flat_map(|(item, rivals)| lost_of(item, rivals));
            let lost_order = self.order.clone();
            Recovered { lost: listed.collect(), lost_order, ..Recovered::default() }
        }

        /// Positions and versions of all that are listed, by fate.
        fn listed(&self, fate: Fate) -> Vec<(ItemId, u64)> {
            let of = |(item, rivals): (&ItemId, &Vec<Rival>)| {
                let of_fate = rivals.iter().filter(|rival| rival.fate == fate);
                of_fate.map(|r| (item.clone(), r.committed.stamp.version)).collect::<Vec<_>>()
            };
            self.disk.rivals.iter().flat_map(of).collect()
        }
    }

    fn item(position: u64) -> ItemId {
        ItemId::record(CLUSTER, position)
    }

    fn stamp(version: u64) -> Stamp {
        let tx = TxId { node: NodeId(2), boot: Boot(1), seq: version };
        Stamp { version, tx }
    }

    /// Of ten bytes beside its key.
    fn rival(version: u64, fate: Fate) -> Rival {
        let image = Some(Image::from(&b"0123456789"[..]));
        let committed = Committed { stamp: stamp(version), live: true, image, elsewhere: None };
        Rival { committed, ancestors: Vec::new(), fate }
    }

    fn machine(bounds: (usize, usize), recovered: Recovered) -> Machine {
        let mut machine = configured(Boot(1), recovered);
        machine.config.merge.lost_max = bounds.0;
        machine.config.merge.lost_bytes_max = bounds.1;
        machine
    }

    /// One step that changes what a store has: lists of the same item are written together.
    fn list(machine: &mut Machine, kept: &mut Kept, lists: Vec<(u64, Vec<Rival>)>) {
        let mut out = Vec::new();
        let mut cx = Cx::new(&kept.disk, &mut out, machine.persist_seq);
        for (position, rivals) in lists {
            machine.write_rivals(&mut cx, &item(position), rivals);
        }
        machine.persist_seq = cx.finish();
        kept.take(out);
    }

    fn dismiss(machine: &mut Machine, kept: &mut Kept, contents: Dismissed) -> (u64, bool) {
        let mut out = Vec::new();
        let dismiss = Dismiss { request: 7, contents };
        machine.step(machine.now, Event::Dismiss(dismiss), &kept.disk, &mut out);
        kept.take(out);
        match kept.replies.pop() {
            Some((after, Reply::Dismissed { contents, more })) => {
                assert!(contents == 0 || after == machine.persist_seq, "answered before it is so");
                (contents, more)
            }
            other => panic!("{other:?}"),
        }
    }

    /// FEATURES: A14
    #[test]
    fn the_oldest_go_first_and_what_is_open_stays() {
        let (mut machine, mut kept) =
            (machine((3, 1 << 20), Recovered::default()), Kept::default());
        // The order is that of losing, not of items.
        for position in [9, 2, 5] {
            let rivals = vec![rival(1, Fate::Open), rival(2, Fate::NoWinner)];
            list(&mut machine, &mut kept, vec![(position, rivals)]);
        }
        assert_eq!((machine.lost(), kept.order.len()), ((0, 0), 0));
        for position in [9, 2, 5] {
            let rivals = vec![rival(1, Fate::Lost), rival(2, Fate::NoWinner)];
            list(&mut machine, &mut kept, vec![(position, rivals)]);
        }
        assert_eq!((machine.lost().0, kept.notes.len()), (3, 0));
        list(&mut machine, &mut kept, vec![(7, vec![rival(1, Fate::Lost)])]);
        let lost = |kept: &Kept| kept.listed(Fate::Lost);
        assert_eq!(lost(&kept), [(item(2), 1), (item(5), 1), (item(7), 1)]);
        // It is told once, until somebody makes room.
        list(&mut machine, &mut kept, vec![(1, vec![rival(1, Fate::Lost)])]);
        assert_eq!(lost(&kept), [(item(1), 1), (item(5), 1), (item(7), 1)]);
        let dropped = |is_first| Note::LostDropped { contents: 1, is_first };
        assert_eq!(kept.notes, [dropped(true), dropped(false)]);
        assert_eq!(dismiss(&mut machine, &mut kept, Dismissed::Item(item(5))), (1, false));
        list(&mut machine, &mut kept, vec![(3, vec![rival(1, Fate::Lost)])]);
        list(&mut machine, &mut kept, vec![(4, vec![rival(1, Fate::Lost)])]);
        assert_eq!(lost(&kept), [(item(1), 1), (item(3), 1), (item(4), 1)]);
        assert_eq!(kept.notes[2..], [dropped(true)]);
        assert_eq!(kept.listed(Fate::NoWinner).len(), 3);
        assert_eq!(machine.lost(), (3, kept.order.len() * (8 + 10)));
    }

    /// FEATURES: A14
    #[test]
    fn bytes_are_bounded_and_the_order_outlives_the_server() {
        let bounds = (100, 3 * 18);
        let (mut first, mut kept) = (machine(bounds, Recovered::default()), Kept::default());
        for position in [9, 2, 5] {
            list(&mut first, &mut kept, vec![(position, vec![rival(1, Fate::Lost)])]);
        }
        assert_eq!((first.lost(), kept.notes.len()), ((3, 54), 0));
        // What an older program listed has no place: it is the oldest.
        kept.disk.rivals.insert(item(6), vec![rival(1, Fate::Lost)]);
        let mut next = machine(bounds, kept.recovered());
        assert_eq!(next.lost(), (4, 72));
        list(&mut next, &mut kept, vec![(7, vec![rival(1, Fate::Lost)])]);
        assert_eq!(kept.listed(Fate::Lost), [(item(2), 1), (item(5), 1), (item(7), 1)]);
        assert_eq!(kept.notes, [Note::LostDropped { contents: 2, is_first: true }]);
        // And whoever has less room now makes it without anything new.
        let mut less = machine((1, 1 << 20), kept.recovered());
        let (due, mut out) = (less.config.housekeeping, Vec::new());
        less.step(due, Event::Tick, &kept.disk, &mut out);
        kept.take(out);
        assert_eq!(kept.listed(Fate::Lost), [(item(7), 1)]);
    }

    /// FEATURES: A14
    #[test]
    fn one_content_all_of_a_record_or_all_of_a_database_are_dismissed() {
        let mut machine = machine((1_000, 1 << 20), Recovered::default());
        let mut kept = Kept::default();
        let lost = || vec![rival(1, Fate::Lost), rival(2, Fate::Lost), rival(3, Fate::Open)];
        for position in 0..200 {
            list(&mut machine, &mut kept, vec![(position, lost())]);
        }
        let mut dismiss = |contents| dismiss(&mut machine, &mut kept, contents);
        assert_eq!(dismiss(Dismissed::Content(item(1), stamp(3))), (0, false), "it has not lost");
        assert_eq!(dismiss(Dismissed::Content(item(1), stamp(1))), (1, false));
        assert_eq!(dismiss(Dismissed::Item(item(1))), (1, false));
        assert_eq!(dismiss(Dismissed::Item(item(1))), (0, false));
        assert_eq!(dismiss(Dismissed::Database(2)), (0, false));
        assert_eq!(dismiss(Dismissed::Database(1)), (256, true));
        assert_eq!(dismiss(Dismissed::Database(1)), (142, false));
        assert_eq!((kept.listed(Fate::Lost), kept.order.len()), (vec![], 0));
        assert_eq!((kept.listed(Fate::Open).len(), machine.lost()), (200, (0, 0)));
    }
}

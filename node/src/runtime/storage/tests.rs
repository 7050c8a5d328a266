//! The store through its own doors: round trips, forgetting, what a reopened store holds.

use std::sync::Arc;

use proptest::prelude::*;
use quorate_api::{Image, ItemKey, Stamp, TxId};
use quorate_protocol::conflict::{Fate, Rival};
use quorate_protocol::io::{Store, Write, is_last_page};
use quorate_protocol::message::{Decided, LogEntry, LogPosition, TxRecord};

use super::*;
use crate::clock::Clock;

const NODE: NodeId = NodeId(7);
const BOOT: Boot = Boot(1);

fn tx(seq: u64) -> TxId {
    TxId { node: NODE, boot: BOOT, seq }
}

fn at(index: u64) -> LogPosition {
    LogPosition { boot: BOOT, index }
}

fn entry(seq: u64) -> LogEntry {
    LogEntry { tx: tx(seq), outcome: Decided::Commit, low: 1 }
}

fn committed(version: u64, live: bool) -> Committed {
    let stamp = Stamp { version, tx: tx(version) };
    Committed { stamp, live, image: Some(Image::from(vec![1, 2, 3])), elsewhere: None }
}

fn writer(storage: &Arc<Storage>) -> Writer {
    Writer::new(storage.clone(), BOOT, &storage.recover().unwrap())
}

fn open(dir: &tempfile::TempDir) -> Arc<Storage> {
    Arc::new(Storage::open(&dir.path().join("store"), Share::default()).unwrap())
}

#[test]
fn what_is_applied_is_visible_and_survives_once_synced() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let item = ItemId::record(cluster, 5);
    let token = ItemId { cluster, key: ItemKey::Token(vec![9]) };
    {
        let storage = open(&dir);
        let mut writer = writer(&storage);
        let writes = [
            Write::Item(item.clone(), committed(1, true)),
            Write::Item(token.clone(), committed(2, false)),
            Write::Tx(tx(1), TxRecord::default()),
            Write::Tx(tx(2), TxRecord::default()),
            Write::Outcome(tx(1), Decided::Commit),
            Write::Log(at(1), entry(1)),
            Write::Applied(NODE, at(1)),
        ];
        writer.apply(1, &writes).unwrap();
        assert_eq!(writer.item(&item), Some(committed(1, true)));
        assert_eq!(writer.item(&token), Some(committed(2, false)));
        assert_eq!(writer.outcome(tx(1)), Some(Decided::Commit));
        assert_eq!(writer.log_after(LogPosition::default()), Some((at(1), entry(1))));
        storage.sync().unwrap();
    }
    let storage = open(&dir);
    let recovered = storage.recover().unwrap();
    assert_eq!(recovered.undecided, [(tx(2), TxRecord::default())]);
    assert_eq!(recovered.applied[&NODE], at(1));
    assert_eq!((recovered.log_start, recovered.log_end), (LogPosition::default(), at(1)));
    assert_eq!(storage.last_batch().unwrap(), (BOOT, 1));
    assert_eq!(storage.committed(&item).unwrap(), Some(committed(1, true)));
}

/// Otherwise a reader waits for less than it shows, and a power cut takes it back.
#[test]
fn a_scan_names_a_batch_that_covers_all_it_shows() {
    const BATCHES: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let writing = std::thread::spawn(move || {
        for seq in 1..=BATCHES {
            let write = Write::Item(ItemId::record(cluster, 5), committed(seq, true));
            writer.apply(seq, &[write]).unwrap();
        }
    });
    let mut shown = 0;
    while shown < BATCHES {
        let (page, visible) = storage.scan(cluster, 0, 1).unwrap();
        shown = page.first().map_or(0, |(_, committed)| committed.stamp.version);
        assert!(shown <= visible, "batch {shown} is shown, {visible} is waited for");
    }
    writing.join().unwrap();
}

#[test]
fn marks_of_decision_logs_come_back_and_go_with_their_boot() {
    let dir = tempfile::tempdir().unwrap();
    let recovered = |writes: &[Write]| {
        let storage = open(&dir);
        writer(&storage).apply(1, writes).unwrap();
        storage.recover().unwrap()
    };
    let (one, two) = (tx(1), tx(2));
    let marks = [
        Write::OutOfLog(one),
        Write::OutOfLog(two),
        Write::InLog(one),
        Write::BootEnd(NODE, BOOT, 12),
    ];
    let found = recovered(&marks);
    assert_eq!(found.out_of_log, [two].into());
    assert_eq!(found.ended, [((NODE, BOOT), 12)].into());
    let closed = recovered(&[Write::InLog(two), Write::Low(NODE, BOOT, u64::MAX)]);
    assert!(closed.out_of_log.is_empty() && closed.ended.is_empty());
}

#[test]
fn the_forgotten_is_hidden_at_once_and_dropped_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let last = 1500;
    let mut writes = Vec::new();
    for n in 1..=last {
        writes.push(Write::Tx(tx(n), TxRecord::default()));
        writes.push(Write::Log(at(n), entry(n)));
    }
    writer.apply(1, &writes).unwrap();
    writer.apply(2, &[Write::Low(NODE, BOOT, 3), Write::TruncateLog(at(2))]).unwrap();
    assert_eq!(writer.tx(tx(2)), None);
    assert_eq!(writer.tx(tx(3)), Some(TxRecord::default()));
    assert_eq!(writer.log_after(LogPosition::default()), Some((at(3), entry(3))));
    writer.apply(3, &[Write::Low(NODE, BOOT, 1400), Write::TruncateLog(at(1400))]).unwrap();
    assert_eq!(storage.get::<TxRecord>(keys::TX, &keys::tx(tx(1399))).unwrap(), None);
    assert_eq!(storage.get::<LogEntry>(keys::LOG, &keys::log(at(1400))).unwrap(), None);
    assert_eq!(writer.tx(tx(1400)), Some(TxRecord::default()));
    assert_eq!(writer.log_after(at(7)), Some((at(1401), entry(1401))));
    assert_eq!(writer.log_after(at(last)), None);
    let recovered = storage.recover().unwrap();
    assert_eq!(recovered.undecided.len(), 101);
    assert_eq!(recovered.low[&(NODE, BOOT)], 1400);
    assert_eq!((recovered.log_start, recovered.log_end), (at(1400), at(last)));
}

#[test]
fn the_log_goes_on_over_boots() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let next = LogPosition { boot: Boot(3), index: 1 };
    writer.apply(1, &[Write::Log(at(1), entry(1)), Write::Log(next, entry(2))]).unwrap();
    assert_eq!(writer.log_after(at(1)), Some((next, entry(2))));
}

#[test]
fn a_scan_is_ordered_paged_and_shows_the_living() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let next = ClusterKey { database: 1, cluster: 11 };
    let mut writes: Vec<Write> = [300, 2, 1, 0]
        .map(|n| Write::Item(ItemId::record(cluster, n), committed(1, n != 1)))
        .into();
    writes.push(Write::Item(ItemId::record(next, 0), committed(1, true)));
    writer.apply(1, &writes).unwrap();
    let positions = |from, limit| -> Vec<u64> {
        storage.scan(cluster, from, limit).unwrap().0.into_iter().map(|(p, _)| p).collect()
    };
    assert_eq!(positions(0, 10), [0, 2, 300]);
    assert_eq!(positions(1, 1), [2]);
    assert_eq!(positions(301, 10), [0u64; 0]);
}

#[test]
fn a_corrupt_value_is_an_error_that_names_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let item = ItemId::record(ClusterKey { database: 1, cluster: 10 }, 5);
    let key = keys::item(&item);
    storage.db.put_cf(storage.family(keys::ITEMS), &key, [1, 2, 3, 4, 5, 6]).unwrap();
    let text = storage.committed(&item).unwrap_err().to_string();
    assert_eq!(
        text,
        "corrupt value in items, key 000000010000000a000000000000000005: checksum does not match"
    );
}

#[tokio::test]
async fn a_local_read_waits_until_what_it_saw_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let item = ItemId::record(ClusterKey { database: 1, cluster: 10 }, 5);
    writer(&storage).apply(1, &[Write::Item(item.clone(), committed(1, true))]).unwrap();
    let read = storage.committed_durable(&item);
    tokio::pin!(read);
    let early = std::future::poll_fn(|cx| std::task::Poll::Ready(read.as_mut().poll(cx)));
    assert!(early.await.is_pending());
    let thread = SyncThread::start(storage.clone(), Clock::start(), |_, _| ()).unwrap();
    assert_eq!(read.await.unwrap(), Some(committed(1, true)));
    thread.stop().unwrap();
    assert_eq!(storage.durability().durable(), 1);
}

#[test]
fn pages_of_items_go_on_behind_the_last_key() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let next = ClusterKey { database: 1, cluster: 11 };
    let keys = [
        ItemKey::Record(0),
        ItemKey::Record(300),
        ItemKey::Key(vec![]),
        ItemKey::Key(vec![1]),
        ItemKey::Key(vec![1, 0]),
        ItemKey::Token(vec![0]),
    ];
    let mut writes: Vec<Write> = Vec::new();
    for key in &keys {
        writes.push(Write::Item(ItemId { cluster, key: key.clone() }, committed(1, true)));
    }
    writes.push(Write::Item(ItemId::record(next, 0), committed(1, true)));
    writer.apply(1, &writes).unwrap();
    let mut seen = Vec::new();
    loop {
        let page = writer.items_after(cluster, seen.last(), 2);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(seen, keys);
    writer.apply(2, &[Write::Purge(ItemId { cluster, key: ItemKey::Record(300) })]).unwrap();
    assert_eq!(writer.items_after(cluster, Some(&ItemKey::Record(0)), 1)[0].0, keys[2]);
    assert_eq!(writer.item(&ItemId { cluster, key: ItemKey::Record(300) }), None);
}

#[test]
fn a_page_of_items_ends_at_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let large = |position: u64, live| {
        let image = Some(Image::from(vec![7; 100 << 10]));
        let stamp = Stamp { version: 1, tx: tx(position) };
        let committed = Committed { stamp, live, image: image.filter(|_| live), elsewhere: None };
        Write::Item(ItemId::record(cluster, position), committed)
    };
    let writes: Vec<Write> = (0..100).map(|p| large(p, p % 25 != 0)).collect();
    writer.apply(1, &writes).unwrap();
    let page = writer.items_after(cluster, None, 512);
    // The first is a tombstone of a few bytes, three make 256 KiB.
    assert_eq!(page.len(), 4);
    assert!(!is_last_page(&page, 512));
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = writer.items_after(cluster, after.as_ref(), 512);
        seen += page.len();
        after = page.last().map(|(key, _)| key.clone()).or(after);
        if is_last_page(&page, 512) {
            break;
        }
    }
    assert_eq!(seen, 100);
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = writer.tombstones_after(cluster, after.as_ref(), 512);
        assert!(page.bytes < SKIPPED_BYTES + (101 << 10), "{} bytes", page.bytes);
        found.extend(page.found.into_iter().map(|(key, _)| key));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [0, 25, 50, 75].map(ItemKey::Record));
    assert_eq!(pages, 3, "10 MB at 4 MiB");
    assert_eq!(writer.tombstones_after(cluster, None, 30).looked_at, 30);
}

#[test]
fn outcomes_are_listed_without_the_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let mut writer = writer(&storage);
    let other = TxId { node: NodeId(9), boot: Boot(2), seq: 4 };
    let mut writes: Vec<Write> = (1..=9).map(|n| Write::Outcome(tx(n), Decided::Commit)).collect();
    writes.push(Write::Outcome(other, Decided::Abort));
    writes.push(Write::Low(NODE, BOOT, 6));
    writer.apply(1, &writes).unwrap();
    let page = writer.outcomes_after(TxId::NONE, 3);
    assert_eq!(page.iter().map(|(tx, _)| *tx).collect::<Vec<_>>(), [tx(6), tx(7), tx(8)]);
    let rest = writer.outcomes_after(tx(8), 3);
    assert_eq!(rest, [(tx(9), Decided::Commit), (other, Decided::Abort)]);
}

/// A restart must neither vote in a generation that is sealed, nor lack one that was entered.
#[test]
fn generations_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let of = |cluster| ClusterKey { database: 1, cluster };
    {
        let storage = open(&dir);
        let mut writer = writer(&storage);
        let writes = [
            Write::Sealed(of(10), 1),
            Write::Sealed(of(10), 2),
            Write::Sealed(of(11), 1),
            Write::Entered(of(10), 3),
        ];
        writer.apply(1, &writes).unwrap();
        storage.sync().unwrap();
    }
    let recovered = open(&dir).recover().unwrap();
    assert_eq!(recovered.sealed, [(of(10), 2), (of(11), 1)].into());
    assert_eq!(recovered.entered, [(of(10), 3)].into());
}

/// FEATURES: A14
#[test]
fn what_lost_is_found_with_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let of = |position| ItemId::record(ClusterKey { database: 1, cluster: 10 }, position);
    let stamp = |version| Stamp { version, tx: tx(version) };
    let rival = |version, fate| {
        let committed = committed(version, true);
        Rival { committed, ancestors: vec![stamp(1)], fate }
    };
    {
        let storage = open(&dir);
        let writes = [
            Write::Rivals(of(1), vec![rival(2, Fate::Lost), rival(3, Fate::Open)]),
            Write::Rivals(of(2), vec![rival(2, Fate::NoWinner)]),
            Write::Rivals(of(3), vec![rival(4, Fate::Lost)]),
            Write::Lost(300, Some((of(1), stamp(2)))),
            Write::Lost(2, Some((of(3), stamp(4)))),
            Write::Lost(7, Some((of(5), stamp(4)))),
            Write::Lost(7, None),
        ];
        writer(&storage).apply(1, &writes).unwrap();
        storage.sync().unwrap();
    }
    let recovered = open(&dir).recover().unwrap();
    assert_eq!(recovered.diverged, [of(1), of(2)].into());
    let lost: Vec<_> = recovered.lost.iter().map(|lost| (&lost.item, lost.stamp)).collect();
    assert_eq!(lost, [(&of(1), stamp(2)), (&of(3), stamp(4))]);
    let order = [(2, (of(3), stamp(4))), (300, (of(1), stamp(2)))];
    assert_eq!(recovered.lost_order, order.into());
}

#[test]
fn aligning_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for (seq, aligning) in [(1, true), (2, false)] {
        let storage = open(&dir);
        let mut writer = writer(&storage);
        for seq in 1..=seq {
            writer.apply(seq, &[Write::Aligning(seq == 1)]).unwrap();
        }
        storage.sync().unwrap();
        assert_eq!(storage.recover().unwrap().aligning, aligning);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_item_comes_back(key: Vec<u8>, image: Option<Vec<u8>>, version: u64, live: bool) {
        let dir = tempfile::tempdir().unwrap();
        let storage = open(&dir);
        let cluster = ClusterKey { database: 1, cluster: 10 };
        let item = ItemId { cluster, key: ItemKey::Key(key) };
        let stamp = Stamp { version, tx: tx(version) };
        let value = Committed { stamp, live, image: image.map(Image::from), elsewhere: None };
        writer(&storage).apply(1, &[Write::Item(item.clone(), value.clone())]).unwrap();
        prop_assert_eq!(storage.committed(&item).unwrap(), Some(value));
    }
}

//! How long one batch of 1, 16 or 256 transactions takes from the write to the return of the sync
//! that makes it durable: what group commit has to offer on this disk. No correctness here.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_api::{
    Boot, ClusterKey, Committed, Image, ItemId, NodeId, OpKind, Operation, Stamp, TxId,
};
use quorate_node::runtime::storage::{Share, Storage, Writer};
use quorate_protocol::io::Write;
use quorate_protocol::message::{Age, Decided, LogEntry, LogPosition, Participant, TxRecord, Vote};

const IMAGE_BYTES: usize = 256;
const BOOT: Boot = Boot(1);

/// Everything that one single-record transaction leaves on the disk of its coordinator.
fn transaction(seq: u64, image: &Image) -> [Write; 4] {
    let tx = TxId { node: NodeId(1), boot: BOOT, seq };
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let item = ItemId::record(cluster, seq);
    let (base, kind) = (Stamp::ABSENT, OpKind::Create);
    let op = Operation { item: item.clone(), kind, base, image: Some(image.clone()) };
    let stamp = op.stamp_after(tx);
    let record = TxRecord {
        age: Age { wall_us: seq, first: tx },
        participants: vec![Participant { cluster, generation: 1 }],
        ops: vec![op],
        vote: Some(Vote::Yes),
        instances: Vec::new(),
    };
    let entry = LogEntry { tx, outcome: Decided::Commit, low: seq };
    [
        Write::Tx(tx, record),
        Write::Item(
            item,
            Committed { stamp, live: true, image: Some(image.clone()), elsewhere: None },
        ),
        Write::Outcome(tx, Decided::Commit),
        Write::Log(LogPosition { boot: BOOT, index: seq }, entry),
    ]
}

fn storage(criterion: &mut Criterion) {
    let image = Image::from(vec![7; IMAGE_BYTES]);
    let mut group = criterion.benchmark_group("storage");
    for transactions in [1, 16, 256] {
        let folder = tempfile::tempdir().expect("a folder for the store");
        let storage = Arc::new(
            Storage::open(&folder.path().join("store"), Share::default()).expect("a store"),
        );
        let recovered = storage.recover().expect("an empty store");
        let mut writer = Writer::new(storage.clone(), BOOT, &recovered);
        let (mut batch, mut seq) = (0, 0);
        group.throughput(Throughput::Elements(transactions));
        group.bench_function(BenchmarkId::new("batch and sync", transactions), |bencher| {
            bencher.iter(|| {
                let numbers = seq + 1..=seq + transactions;
                let writes: Vec<Write> = numbers.flat_map(|seq| transaction(seq, &image)).collect();
                seq += transactions;
                batch += 1;
                writer.apply(batch, &writes).expect("the store takes the batch");
                storage.sync().expect("the disk syncs");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, storage);
criterion_main!(benches);

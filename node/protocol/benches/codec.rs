//! How fast the messages of a usual commit are encoded and decoded, as the links do it (`postcard`,
//! without frame and checksum). No correctness here.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quorate_api::{Boot, ClusterKey, Image, ItemId, NodeId, OpKind, Operation, Stamp, TxId};
use quorate_protocol::feeding::Entry;
use quorate_protocol::message::{
    Age, Decided, Finished, LogPosition, Message, Participant, Vote, VoteReply,
};

const IMAGE_BYTES: usize = 256;

fn messages() -> [(&'static str, Message); 4] {
    let cluster = ClusterKey { database: 1, cluster: 10 };
    let tx = TxId { node: NodeId(1), boot: Boot(3), seq: 123_456 };
    let base = Stamp { version: 17, tx: TxId { seq: 99_999, ..tx } };
    let image = Some(Image::from(vec![7; IMAGE_BYTES]));
    let item = ItemId::record(cluster, 4_711);
    let ops = vec![Operation { item, kind: OpKind::Update, base, image }];
    let participants = vec![Participant { cluster, generation: 2 }];
    let at = |index| LogPosition { boot: Boot(3), index };
    let age = Age { wall_us: 1_700_000_000_000_000, first: tx };
    let prepare = Message::Prepare {
        tx,
        age,
        participants: participants.clone(),
        ops: ops.clone(),
        schema: 1,
    };
    let decide = Message::Decide(Entry {
        at: at(1_000),
        prev: at(999),
        tx,
        outcome: Decided::Commit,
        cfg: 7,
        participants,
        ops,
        relayed: Vec::new(),
    });
    [
        ("prepare", prepare),
        ("vote", Message::Vote { tx, reply: VoteReply::Vote(Vote::Yes) }),
        ("decide", decide),
        (
            "decide ack",
            Message::DecideAck {
                applied: at(1_000),
                finished: Finished { boot: Boot(1), low: 900, everywhere: 900 },
                fed: false,
            },
        ),
    ]
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    for (name, message) in messages() {
        let bytes = postcard::to_allocvec(&message).expect("memory takes every message");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut buffer = Vec::with_capacity(2 * bytes.len());
        group.bench_function(BenchmarkId::new("encode", name), |bencher| {
            bencher.iter(|| {
                buffer.clear();
                let taken = std::mem::take(&mut buffer);
                buffer = postcard::to_extend(black_box(&message), taken).expect("memory");
                buffer.len()
            });
        });
        group.bench_function(BenchmarkId::new("decode", name), |bencher| {
            bencher.iter(|| postcard::from_bytes::<Message>(black_box(&bytes)).expect("a message"));
        });
    }
    group.finish();
}

criterion_group!(benches, codec);
criterion_main!(benches);

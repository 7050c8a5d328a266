//! The budget of memory and what is in use of the parts that the runtime fills, as Prometheus text.
//! May not divide it.

use std::sync::Weak;

use super::{Sources, Text};

/// Budget and use, by part.
pub(super) fn render(sources: &Sources, text: &mut Text) {
    let heap = sources.heap;
    let name = "quorate_memory_budget_bytes";
    text.head(name, "gauge");
    for (part, bytes) in [
        ("all", heap.total),
        ("ground", heap.ground),
        ("store", heap.store),
        ("memtables", heap.memtables),
        ("requests", heap.requests),
        ("inbox", heap.inbox),
        ("links", heap.links),
    ] {
        text.line(format_args!("{name}{{part=\"{part}\"}}"), bytes);
    }
    let (store, memtables) = sources.storage.upgrade().map_or((0, 0), |storage| storage.memory());
    let links = sources.links.as_ref().and_then(Weak::upgrade);
    let waiting = links
        .map_or(0, |links| links.peers().values().map(|peer| peer.queue.depth().1).sum::<usize>());
    let name = "quorate_memory_used_bytes";
    text.head(name, "gauge");
    for (part, bytes) in [
        ("store", store),
        ("memtables", memtables),
        ("inbox", sources.inbox.bytes()),
        ("links", waiting),
    ] {
        text.line(format_args!("{name}{{part=\"{part}\"}}"), bytes);
    }
}

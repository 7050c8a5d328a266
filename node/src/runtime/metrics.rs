//! Counters of this server, and their text for Prometheus. May not influence anything.

mod fsync;
mod memory;
mod per_message;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use quorate_api::{NodeId, Outcome};
use quorate_protocol::io::{NoReasonNote, Note, Reply, Tick};
use quorate_protocol::message::Message;

use super::inbox::Inbox;
use super::link::{LinkBytes, Links};
use super::storage::Storage;
use crate::memory::Budget;
pub use fsync::FsyncHistogram;
pub(crate) use per_message::PerMessage;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// More of it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where queues and links are looked up when somebody asks.
struct Sources {
    inbox: Arc<Inbox>,
    storage: Weak<Storage>,
    links: Option<Weak<Links>>,
    name: String,
    heap: Budget,
}

/// Everything this server counts.
#[derive(Default)]
pub struct Metrics {
    /// Transactions of clients that were committed.
    pub transactions_ok: Counter,
    /// Those that definitely did not happen.
    pub transactions_failed: Counter,
    /// Those whose outcome was not known in time.
    pub transactions_unknown: Counter,
    /// Commits that took one round.
    pub one_round: Counter,
    /// Commits that took two.
    pub two_rounds: Counter,
    /// Aborts for a version conflict.
    pub conflicts: Counter,
    /// Aborts for a lock held by another transaction.
    pub busy: Counter,
    /// Aborts for anything else.
    pub aborted_otherwise: Counter,
    /// Automatic retries.
    pub retries: Counter,
    /// Recoveries started.
    pub recoveries: Counter,
    /// Local values kept against another decision, in clusters with W below majority.
    pub diverged: Counter,
    /// Items that this server made equal again.
    pub merged: Counter,
    /// Times that no step of the chain named a winner.
    pub no_winner: Counter,
    /// Items with contents here that are not merged.
    pub unmerged: AtomicU64,
    /// Contents that have lost.
    pub lost: super::conflicts::LostMetrics,
    /// Contradictions that must never happen.
    pub corruptions: Counter,
    /// 1 while this server aligns.
    pub aligning: AtomicU64,
    /// Alignments that ended.
    pub alignments: Counter,
    /// Own items compared while aligning.
    pub align_compared: Counter,
    /// Ranges of items found different.
    pub align_ranges: Counter,
    /// Items taken from other servers while aligning.
    pub align_fetched: Counter,
    /// Decisions taken that a source settled meanwhile.
    pub align_followed: Counter,
    /// Items taken from chunks of other servers, and their bytes.
    pub copied_items: Counter,
    /// The same in bytes of keys and contents.
    pub copied_bytes: Counter,
    /// About how many items there are to be copied, of all databases.
    pub copy_there: AtomicU64,
    /// Clusters copied completely.
    pub copied_clusters: Counter,
    /// Chunks that held other items than were read at their source.
    pub damaged_chunks: Counter,
    /// Bytes of compressed chunks sent to servers that copy.
    pub chunk_bytes_sent: Counter,
    /// Times a server was not waited for any more.
    pub passed_over: Counter,
    /// Contents that a witness dropped.
    pub contents_dropped: Counter,
    /// Tombstones dropped.
    pub tombstones_dropped: Counter,
    lags: Mutex<BTreeMap<NodeId, (u64, Option<Tick>)>>,
    /// Messages of closed boots that were dropped.
    pub stale_messages: Counter,
    /// Messages of the control plane.
    pub control_sent: Counter,
    /// Messages of the control plane.
    pub control_received: Counter,
    /// Its term.
    pub control_term: AtomicU64,
    /// 1 while this server leads it.
    pub control_leads: AtomicU64,
    /// Servers that vote on the control plane's log, as far as this one knows.
    pub control_voters: AtomicU64,
    /// Clusters on their way to another generation, as far as this server knows.
    pub changing: AtomicU64,
    /// Indexes that were to be filled.
    pub(crate) filling: Arc<crate::index::worker::Counters>,
    /// Syncs of the log.
    pub fsync: FsyncHistogram,
    /// Effects that wait for the disk.
    pub held: AtomicU64,
    /// Requests that wait for an answer.
    pub in_flight: AtomicU64,
    sent: PerMessage,
    received: PerMessage,
    sources: OnceLock<Sources>,
}

impl Metrics {
    pub(crate) fn observe(
        &self,
        name: &str,
        inbox: &Arc<Inbox>,
        storage: &Arc<Storage>,
        links: Option<&Arc<Links>>,
        heap: Budget,
    ) {
        let sources = Sources {
            inbox: inbox.clone(),
            storage: Arc::downgrade(storage),
            links: links.map(Arc::downgrade),
            name: name.to_owned(),
            heap,
        };
        // Set once, when the server starts.
        self.sources.set(sources).ok();
    }

    pub(crate) fn sent(&self, message: &Message) {
        self.sent.count(message);
    }

    pub(crate) fn received(&self, message: &Message) {
        self.received.count(message);
    }

    pub(crate) fn note(&self, note: &Note) {
        match note {
            Note::Committed { one_round: true } => self.one_round.increment(),
            Note::Committed { one_round: false } => self.two_rounds.increment(),
            Note::Aborted(NoReasonNote::Version) => self.conflicts.increment(),
            Note::Aborted(NoReasonNote::Busy) => self.busy.increment(),
            Note::Aborted(NoReasonNote::Other) => self.aborted_otherwise.increment(),
            Note::Retried => self.retries.increment(),
            Note::Recovering(_) => self.recoveries.increment(),
            Note::Diverged { .. } => self.diverged.increment(),
            Note::Merged { .. } => self.merged.increment(),
            Note::NoWinner { .. } => self.no_winner.increment(),
            Note::LostDropped { contents, .. } => self.lost.dropped(*contents),
            Note::Corruption { .. } => self.corruptions.increment(),
            Note::LeftOnline => {}
            Note::BackOnline => self.alignments.increment(),
            Note::Alignment(work) => {
                self.align_compared.add(work.compared);
                self.align_ranges.add(work.ranges);
                self.align_fetched.add(work.fetched);
                self.align_followed.add(work.followed);
            }
            Note::Copied { part, is_last } => {
                self.copied_items.add(part.items);
                self.copied_bytes.add(part.bytes);
                self.copied_clusters.add(u64::from(*is_last));
                self.copy_there.store(part.there, Ordering::Relaxed);
            }
            Note::AllCopied => {}
            Note::Damaged(_) => self.damaged_chunks.increment(),
            Note::PassedOver(_) => self.passed_over.increment(),
            Note::Dropped { contents } => self.contents_dropped.add(*contents),
            Note::Purged { tombstones } => self.tombstones_dropped.add(*tombstones),
            Note::Lag { node, entries, since } => {
                self.lags().insert(*node, (*entries, *since));
            }
        }
    }

    /// Servers that have not applied all of this server's decisions, and how many they lack.
    pub(crate) fn behind(&self) -> BTreeMap<NodeId, u64> {
        let lags = self.lags();
        lags.iter().filter(|(_, (lag, _))| *lag > 0).map(|(node, (lag, _))| (*node, *lag)).collect()
    }

    /// For how many milliseconds, at least, each of them has lacked one that it still lacks.
    pub(crate) fn behind_ms(&self, now: Tick) -> BTreeMap<NodeId, u64> {
        let lags = self.lags();
        let late = lags.iter().filter_map(|(node, (_, since))| Some((*node, (*since)?)));
        late.map(|(node, since)| (node, now.saturating_sub(since) / 1_000)).collect()
    }

    fn lags(&self) -> MutexGuard<'_, BTreeMap<NodeId, (u64, Option<Tick>)>> {
        // A panic while it was held leaves a map that is as good as before.
        self.lags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the answer to a transaction.
    pub(crate) fn answered(&self, reply: &Reply) {
        match reply {
            Reply::Committed { .. } | Reply::Read(_) | Reply::Session(_) => {
                self.transactions_ok.increment();
            }
            Reply::Dismissed { .. } => {}
            Reply::Failed(failure) => match failure.code.outcome() {
                Outcome::Ok => {}
                Outcome::Failed => self.transactions_failed.increment(),
                Outcome::Unknown => self.transactions_unknown.increment(),
            },
        }
    }

    /// Bytes per directed link and end, as `("n1->n2", "dialer", bytes)`.
    #[must_use]
    pub fn links(&self) -> Vec<(String, &'static str, Arc<LinkBytes>)> {
        let Some(sources) = self.sources.get() else { return Vec::new() };
        let Some(links) = sources.links.as_ref().and_then(Weak::upgrade) else {
            return Vec::new();
        };
        let own = &sources.name;
        let mut all = Vec::new();
        for (name, peer) in links.peers().iter() {
            all.push((format!("{own}->{name}"), "dialer", peer.out_bytes.clone()));
            all.push((format!("{name}->{own}"), "acceptor", peer.in_bytes.clone()));
        }
        all
    }

    /// Everything as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text(String::with_capacity(8 << 10));
        self.render_transactions(&mut text);
        self.render_messages(&mut text);
        self.render_control(&mut text);
        self.fsync.render(&mut text);
        self.render_queues(&mut text);
        self.lost.render(&mut text);
        if let Some(sources) = self.sources.get() {
            memory::render(sources, &mut text);
        }
        self.render_links(&mut text);
        render_process(&mut text);
        text.0
    }

    fn render_transactions(&self, text: &mut Text) {
        text.head("quorate_transactions_total", "counter");
        let outcomes = [
            ("ok", &self.transactions_ok),
            ("failed", &self.transactions_failed),
            ("unknown", &self.transactions_unknown),
        ];
        for (outcome, counter) in outcomes {
            text.line(
                format_args!("quorate_transactions_total{{outcome=\"{outcome}\"}}"),
                counter.get(),
            );
        }
        for (name, counter) in [
            ("quorate_one_round_commits_total", &self.one_round),
            ("quorate_two_round_commits_total", &self.two_rounds),
            ("quorate_conflicts_total", &self.conflicts),
            ("quorate_busy_total", &self.busy),
            ("quorate_aborts_otherwise_total", &self.aborted_otherwise),
            ("quorate_busy_retries_total", &self.retries),
            ("quorate_recoveries_total", &self.recoveries),
            ("quorate_alignments_total", &self.alignments),
            ("quorate_align_compared_total", &self.align_compared),
            ("quorate_align_ranges_total", &self.align_ranges),
            ("quorate_align_fetched_total", &self.align_fetched),
            ("quorate_align_followed_total", &self.align_followed),
            ("quorate_copied_items_total", &self.copied_items),
            ("quorate_copied_bytes_total", &self.copied_bytes),
            ("quorate_copied_clusters_total", &self.copied_clusters),
            ("quorate_damaged_chunks_total", &self.damaged_chunks),
            ("quorate_chunk_bytes_sent_total", &self.chunk_bytes_sent),
            ("quorate_passed_over_total", &self.passed_over),
            ("quorate_contents_dropped_total", &self.contents_dropped),
            ("quorate_tombstones_dropped_total", &self.tombstones_dropped),
            ("quorate_diverged_total", &self.diverged),
            ("quorate_merged_total", &self.merged),
            ("quorate_no_winner_total", &self.no_winner),
            ("quorate_corruptions_total", &self.corruptions),
            ("quorate_stale_messages_total", &self.stale_messages),
            ("quorate_indexes_filled_total", &self.filling.filled),
            ("quorate_indexes_impossible_total", &self.filling.impossible),
            ("quorate_index_setbacks_total", &self.filling.setbacks),
        ] {
            text.head(name, "counter");
            text.line(format_args!("{name}"), counter.get());
        }
    }

    fn render_messages(&self, text: &mut Text) {
        text.head("quorate_messages_total", "counter");
        for (direction, counters) in [("sent", &self.sent), ("received", &self.received)] {
            for (name, count) in counters.all() {
                let labels = format_args!("direction=\"{direction}\",message=\"{name}\"");
                text.line(format_args!("quorate_messages_total{{{labels}}}"), count);
            }
        }
    }

    fn render_control(&self, text: &mut Text) {
        text.head("quorate_control_messages_total", "counter");
        let counters = [("sent", &self.control_sent), ("received", &self.control_received)];
        for (direction, counter) in counters {
            let labels = format_args!("direction=\"{direction}\"");
            text.line(format_args!("quorate_control_messages_total{{{labels}}}"), counter.get());
        }
        let gauges = [
            ("quorate_control_term", &self.control_term),
            ("quorate_control_leads", &self.control_leads),
            ("quorate_control_voters", &self.control_voters),
            ("quorate_clusters_changing", &self.changing),
        ];
        for (name, value) in gauges {
            text.head(name, "gauge");
            text.line(format_args!("{name}"), value.load(Ordering::Relaxed));
        }
    }

    fn render_queues(&self, text: &mut Text) {
        let Some(sources) = self.sources.get() else { return };
        let persist = sources.storage.upgrade().map_or(0, |storage| {
            let durability = storage.durability();
            durability.written().saturating_sub(durability.durable())
        });
        for (name, depth) in [
            ("quorate_persist_queue", persist),
            ("quorate_aligning", self.aligning.load(Ordering::Relaxed)),
            ("quorate_copy_items_there", self.copy_there.load(Ordering::Relaxed)),
            ("quorate_unmerged", self.unmerged.load(Ordering::Relaxed)),
            ("quorate_held_effects", self.held.load(Ordering::Relaxed)),
            ("quorate_requests_in_flight", self.in_flight.load(Ordering::Relaxed)),
            ("quorate_inbox_depth", sources.inbox.len() as u64),
        ] {
            text.head(name, "gauge");
            text.line(format_args!("{name}"), depth);
        }
        text.head("quorate_decision_lag", "gauge");
        for (node, (entries, _)) in self.lags().iter() {
            text.line(format_args!("quorate_decision_lag{{server=\"{node}\"}}"), entries);
        }
    }

    fn render_links(&self, text: &mut Text) {
        text.head("quorate_link_bytes_total", "counter");
        for (link, end, bytes) in self.links() {
            for (direction, count) in [("sent", bytes.sent()), ("received", bytes.received())] {
                let labels = format!("link=\"{link}\",end=\"{end}\",direction=\"{direction}\"");
                text.line(format_args!("quorate_link_bytes_total{{{labels}}}"), count);
            }
        }
        let Some(sources) = self.sources.get() else { return };
        let Some(links) = sources.links.as_ref().and_then(Weak::upgrade) else { return };
        let mut depths = BTreeMap::new();
        text.head("quorate_link_dropped_messages_total", "counter");
        let peers = links.peers();
        for (name, peer) in peers.iter() {
            let line = format!("quorate_link_dropped_messages_total{{peer=\"{name}\"}}");
            text.line(format_args!("{line}"), peer.queue.dropped());
            depths.insert(name, peer.queue.depth());
        }
        text.head("quorate_link_queue_bytes", "gauge");
        for (name, (_, bytes)) in depths {
            text.line(format_args!("quorate_link_queue_bytes{{peer=\"{name}\"}}"), bytes);
        }
    }
}

/// Seconds of a number of microseconds.
fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}

/// CPU time and memory of this process, where the system tells.
fn render_process(text: &mut Text) {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let us = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        text.head("process_cpu_seconds_total", "counter");
        text.line(format_args!("process_cpu_seconds_total"), seconds(us.unsigned_abs()));
    }
    if let Some(bytes) = resident_bytes() {
        text.head("process_resident_memory_bytes", "gauge");
        text.line(format_args!("process_resident_memory_bytes"), bytes);
    }
}

/// Memory of this process, where the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    bytes_in("/proc/self/status", "VmRSS:")
}

/// Memory of the machine, where the system tells.
pub(crate) fn machine_bytes() -> Option<u64> {
    bytes_in("/proc/meminfo", "MemTotal:")
}

/// The value of a line like `MemTotal:  16 kB`.
fn bytes_in(path: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Lines of Prometheus text.
pub(super) struct Text(String);

impl Text {
    pub(super) fn head(&mut self, name: &str, kind: &str) {
        // Writing to a string cannot fail.
        writeln!(self.0, "# TYPE {name} {kind}").ok();
    }

    pub(super) fn line(&mut self, series: std::fmt::Arguments<'_>, value: impl std::fmt::Display) {
        writeln!(self.0, "{series} {value}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_cumulative_buckets() {
        let metrics = Metrics::default();
        metrics.fsync.record(Duration::from_micros(60));
        metrics.fsync.record(Duration::from_secs(5));
        metrics.note(&Note::Committed { one_round: true });
        let text = metrics.render();
        for line in [
            "quorate_fsync_seconds_bucket{le=\"0.00005\"} 0",
            "quorate_fsync_seconds_bucket{le=\"0.0001\"} 1",
            "quorate_fsync_seconds_bucket{le=\"1\"} 1",
            "quorate_fsync_seconds_bucket{le=\"+Inf\"} 2",
            "quorate_fsync_seconds_sum 5.00006",
            "quorate_one_round_commits_total 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
    }
}

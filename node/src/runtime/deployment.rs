//! What the log tells of copying databases to this server, in the terms of the original's tutorial:
//! deploying, size sent over the network, installed. May not influence anything.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Instant;

use quorate_api::{ClusterKey, NodeId};
use quorate_protocol::copying::CopyNote;

use super::shared::Shared;
use crate::http::members::{Phase, Progress};

/// Between two lines about one database.
const EVERY_S: u64 = 5;

/// The copy of one database.
pub(super) struct Deployment {
    database: u32,
    from: NodeId,
    began: Instant,
    told: Instant,
    items: u64,
    bytes: u64,
    /// Bytes of compressed chunks that had come when it began.
    packed_before: u64,
}

/// What is left over from an earlier boot.
pub(super) fn goes_on<'a>(copied: impl Iterator<Item = &'a ClusterKey>) {
    let databases: BTreeSet<u32> = copied.map(|cluster| cluster.database).collect();
    if !databases.is_empty() {
        tracing::info!(?databases, "the deployment of databases goes on where it was");
    }
}

impl Deployment {
    /// A chunk came: one line when a database begins, one now and then. Gives the deployment that
    /// is complete, if this is one of the next database.
    #[must_use]
    pub(super) fn chunk(
        current: &mut Option<Self>,
        shared: &Shared,
        note: &CopyNote,
    ) -> Option<Self> {
        let complete = current.take_if(|own| own.database != note.cluster.database);
        let own = current.get_or_insert_with(|| Self::begin(shared, note));
        own.items += note.items;
        own.bytes += note.bytes;
        own.publish(shared, note.there);
        if own.from != note.from {
            own.from = note.from;
            let (name, from) = (shared.database_name(own.database), shared.server_name(own.from));
            tracing::info!("deploying database '{name}' from server '{from}' from now on");
        }
        if own.told.elapsed().as_secs() >= EVERY_S {
            own.told = Instant::now();
            own.tell(shared, "deploying", note.there);
        }
        complete
    }

    /// It is complete, and here to stay.
    pub(super) fn installed(&self, shared: &Shared) {
        self.tell(shared, "installed", 0);
    }

    /// Nothing is being copied.
    pub(super) fn unpublish(shared: &Shared) {
        *shared.copying.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn begin(shared: &Shared, note: &CopyNote) -> Self {
        let (database, from) = (note.cluster.database, note.from);
        let (name, source) = (shared.database_name(database), shared.server_name(from));
        tracing::info!("deploying database '{name}' from server '{source}'...");
        let (began, packed_before) = (Instant::now(), shared.packed_bytes());
        Self { database, from, began, told: began, items: 0, bytes: 0, packed_before }
    }

    /// For the bulletins, which tell all servers.
    fn publish(&self, shared: &Shared, there: u64) {
        let took = self.began.elapsed().as_millis();
        let progress = Progress {
            phase: Phase::Copying,
            database: Some(shared.database_name(self.database)),
            source: Some(self.from),
            items: shared.metrics.copied_items.get().max(self.items),
            items_there: there,
            bytes: self.bytes,
            took_ms: u64::try_from(took).unwrap_or(u64::MAX),
        };
        *shared.copying.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn tell(&self, shared: &Shared, what: &str, there: u64) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let mb = self.bytes as f64 / 1e6;
        let sent = shared.packed_bytes().saturating_sub(self.packed_before) as f64 / 1e6;
        let name = shared.database_name(self.database);
        let all = shared.metrics.copied_items.get().max(self.items);
        let percent = (100 * all).checked_div(there).map(|percent| percent.min(100));
        let share = percent.map_or(String::new(), |share| format!(", about {share} % of all"));
        let (items, rate) = (self.items, mb / seconds);
        tracing::info!(
            "{what} database '{name}': {mb:.1} MB in {items} items in {seconds:.1} s, \
             {rate:.1} MB/s, total {sent:.1} MB sent over the network{share}"
        );
    }
}

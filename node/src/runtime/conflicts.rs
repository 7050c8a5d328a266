//! What diverged where W is below a majority, as the rest of the server sees it: the list, a
//! choice, what is dismissed, a comparison that somebody asks for, what the log says when nobody
//! wins, and what is counted of contents that have lost. May not know HTTP or SQL.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use quorate_api::{ClusterKey, Committed, ErrorCode, ItemId, NodeId, Stamp};
use quorate_protocol::conflict::{Dismissed, Rival};
use quorate_protocol::io::{Failure, Reply};
use tokio::sync::oneshot;

use super::handle::{Commit, NodeHandle};
use super::inbox::Input;
use super::metrics::{Counter, Text};
use super::shared::Shared;
use super::storage::StorageError;

impl NodeHandle {
    /// Items of a database with contents beside the committed ones here, behind an item, in
    /// order: at most `limit`.
    pub(super) async fn rivals(
        &self,
        database: u32,
        after: Option<ItemId>,
        limit: usize,
    ) -> Result<Vec<(ItemId, Vec<Rival>)>, StorageError> {
        let storage = self.shared.storage.clone();
        // Everything before its first item, if nothing else is said.
        let before = ClusterKey { database, cluster: 0 };
        let after = after.unwrap_or_else(|| ItemId::record(before, 0));
        let page =
            tokio::task::spawn_blocking(move || storage.rivals_after(Some(&after), limit)).await;
        let page = page.map_err(|_| StorageError::Stopping)?;
        let mut page = page.inspect_err(|error| self.shared.fail(error))?;
        page.retain(|(item, _)| item.cluster.database == database);
        Ok(page)
    }

    /// Makes one content of an item that diverged the only one.
    pub(super) async fn choose(
        &self,
        item: ItemId,
        winner: Stamp,
        deadline: Instant,
    ) -> Result<Commit, Failure> {
        let (reply, answer) = oneshot::channel();
        let tick = self.shared.clock.tick_of(deadline);
        let input = Input::Choose { item, winner, deadline: tick, reply };
        match self.ask(input, answer, deadline).await {
            Reply::Committed { tx, stamps, decision } => Ok(Commit { tx, stamps, decision }),
            Reply::Failed(failure) => Err(failure),
            Reply::Read(_) | Reply::Session(_) | Reply::Dismissed { .. } => {
                let code = ErrorCode::Deadline;
                Err(Failure { code, item: None, current: None, holder: None })
            }
        }
    }

    /// Drops contents that have lost; gives how many there were.
    pub(super) async fn dismiss(
        &self,
        contents: Dismissed,
        deadline: Instant,
    ) -> Result<u64, Failure> {
        let mut dropped = 0;
        loop {
            let (reply, answer) = oneshot::channel();
            let input = Input::Dismiss { contents: contents.clone(), reply };
            match self.ask(input, answer, deadline).await {
                Reply::Dismissed { contents, more } => {
                    dropped += contents;
                    if !more {
                        return Ok(dropped);
                    }
                }
                Reply::Failed(failure) => return Err(failure),
                Reply::Committed { .. } | Reply::Read(_) | Reply::Session(_) => {
                    unreachable!("the machine answers a dismissal by what it dropped")
                }
            }
        }
    }

    /// Has clusters compared with all servers; it goes on behind the call.
    pub(super) fn compare(&self, clusters: Vec<ClusterKey>) {
        self.shared.inbox.push_control(Input::Compare { clusters });
    }
}

impl Shared {
    /// A server as people call it.
    pub(super) fn name_of(&self, node: NodeId) -> String {
        if node == self.node {
            return self.name.clone();
        }
        let schema = self.schema.load();
        let known = schema.servers.iter().find(|server| server.node == node);
        let linked = || {
            let peers = self.links.as_ref()?.peers();
            let found = peers.iter().find(|(_, peer)| peer.status().0 == Some(node));
            found.map(|(name, _)| name.clone())
        };
        known.map(|server| server.name.clone()).or_else(linked).unwrap_or_else(|| node.to_string())
    }
}

/// What is counted of contents that have lost.
#[derive(Default)]
pub struct LostMetrics {
    contents: AtomicU64,
    bytes: AtomicU64,
    dropped: Counter,
}

impl LostMetrics {
    /// How many are kept, and their bytes.
    pub(super) fn set(&self, (contents, bytes): (u64, u64)) {
        self.contents.store(contents, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// So many were dropped because there were too many.
    pub(super) fn dropped(&self, contents: u64) {
        self.dropped.add(contents);
    }

    pub(super) fn render(&self, text: &mut Text) {
        for (name, kind, value) in [
            ("quorate_lost_contents", "gauge", self.contents.load(Ordering::Relaxed)),
            ("quorate_lost_contents_bytes", "gauge", self.bytes.load(Ordering::Relaxed)),
            ("quorate_lost_contents_dropped_total", "counter", self.dropped.get()),
        ] {
            text.head(name, kind);
            text.line(format_args!("{name}"), value);
        }
    }
}

/// The first time that contents are dropped since there was room.
pub(super) fn tell_of_dropped(is_first: bool) {
    if is_first {
        tracing::warn!(
            "more contents that lost a merge than are kept: the oldest are dropped, from now on \
             and until some are dismissed (HA CONFLICTS lists them, HA RESOLVE * DISMISS drops \
             them; lost_contents_max and lost_contents_mib_max say how many are kept)"
        );
    }
}

/// The original's warning.
pub(super) fn no_winner(
    item: &ItemId,
    groups: &[(Option<Committed>, Vec<NodeId>)],
    name: impl Fn(NodeId) -> String,
) -> String {
    let mut text = format!(
        "Auto repair cannot find a winner for record {item} and the following groups of contents:"
    );
    // Copies that differ in nothing but who wrote them are one content to people.
    let mut shown: BTreeMap<(u64, String), Vec<String>> = BTreeMap::new();
    for (committed, nodes) in groups {
        let image = committed.as_ref().filter(|c| c.live).and_then(|c| c.image.as_ref());
        let content = match (committed, image) {
            (Some(_), Some(image)) => {
                let bytes = image.0.len();
                format!("{} (size={bytes}", String::from_utf8_lossy(&image.0))
            }
            (Some(_) | None, _) => "null (size=0".to_owned(),
        };
        let version = committed.as_ref().map_or(0, |committed| committed.stamp.version);
        shown.entry((version, content)).or_default().extend(nodes.iter().map(|n| name(*n)));
    }
    for (at, ((version, content), servers)) in shown.into_iter().enumerate() {
        let servers = servers.join(", ");
        // Writing to a string cannot fail.
        write!(text, "\n- {at}: {content} v={version}) in servers [{servers}]").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use quorate_api::{Boot, Image, TxId};

    use super::*;

    /// FEATURES: A14
    #[test]
    fn the_warning_names_every_content_with_its_servers() {
        let item = ItemId::record(ClusterKey { database: 1, cluster: 12 }, 3);
        let copy = |seq, content: &str| {
            let tx = TxId { node: NodeId(1), boot: Boot(1), seq };
            let image = Some(Image::from(content.as_bytes()));
            Some(Committed { stamp: Stamp { version: 2, tx }, live: true, image, elsewhere: None })
        };
        let groups = [
            (copy(1, "{\"a\":1}"), vec![NodeId(1)]),
            (copy(2, "{\"a\":2}"), vec![NodeId(2), NodeId(3)]),
            (None, vec![NodeId(4)]),
        ];
        let text = no_winner(&item, &groups, |node| format!("n{}", node.0));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "Auto repair cannot find a winner for record #12:3 and the following groups of \
                 contents:",
                "- 0: null (size=0 v=0) in servers [n4]",
                "- 1: {\"a\":1} (size=7 v=2) in servers [n1]",
                "- 2: {\"a\":2} (size=7 v=2) in servers [n2, n3]",
            ]
        );
    }
}

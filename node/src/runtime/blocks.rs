//! Positions for new records, from blocks that the control plane granted to this boot of this
//! server: the next one is asked for when half of the last is used. May not know who owns a
//! cluster, nor how servers come to agree on a grant.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use quorate_api::{ClusterKey, ErrorCode};
use tokio::sync::watch;

use crate::http::backend::DecideError;

/// What became of asking for a block; `None`: it is not known yet.
type Asked = watch::Receiver<Option<Result<(), DecideError>>>;

#[derive(Default)]
struct Blocks {
    /// Unused positions, in order; all of the first but the last block.
    unused: VecDeque<Range<u64>>,
    /// End of the newest block that came in: it is told of again and again.
    seen: u64,
    /// Positions of that block.
    size: u64,
    /// A block is being asked for.
    asked: Option<Asked>,
}

impl Blocks {
    fn take(&mut self) -> Option<u64> {
        while let Some(first) = self.unused.front_mut() {
            if let Some(position) = first.next() {
                return Some(position);
            }
            self.unused.pop_front();
        }
        None
    }

    fn needs_more(&self) -> bool {
        let left: u64 = self.unused.iter().map(|block| block.end - block.start).sum();
        self.asked.is_none() && left <= self.size / 2
    }
}

/// Hands out positions.
#[derive(Default)]
pub(crate) struct Allocator {
    blocks: Mutex<BTreeMap<ClusterKey, Blocks>>,
}

impl Allocator {
    /// Takes in the newest block granted to this boot of this server; one that is known already
    /// changes nothing.
    pub(super) fn granted(&self, cluster: ClusterKey, block: Range<u64>) {
        let mut clusters = self.lock();
        let blocks = clusters.entry(cluster).or_default();
        if block.start >= blocks.seen {
            (blocks.seen, blocks.size) = (block.end, block.end - block.start);
            blocks.unused.push_back(block);
        }
    }

    /// Next position of a cluster; waits for a block when there is none. `ask` has one granted: it
    /// comes in by [`Self::granted`] before `ask` is done. Nobody asks while another does.
    ///
    /// # Errors
    /// The block was refused, or could not be asked for.
    pub(super) async fn next<F>(
        self: &Arc<Self>,
        cluster: ClusterKey,
        ask: impl Fn() -> F,
    ) -> Result<u64, ErrorCode>
    where
        F: Future<Output = Result<(), DecideError>> + Send + 'static,
    {
        loop {
            let (position, asked) = {
                let mut clusters = self.lock();
                let blocks = clusters.entry(cluster).or_default();
                let position = blocks.take();
                if blocks.needs_more() {
                    blocks.asked = Some(self.ask(cluster, ask()));
                }
                (position, blocks.asked.clone())
            };
            if let Some(position) = position {
                return Ok(position);
            }
            let Some(mut asked) = asked else { continue };
            // It ends without an answer only with the server.
            let done = asked.wait_for(Option::is_some).await.map_err(|_| ErrorCode::NotReady)?;
            match &*done {
                // Late, it may still come in; whoever waits has a deadline of its own.
                Some(
                    Ok(()) | Err(DecideError::Failed(ErrorCode::NoQuorum | ErrorCode::Deadline)),
                )
                | None => {}
                Some(Err(DecideError::Refused(refusal))) => return Err(refusal.code),
                Some(Err(DecideError::Failed(code))) => return Err(*code),
            }
        }
    }

    /// Asks in the background, whether or not somebody waits for it.
    fn ask<F>(self: &Arc<Self>, cluster: ClusterKey, asking: F) -> Asked
    where
        F: Future<Output = Result<(), DecideError>> + Send + 'static,
    {
        let (answer, asked) = watch::channel(None);
        let this = self.clone();
        tokio::spawn(async move {
            let outcome = asking.await;
            if let Err(error) = &outcome {
                tracing::debug!(?error, %cluster, "no block of positions");
            }
            this.lock().entry(cluster).or_default().asked = None;
            answer.send_replace(Some(outcome));
        });
        asked
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterKey, Blocks>> {
        self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;

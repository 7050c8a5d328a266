//! How long syncs of the log took. May not influence anything.

use std::time::Duration;

use super::{Counter, Text, seconds};

/// Upper bounds of the buckets of a sync's duration, in microseconds.
const FSYNC_BUCKETS_US: [u64; 15] = [
    50, 100, 200, 400, 700, 1_000, 2_000, 4_000, 7_000, 10_000, 20_000, 50_000, 100_000, 300_000,
    1_000_000,
];

/// How long syncs of the log took.
#[derive(Debug, Default)]
pub struct FsyncHistogram {
    buckets: [Counter; FSYNC_BUCKETS_US.len()],
    count: Counter,
    sum_us: Counter,
}

impl FsyncHistogram {
    pub(crate) fn record(&self, took: Duration) {
        let us = crate::clock::micros(took);
        if let Some(index) = FSYNC_BUCKETS_US.iter().position(|bound| us <= *bound) {
            self.buckets[index].increment();
        }
        self.count.increment();
        self.sum_us.add(us);
    }

    /// Syncs so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// As Prometheus text.
    pub(super) fn render(&self, text: &mut Text) {
        text.head("quorate_fsync_seconds", "histogram");
        let mut below = 0;
        for (bound, bucket) in FSYNC_BUCKETS_US.iter().zip(&self.buckets) {
            below += bucket.get();
            let bound = seconds(*bound);
            text.line(format_args!("quorate_fsync_seconds_bucket{{le=\"{bound}\"}}"), below);
        }
        let count = self.count.get();
        text.line(format_args!("quorate_fsync_seconds_bucket{{le=\"+Inf\"}}"), count);
        text.line(format_args!("quorate_fsync_seconds_sum"), seconds(self.sum_us.get()));
        text.line(format_args!("quorate_fsync_seconds_count"), count);
    }
}

//! A counter for each name of a message. May not know what is counted.

use quorate_protocol::message::Message;

use super::Counter;
use crate::runtime::message_names::{MESSAGES, message_index};

/// A counter for each name of a message.
pub(crate) struct PerMessage([Counter; MESSAGES.len()]);

impl PerMessage {
    /// One more.
    pub(crate) fn count(&self, message: &Message) {
        self.0[message_index(message)].increment();
    }

    /// All together.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    /// Each, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        MESSAGES.iter().zip(&self.0).map(|(name, counter)| (*name, counter.get()))
    }

    /// Those that there were, by name.
    pub(crate) fn by_name(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.all().filter(|(_, count)| *count > 0)
    }
}

impl Default for PerMessage {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

//! How operations reach the servers: HTTP, or the simulator. One face for both, so that whoever
//! plans and records them need not ask which.

use std::io;

use quorate_check::history::Nanos;

use crate::drive::client::Client;
use crate::drive::recorder::Completion;
use crate::drive::request::Call;
use crate::drive::simulated::Simulated;

/// Either.
#[derive(Debug)]
pub(crate) enum Transport {
    /// Sockets.
    Http(Box<Client>),
    /// Virtual time.
    Simulated(Simulated),
}

impl Transport {
    /// Operations begun and not finished.
    pub(crate) fn in_flight(&self) -> usize {
        match self {
            Self::Http(client) => client.in_flight(),
            Self::Simulated(clients) => clients.in_flight(),
        }
    }

    /// True if operations ended that nobody has taken note of yet.
    pub(crate) fn has_finished(&self) -> bool {
        match self {
            Self::Http(client) => client.has_finished(),
            Self::Simulated(clients) => clients.has_finished(),
        }
    }

    /// Begins an operation. Whatever happens to it comes out of [`Self::take_finished`].
    pub(crate) fn begin(&mut self, call: Call, now: Nanos) {
        match self {
            Self::Http(client) => client.begin(call, now),
            Self::Simulated(clients) => clients.begin(call, now),
        }
    }

    /// Waits for news until the clock shows `until`, and takes in what there is.
    pub(crate) fn turn(&mut self, until: Nanos) -> io::Result<()> {
        match self {
            Self::Http(client) => client.turn(until),
            Self::Simulated(clients) => clients.turn(until),
        }
    }

    /// The operations that ended since the last call, in order; `into` is emptied first.
    pub(crate) fn take_finished(&mut self, into: &mut Vec<Completion>) {
        match self {
            Self::Http(client) => client.take_finished(into),
            Self::Simulated(clients) => clients.take_finished(into),
        }
    }

    /// Stops waiting for whatever is still in flight.
    pub(crate) fn abandon(&mut self) {
        match self {
            Self::Http(client) => client.abandon(),
            Self::Simulated(clients) => clients.abandon(),
        }
    }
}

//! Process and session numbers: a process has one operation at a time and ends with an unknown one.
//! Pure bookkeeping; knows no connection.

use quorate_check::history::Outcome;

/// Sessions of one driver, and the process number each of them runs under.
///
/// An open loop has no clients, so sessions are made up: an arrival takes the session that became
/// free last, or a new one when none is free. Sessions are not tied to connections or servers.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    process_of: Vec<u64>,
    free: Vec<u64>,
    processes: u64,
}

impl Sessions {
    /// A free session and its process number.
    pub(crate) fn acquire(&mut self) -> (u64, u64) {
        let session = self.free.pop().unwrap_or_else(|| {
            self.process_of.push(self.processes);
            self.processes += 1;
            self.process_of.len() as u64 - 1
        });
        (session, self.process_of[session as usize])
    }

    /// Gives a session back after its operation ended in `outcome`.
    pub(crate) fn release(&mut self, session: u64, outcome: Outcome) {
        if outcome == Outcome::Unknown {
            // The old process may still be at it, as far as anybody knows.
            self.process_of[session as usize] = self.processes;
            self.processes += 1;
        }
        self.free.push(session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_an_unknown_outcome_and_its_session_goes_on() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.acquire(), (0, 0));
        assert_eq!(sessions.acquire(), (1, 1));
        sessions.release(0, Outcome::Failed);
        assert_eq!(sessions.acquire(), (0, 0));
        sessions.release(0, Outcome::Unknown);
        assert_eq!(sessions.acquire(), (0, 2));
        assert_eq!(sessions.acquire(), (2, 3));
    }
}

//! What the rest of the server may ask of the control plane. May not know HTTP or SQL.

use std::sync::atomic::Ordering;
use std::time::Instant;

use quorate_api::ErrorCode;
use quorate_control::agreement::Refusal;
use quorate_control::command::Command;
use quorate_control::plane::Answer;
use tokio::sync::oneshot;

use super::handle::{GRACE, NodeHandle, refusal};
use super::inbox::{Inbox, Input};
use crate::http::backend::DecideError;

impl NodeHandle {
    /// Has the servers agree on a command.
    ///
    /// # Errors
    /// Refused where it was to be carried out, or not agreed on in time; or some server does not
    /// know such commands yet.
    pub async fn decide(&self, command: Command, deadline: Instant) -> Result<(), DecideError> {
        self.await_level(command.since(), deadline).await?;
        let command = Box::new(command);
        let input = |request, reply| Input::Propose { request, command, reply };
        match self.ask_control(input, deadline).await.map_err(DecideError::Failed)? {
            Answer::Applied(outcome) => outcome.map_err(DecideError::Refused),
            Answer::NotProposed => Err(DecideError::Failed(ErrorCode::NoQuorum)),
            Answer::Unknown => Err(DecideError::Failed(ErrorCode::Deadline)),
            Answer::CaughtUp => unreachable!("a command is answered by what became of it"),
        }
    }

    /// Returns once every server speaks this version; servers that have just met say so soon.
    async fn await_level(&self, level: u16, deadline: Instant) -> Result<(), DecideError> {
        let mut changes = self.shared.changes.subscribe();
        let rises = async {
            while self.shared.schema.load().level < level {
                // The sender lives as long as the server.
                changes.changed().await.ok();
            }
        };
        tokio::time::timeout_at(deadline.into(), rises).await.map_err(|_| {
            let text = format!(
                "not every server speaks version {level}, which this needs: start the others with \
                 a newer program, or wait until they are back"
            );
            DecideError::Refused(Refusal { code: ErrorCode::NotReady, text })
        })
    }

    /// Returns once the schema here holds everything agreed on before.
    ///
    /// # Errors
    /// Not in time.
    pub async fn catch_up(&self, deadline: Instant) -> Result<(), ErrorCode> {
        let input = |request, reply| Input::CatchUp { request, reply };
        match self.ask_control(input, deadline).await {
            Ok(Answer::CaughtUp) => Ok(()),
            // A question changes nothing, whatever became of it.
            Ok(_) | Err(ErrorCode::Deadline) => Err(ErrorCode::ReadTimeout),
            Err(code) => Err(code),
        }
    }

    async fn ask_control(
        &self,
        input: impl FnOnce(u64, oneshot::Sender<Answer>) -> Input,
        deadline: Instant,
    ) -> Result<Answer, ErrorCode> {
        if !self.shared.is_serving() {
            return Err(ErrorCode::NotReady);
        }
        let request = self.shared.next_control.fetch_add(1, Ordering::Relaxed);
        let (reply, mut answer) = oneshot::channel();
        self.shared.inbox.push_client(input(request, reply)).map_err(refusal)?;
        let waiting = GiveUp { inbox: &self.shared.inbox, request };
        if let Ok(answer) = tokio::time::timeout_at(deadline.into(), &mut answer).await {
            return answer.map_err(|_| ErrorCode::Deadline);
        }
        // Whether it may still happen is known to the loop alone.
        drop(waiting);
        match tokio::time::timeout_at((deadline + GRACE).into(), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(ErrorCode::Deadline),
        }
    }
}

/// Whoever waits for the control plane says so when it goes, answered or not: a request that nobody
/// waits for need not be kept.
struct GiveUp<'a> {
    inbox: &'a Inbox,
    request: u64,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.inbox.push_control(Input::GiveUp { request: self.request });
    }
}

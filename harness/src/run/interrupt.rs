//! Ctrl-C: once asks a run to heal, stop and report what there is; twice ends it now.
//! May not know what a run does about it.

use tokio_util::sync::CancellationToken;

/// What the user has asked for so far.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    /// Cancelled by the first Ctrl-C (or SIGTERM).
    pub stop: CancellationToken,
    /// Cancelled by the second one.
    pub now: CancellationToken,
}

impl Interrupt {
    /// Listens to the signals of this process from now on, in the background.
    ///
    /// # Errors
    /// When the signals cannot be listened to.
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupt = Self::default();
        let told = interrupt.clone();
        let mut ctrl_c = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            for token in [told.stop, told.now] {
                tokio::select! {
                    _ = ctrl_c.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(interrupt)
    }
}

//! The thread that starts every child. The kernel kills a child when the *thread* that started
//! it ends (see `guard/exec.rs`), and threads of the runtime may end at any time; this one ends
//! with the stage. Knows nothing about what it starts.

use std::io;
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

type Order = (Command, oneshot::Sender<io::Result<Child>>);

/// Handle of the thread. When it is dropped, the children die.
#[derive(Debug)]
pub(crate) struct Nursery {
    running: Mutex<Option<(mpsc::Sender<Order>, JoinHandle<()>)>>,
}

impl Nursery {
    /// Starts the thread; to be called inside a runtime, which watches the children.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let (orders, inbox) = mpsc::channel::<Order>();
        let thread = std::thread::Builder::new().name("nursery".into()).spawn(move || {
            let _entered = runtime.enter();
            for (mut command, answer) in inbox {
                // An asker who is gone drops the child, which kills it.
                drop(answer.send(command.spawn()));
            }
        })?;
        Ok(Self { running: Mutex::new(Some((orders, thread))) })
    }

    /// Starts a child.
    pub(crate) async fn spawn(&self, mut command: Command) -> io::Result<Child> {
        command.kill_on_drop(true);
        let (answer, result) = oneshot::channel();
        {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let (orders, _) = running.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
            orders.send((command, answer)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        result.await.map_err(|_| io::ErrorKind::BrokenPipe)?
    }
}

impl Nursery {
    /// Ends the thread, and with it every child. Nothing can be started any more.
    pub(crate) fn close(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((orders, thread)) = running else {
            return;
        };
        drop(orders);
        if thread.join().is_err() {
            tracing::warn!("the thread that starts children panicked");
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.close();
    }
}

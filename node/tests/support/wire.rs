//! Links between servers in a test's hand.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// A wire that can be held: what is sent waits in it, nothing is lost.
pub(crate) struct Wire {
    address: String,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Wire {
    /// Leads a server's `--dial=NAME=ADDRESS` through a wire.
    pub(crate) fn through(dial: &mut String) -> Self {
        let (option, address) = dial.rsplit_once('=').unwrap();
        let wire = Self::to(address.to_owned());
        *dial = format!("{option}={}", wire.address);
        wire
    }

    /// To whoever listens at an address.
    fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let held = Arc::clone(&gate);
        std::thread::spawn(move || {
            for there in listener.incoming() {
                let there = there.unwrap();
                // Whoever dialled tries again.
                let Ok(back) = TcpStream::connect(&target) else { continue };
                let (from, to) = (there.try_clone().unwrap(), back.try_clone().unwrap());
                let gate = Arc::clone(&held);
                std::thread::spawn(move || copy(from, to, Some(&gate)));
                std::thread::spawn(move || copy(back, there, None));
            }
        });
        Self { address, gate }
    }

    /// Holds what is sent from here on, or lets everything go.
    pub(crate) fn hold(&self, is_held: bool) {
        *self.gate.0.lock().unwrap() = is_held;
        self.gate.1.notify_all();
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, gate: Option<&(Mutex<bool>, Condvar)>) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if let Some((held, changed)) = gate {
            drop(changed.wait_while(held.lock().unwrap(), |held| *held).unwrap());
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other side may be gone already.
    to.shutdown(Shutdown::Write).ok();
}

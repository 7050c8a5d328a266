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

/// Leads every link from and to the last server through a wire.
pub(crate) fn wires_around_the_last(arguments: &mut [Vec<String>]) -> Vec<Wire> {
    let last = arguments.len();
    let toward_it = format!("--dial=n{last}=");
    let mut wires = Vec::new();
    for (index, arguments) in arguments.iter_mut().enumerate() {
        let is_cut = |argument: &&mut String| {
            let is_own = index + 1 == last && argument.starts_with("--dial=");
            is_own || argument.starts_with(&toward_it)
        };
        wires.extend(arguments.iter_mut().filter(is_cut).map(Wire::through));
    }
    assert_eq!(wires.len(), 2 * (last - 1));
    wires
}

/// Holds them all, or lets everything go.
pub(crate) fn hold(wires: &[Wire], is_held: bool) {
    wires.iter().for_each(|wire| wire.hold(is_held));
}

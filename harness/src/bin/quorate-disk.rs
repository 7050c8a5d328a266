//! `quorate-disk BACKING MOUNTPOINT`: a disk that can lose power, be slow and full, mounted for
//! itself and for whoever looks below its `/proc/PID/root`. First line: where it takes commands.
//! Ends on SIGTERM, SIGINT. Argument parsing and the order of start and end alone live here.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use quorate::disk::control::{self, Announcement};
use quorate::disk::{Disk, Mounted, Volume};

/// A disk that can lose power, be slow and full.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder that is made for what is synced
    backing: PathBuf,
    /// Empty folder to mount the disk on
    mountpoint: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-disk: {error:#}");
            // The harness itself failed.
            ExitCode::from(4)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Before any thread, so that all of them leave the signals to this one.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block().context("cannot block signals")?;
    let backing = &arguments.backing;
    let volume = Volume::create(backing)
        .with_context(|| format!("cannot make the backing folder {}", backing.display()))?;
    let disk = Arc::new(Disk::new(volume));
    let mounted = Mounted::mount(Arc::clone(&disk), &arguments.mountpoint).with_context(|| {
        let mountpoint = arguments.mountpoint.display();
        format!("cannot mount on {mountpoint} (this needs root and /dev/fuse)")
    })?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let control = listener.local_addr().context("cannot listen")?;
    control::serve(disk, listener).context("cannot take commands")?;
    let announcement = Announcement { control, pid: std::process::id() };
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &announcement)?;
    writeln!(out)?;
    out.flush()?;
    ends.wait().context("cannot wait for a signal")?;
    mounted.unmount().context("cannot unmount")
}

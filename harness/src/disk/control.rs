//! Commands to a running disk: one line of JSON each over a loopback connection, answered by one
//! line. Both ends live here; what a command does is `Disk`'s business.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Counts, CutReport, Disk, Survival};

/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The program's first line on standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Where commands are taken.
    pub control: SocketAddr,
    /// Its process, below whose `/proc/PID/root` the disk is mounted.
    pub pid: u32,
}

/// What a disk is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "command")]
pub enum Command {
    /// Power is cut.
    Cut(Survival),
    /// Power comes back.
    PowerOn,
    /// Every write and every sync is held up.
    Slow {
        /// Microseconds a write.
        write_us: u64,
        /// Microseconds a sync.
        sync_us: u64,
    },
    /// There is room for so much more; `None`: for all.
    Limit {
        /// Bytes.
        free: Option<u64>,
    },
    /// Nothing but an answer.
    Count,
}

/// What a disk answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What a cut did.
    pub cut: Option<CutReport>,
    /// What was done so far.
    pub counts: Counts,
}

/// Takes commands until the process ends.
///
/// # Errors
/// No thread.
pub fn serve(disk: Arc<Disk>, listener: TcpListener) -> io::Result<()> {
    let accept = move || {
        for stream in listener.incoming() {
            let disk = Arc::clone(&disk);
            let talked = stream.and_then(|stream| {
                let talk = move || {
                    if let Err(error) = talk(&disk, stream) {
                        eprintln!("quorate-disk: a command connection broke: {error}");
                    }
                };
                std::thread::Builder::new().name("commands".into()).spawn(talk)
            });
            if let Err(error) = talked {
                eprintln!("quorate-disk: cannot take a command connection: {error}");
            }
        }
    };
    std::thread::Builder::new().name("control".into()).spawn(accept)?;
    Ok(())
}

fn talk(disk: &Disk, stream: TcpStream) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let answer: Result<Answer, String> = match serde_json::from_str(&line?) {
            Ok(command) => obey(disk, command).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        answers.write_all(&line)?;
    }
    Ok(())
}

fn obey(disk: &Disk, command: Command) -> io::Result<Answer> {
    let mut cut = None;
    match command {
        Command::Cut(survival) => cut = Some(disk.cut(survival)?),
        Command::PowerOn => disk.power_on(),
        Command::Slow { write_us, sync_us } => {
            disk.slow_down(Duration::from_micros(write_us), Duration::from_micros(sync_us));
        }
        Command::Limit { free } => disk.limit(free),
        Command::Count => {}
    }
    Ok(Answer { cut, counts: disk.counts() })
}

/// Sends a command to a disk and waits for the answer.
///
/// # Errors
/// No disk, or it refused.
pub fn command(disk: SocketAddr, command: &Command) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&disk, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let answer: Result<Answer, String> = serde_json::from_str(&line)?;
    answer.map_err(io::Error::other)
}

//! The `quorate-proxy` command: reads its options, runs one proxy until it is told to stop.
//! No proxy logic here.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use quorate_proxy::{COMMIT, DELAY_LINE_BYTES, Server, ServerConfig};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Fault proxy that speaks the Toxiproxy v2 HTTP API.
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Options {
    /// Address of the HTTP API; port 0 takes a free one, printed as the first line on stdout.
    #[arg(long, default_value = "127.0.0.1:8474")]
    listen: SocketAddr,
    /// JSON file with links to start with, in the form of `POST /populate`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seed of every random draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// File to write the API's address to once it listens.
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// Most bytes held by one delay on one direction of one connection.
    #[arg(long, default_value_t = DELAY_LINE_BYTES)]
    delay_line_bytes: usize,
    /// Threads that move bytes. With one no event crosses threads, which is cheaper for one
    /// request at a time; more help where one core cannot carry the traffic.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Print version and commit.
    #[arg(long, short = 'V')]
    version: bool,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if options.version {
        let version = env!("CARGO_PKG_VERSION");
        writeln!(std::io::stdout(), "quorate-proxy {version} ({COMMIT})")?;
        return Ok(());
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match options.threads {
        1 => Builder::new_current_thread().enable_all().build()?,
        threads => {
            Builder::new_multi_thread().worker_threads(threads.into()).enable_all().build()?
        }
    };
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    // Before anything listens, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let populate = match &options.config {
        Some(path) => {
            let text = std::fs::read_to_string(path);
            Some(text.with_context(|| format!("cannot read {}", path.display()))?)
        }
        None => None,
    };
    let Options { listen, seed, delay_line_bytes, port_file, .. } = options;
    let handle = Server::start(ServerConfig { listen, seed, delay_line_bytes, populate }).await?;
    let address = handle.api().to_string();
    if let Some(path) = port_file {
        let written = std::fs::write(&path, format!("{address}\n"));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::json!({ "api": address }))?;
    stdout.flush()?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    handle.shutdown().await;
    Ok(())
}

//! Entry point: arguments, logging, signals, the order of start and stop. May not know what a
//! request or a message is.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use quorate_node::config::first_run::{NameError, Terminal};
use quorate_node::config::template::Template;
use quorate_node::config::{Config, ConfigError, ServeArgs, password};
use quorate_node::health;
use quorate_node::http::auth::Authenticator;
use quorate_node::http::{self, HttpConfig, Limits};
use quorate_node::runtime::data_dir::{DataError, renounce};
use quorate_node::runtime::storage::EXIT_STORAGE;
use quorate_node::runtime::{Dismissal, Node, Settings, StartError};
use quorate_node::sample::load;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Exit code when settings are refused. [`EXIT_STORAGE`] is the disk's; everything else that goes
/// wrong is 1.
const EXIT_CONFIG: u8 = 3;
/// Exit code after a second signal: the server has not ended in order.
const EXIT_AT_ONCE: i32 = 1;
/// Threads for HTTP and links. The loop and the sync thread come on top.
const WORKERS: usize = 2;
/// Longest wait for other owners of its clusters, before a server stops.
const LEAVE_BOUND: Duration = Duration::from_secs(2);
/// Longest wait for running requests when stopping, and for what they leave to be done.
const STOP_BOUND: Duration = Duration::from_secs(3);
/// Variable with the password of the user `root`.
const ROOT_PASSWORD: &str = "ORIENTDB_ROOT_PASSWORD";
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("QUORATE_COMMIT"), ")");

/// Quorate's server.
#[derive(Parser)]
#[command(version = VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a server until SIGTERM or SIGINT, which it obeys in order; a second one ends it at once
    Serve(Box<ServeArgs>),
    /// Fills a new database of a running server with a graph of songs and artists; the password of
    /// root is taken from ORIENTDB_ROOT_PASSWORD
    Sample(SampleArgs),
    /// Asks a server whether it is ready to serve; exit code 0 if so, else 1 and why not
    Health(HealthArgs),
}

#[derive(Args)]
struct HealthArgs {
    /// Address of the server for clients
    #[arg(long, default_value = "127.0.0.1:2480")]
    at: String,
    /// Milliseconds that it has to answer
    #[arg(long, default_value_t = 2_000)]
    within_ms: u64,
}

#[derive(Args)]
struct SampleArgs {
    /// Address of the server for clients
    #[arg(long, default_value = "127.0.0.1:2480")]
    at: String,
    /// Name of the database
    #[arg(long, default_value = "SampleConcerts")]
    database: String,
}

fn main() -> ExitCode {
    start_logging();
    let done = match Cli::parse().command {
        Command::Serve(arguments) => return start(*arguments),
        Command::Sample(arguments) => sample(&arguments),
        Command::Health(arguments) => healthy(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// For a command that runs once and ends.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("cannot start the runtime")
}

fn healthy(HealthArgs { at, within_ms }: &HealthArgs) -> anyhow::Result<()> {
    runtime()?.block_on(health::ask(at, Duration::from_millis(*within_ms)))?;
    writeln!(std::io::stdout(), "{at} serves").context("cannot write to standard output")
}

fn sample(SampleArgs { at, database }: &SampleArgs) -> anyhow::Result<()> {
    let password = password::secret(ROOT_PASSWORD, |name| std::env::var(name).ok())?
        .with_context(|| format!("the password of root is expected in {ROOT_PASSWORD}"))?;
    let graph = runtime()?.block_on(load(at, database, &password))?;
    let (songs, artists, edges) = (graph.songs.len(), graph.artists.len(), graph.edges());
    let made = format!("database '{database}': {songs} songs, {artists} artists, {edges} edges");
    writeln!(std::io::stdout(), "{made}").context("cannot write to standard output")
}

fn start(mut arguments: ServeArgs) -> ExitCode {
    // A thread that panicked has left something half done; what the others would do with it is not
    // known.
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default_hook(panic);
        tracing::error!(%panic, "a thread panicked; this server stops");
        std::process::abort();
    }));
    let variable = |name: &str| std::env::var(name).ok();
    arguments.env_name = variable("ORIENTDB_NODE_NAME").filter(|name| !name.is_empty());
    let secrets = password::secret("QUORATE_CLUSTER_PASSWORD", variable)
        .and_then(|cluster| Ok((cluster, password::secret(ROOT_PASSWORD, variable)?)));
    match secrets {
        Ok((cluster, root)) => {
            arguments.cluster_password = cluster;
            arguments.root_password = root;
        }
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    }
    let config = match settle(arguments) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            let is_damage =
                matches!(&error, ConfigError::Name(NameError::Saved(data)) if data.is_damage());
            return ExitCode::from(if is_damage { EXIT_STORAGE } else { EXIT_CONFIG });
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            exit_code(&error)
        }
    }
}

/// Settings; somebody at a terminal may have to say what the server is called.
fn settle(arguments: ServeArgs) -> Result<Config, ConfigError> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    if !stdin.is_terminal() || !stdout.is_terminal() {
        return Config::load(arguments, None);
    }
    let (mut input, mut output) = (stdin.lock(), stdout.lock());
    Config::load(arguments, Some(Terminal { input: &mut input, output: &mut output }))
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let start = error.downcast_ref::<StartError>();
    if start.is_some_and(StartError::is_storage) || error.is::<StorageFailed>() {
        return ExitCode::from(EXIT_STORAGE);
    }
    let is_other =
        matches!(start, Some(StartError::Data(DataError::Name { .. } | DataError::Format { .. })));
    if is_other || error.is::<NoPlace>() {
        return ExitCode::from(EXIT_CONFIG);
    }
    ExitCode::FAILURE
}

/// The disk gave out while the server ran; the log says how.
#[derive(Debug, thiserror::Error)]
#[error("the storage failed")]
struct StorageFailed;

/// The server has no place in the cluster; the settings, or the data folder, are the wrong ones.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoPlace(String);

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

/// Runs until it is stopped. A server that comes back as another one begins anew, with nothing of
/// its former life: what held on to that ends with its runtime.
fn run(mut config: Config) -> anyhow::Result<()> {
    let mut is_first = true;
    loop {
        let ended = live(&config, is_first)?;
        let Ended::Renounced { http, peer } = ended else { return Ok(()) };
        // Clients and other servers look for it where it was.
        config.http = http;
        if let (Some(links), Some(peer)) = (&mut config.links, peer) {
            links.listen = peer;
        }
        is_first = false;
    }
}

/// How a life of this process ended.
enum Ended {
    /// By a signal.
    Stopped,
    /// Its identity is given up; it listened here.
    Renounced { http: SocketAddr, peer: Option<SocketAddr> },
}

fn live(config: &Config, is_first: bool) -> anyhow::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("worker")
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(config.clone(), is_first))
}

async fn serve(config: Config, is_first: bool) -> anyhow::Result<Ended> {
    // Before anybody is told that this process runs.
    let signals = StopSignals::listen()?;
    let clients = bind(config.http).await?;
    let peers = match &config.links {
        Some(links) => Some(bind(links.listen).await?),
        None => None,
    };
    let address = clients.local_addr()?;
    let peer = peers.as_ref().map(TcpListener::local_addr).transpose()?;
    let (name, peer_address) = (&config.name, peer.map(tracing::field::display));
    tracing::info!(name, version = VERSION, http = %address, peer = peer_address, "starting");
    let node = Node::start(settings(&config, address), peers).context("cannot start")?;
    // Only now the folder is known to be this server's alone.
    let root_password = match password::root(config.root_password.clone(), &config.data) {
        Ok((password, made_up)) => {
            if made_up {
                eprintln!("password of user root, shown only now: {password}");
            }
            password
        }
        Err(error) => {
            node.stop(STOP_BOUND).await.context("the last sync failed")?;
            return Err(error).context("root password");
        }
    };
    let (node_id, boot) = node.identity();
    if is_first {
        announce(&serde_json::json!({
            "http": address.to_string(),
            "peer": peer.map(|address| address.to_string()),
            "node_id": node_id.to_string(),
            "boot": boot.0,
        }))?;
    }
    let connections_max = config.connections_max;
    let limits = Limits { shutdown_grace: STOP_BOUND, connections_max, ..Limits::default() };
    let authenticator = Authenticator::new(&root_password)?;
    if let Some(warning) = config.quorum_warning() {
        tracing::warn!("default of new databases: {warning}");
    }
    say_of_template(&config.template);
    let http_config = HttpConfig {
        authenticator,
        write_quorum: config.write_quorum,
        data_centers: config.data_centers,
        read_quorum: config.read_quorum,
        execution_mode: config.execution_mode,
        new_nodes: config.template.defaults.new_nodes,
        chain: config.chain,
        retry: config.retry,
        limits,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let until_stopped = async {
        // A sender that is gone means the same.
        stopped.await.ok();
    };
    let serving = tokio::spawn(http::serve(node.handle(), clients, http_config, until_stopped));
    let Some(seeds) = run_until_stopped(node, signals, stop, serving).await? else {
        return Ok(Ended::Stopped);
    };
    tracing::warn!("the cluster went on without this server: it joins again as another one");
    renounce(&config.data, node_id, &seeds).context("cannot give the identity up")?;
    Ok(Ended::Renounced { http: address, peer })
}

/// Runs until a signal or a failure, and stops in order; a second signal ends it at once. Gives
/// where the others are when it is to come back as another server.
async fn run_until_stopped(
    node: Node,
    mut signals: StopSignals,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
) -> anyhow::Result<Option<Vec<String>>> {
    let failed = node.handle();
    let outcome = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            Ok(None)
        }
        () = failed.storage_failed() => Err(anyhow::Error::new(StorageFailed)),
        why = failed.refused() => match why {
            Dismissal::Final(why) => Err(anyhow::Error::new(NoPlace(why))),
            Dismissal::Absent { seeds } => Ok(Some(seeds)),
        },
    };
    let ending = async {
        if matches!(outcome, Ok(None)) {
            node.leave(LEAVE_BOUND).await;
        }
        // Clients first: their running requests need the loop.
        drop(stop);
        serving.await.context("the HTTP layer broke")?;
        node.stop(STOP_BOUND).await.context("the last sync failed")
    };
    tokio::select! {
        ended = ending => ended?,
        signal = signals.next() => {
            tracing::warn!(signal, "stopping at once");
            // What was acknowledged is on the disk; nothing else is waited for, threads included.
            std::process::exit(EXIT_AT_ONCE);
        }
    }
    tracing::info!("stopped");
    outcome
}

/// What a person should know about the template. One that cannot be written counts all the same.
fn say_of_template(template: &Template) {
    let file = template.path.display();
    if let Err(error) = template.put_in_place() {
        tracing::warn!(%error, "the template of distributed configurations is not written");
    }
    for warning in &template.warnings {
        tracing::warn!(%file, "{warning}");
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn settings(config: &Config, http: SocketAddr) -> Settings {
    let links = config.links.as_ref();
    Settings {
        name: config.name.clone(),
        data: config.data.clone(),
        http: Some(http),
        members: config.members.clone(),
        join: config.join.clone(),
        witness: config.witness,
        advertise: links.and_then(|links| links.advertise.clone()),
        multicast: links.is_some_and(|links| links.multicast),
        dial: links.map(|links| links.dial.clone()).unwrap_or_default(),
        cluster: links.map(|links| links.cluster.clone()).unwrap_or_default(),
        password: links.map(|links| links.password.clone()).unwrap_or_default(),
        versions: config.versions,
        suspect_after: config.suspect_after,
        remove_after: config.remove_after,
        align: config.align.clone(),
        chain: config.chain.clone(),
        lost_max: config.lost_max,
        retry: config.retry,
        in_flight_max: config.in_flight_max,
    }
}

/// The one line on standard output, for whoever started this process.
fn announce(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("cannot write to standard output")
}

/// What ends this process in order.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Catches them from now on.
    fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        Ok(Self { terminate, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

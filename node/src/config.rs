//! Settings of a server: flags over environment over file over defaults, checked as a whole. What
//! new databases get is said last by the template of their distributed configurations. May not
//! open anything but these two files, and the data folder for the name saved in it.

pub mod dial;
mod error;
pub mod first_run;
mod join;
mod limits;
mod numbers;
pub mod password;
pub mod template;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use quorate_control::data_centers::{self, DataCenterError, DataCenters};
use quorate_control::distributed::Defaults;
use quorate_control::members::{Members, WriteQuorum};
use quorate_control::settings::{ExecutionMode, ReadQuorum};
use quorate_control::versions::Versions;
use quorate_protocol::chain::Chain;
use quorate_protocol::io::AlignConfig;
use serde::Deserialize;

use self::dial::DialError;
use self::first_run::Terminal;
use self::join::{Founding, Reach};
use self::numbers::Numbers;
use self::template::Template;
use crate::http::RetryPolicy;

pub use self::error::ConfigError;

/// Name of a cluster that was given none.
const DEFAULT_CLUSTER: &str = "quorate";
/// Where clients find a server that was not told where to listen.
const DEFAULT_HTTP: &str = "127.0.0.1:2480";
/// Where its peers do.
const DEFAULT_PEER: &str = "127.0.0.1:2434";

/// Flags of `quorate-node serve`. What is left out comes from the file, then from the default.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// Name of this server; kept in the data folder since its first start
    #[arg(long, visible_alias = "node-name")]
    pub name: Option<String>,
    /// Data folder
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Address for clients; port 0 picks a free one
    #[arg(long)]
    pub http: Option<SocketAddr>,
    /// Address for other servers; port 0 picks a free one
    #[arg(long)]
    pub peer: Option<SocketAddr>,
    /// Names of all MASTERs, this one included; without it the server stands alone
    #[arg(long, value_delimiter = ',')]
    pub masters: Option<Vec<String>>,
    /// Servers of the cluster to be joined, as HOST:PORT, any of them; a name may have several
    /// addresses; `multicast` stands for whoever is heard. What is in it already
    /// remembers them. It joins as REPLICA, and keeps a copy of everything
    #[arg(long, value_delimiter = ',', conflicts_with = "masters")]
    pub join: Vec<String>,
    /// What a server that joins becomes: replica, which can be made a MASTER later, or witness,
    /// which votes and keeps no records; witness with --masters, too
    #[arg(long)]
    pub role: Option<String>,
    /// Address at which other servers reach this one, as HOST:PORT; without it, that of --peer
    #[arg(long)]
    pub advertise: Option<String>,
    /// Others of the network can find this server by multicast DNS; --join multicast says so too
    #[arg(long)]
    pub multicast: bool,
    /// Address at which another server is reached, whatever it says itself, as NAME=HOST:PORT; once
    /// for each other MASTER. All servers can be given the same ones: its own is not dialled
    #[arg(long, value_parser = dial::parse)]
    pub dial: Vec<(String, String)>,
    /// Name of the cluster; servers of another one are refused
    #[arg(long)]
    pub cluster_name: Option<String>,
    /// Default of new databases, before the template's: majority, all or a number
    #[arg(long)]
    pub write_quorum: Option<String>,
    /// Default of new databases, before the template's: MASTERs that answer a read; a number,
    /// majority or all
    #[arg(long)]
    pub read_quorum: Option<String>,
    /// Default of new databases, before the template's: undefined, synchronous or asynchronous
    #[arg(long)]
    pub execution_mode: Option<String>,
    /// Template of new databases' distributed configurations, in JSON; without it
    /// config/default-distributed-db-config.json in the data folder
    #[arg(long)]
    pub default_db_config: Option<PathBuf>,
    /// Silence in milliseconds after which a peer counts as unreachable
    #[arg(long)]
    pub suspect_after_ms: Option<u64>,
    /// Milliseconds for which a MASTER that no database enlists (newNodeStrategy "dynamic") is lost
    /// before it leaves: 0 at once, -1 never
    #[arg(long, allow_negative_numbers = true)]
    pub auto_remove_offline_servers: Option<i64>,
    /// Decisions another server may be behind before the log is cut past it and it has to align
    #[arg(long)]
    pub log_entries_max: Option<u64>,
    /// Seconds another server may be behind before the log is cut past it
    #[arg(long)]
    pub log_age_max_s: Option<u64>,
    /// Items a server reads in one piece of alignment work; there is a pause behind each
    #[arg(long)]
    pub align_items: Option<u64>,
    /// Milliseconds between two pieces of alignment work
    #[arg(long)]
    pub align_pause_ms: Option<u64>,
    /// Default of new databases, before the template's: who decides between contents that diverged;
    /// quorum, content, majority, version, in the order given [default: majority,content,version]
    #[arg(long)]
    pub conflict_resolver_chain: Option<String>,
    /// Contents that lost a merge and are kept to be looked at; above, the oldest are dropped
    #[arg(long)]
    pub lost_contents_max: Option<u64>,
    /// The same in MiB
    #[arg(long)]
    pub lost_contents_mib_max: Option<u64>,
    /// Automatic retries of a transaction that met a lock or another writer
    #[arg(long)]
    pub retry_count: Option<u64>,
    /// Milliseconds before the first of them; doubles up to 32 times
    #[arg(long)]
    pub retry_delay_ms: Option<u64>,
    /// Share of that delay that chance decides, in percent
    #[arg(long)]
    pub retry_jitter_percent: Option<u64>,
    /// Requests worked on at once; above, clients are told to come back
    #[arg(long)]
    pub in_flight_max: Option<u64>,
    /// Open connections of clients; above, they are told to come back
    #[arg(long)]
    pub connections_max: Option<u64>,
    /// Speaks no newer version to other servers, as the program of that version would: for tests
    #[arg(long, hide = true)]
    pub speak_version: Option<u16>,
    /// File with settings, in YAML
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// `ORIENTDB_NODE_NAME`: name of a server that was given none by a flag
    #[arg(skip)]
    pub env_name: Option<String>,
    /// Password that the servers of the cluster share; never a flag, because others can read those
    #[arg(skip)]
    pub cluster_password: Option<String>,
    /// Password of the user `root`; never a flag either
    #[arg(skip)]
    pub root_password: Option<String>,
}

/// The file, as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    name: Option<String>,
    data: Option<PathBuf>,
    http: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    masters: Option<Vec<String>>,
    join: Vec<String>,
    role: Option<String>,
    advertise: Option<String>,
    multicast: bool,
    dial: BTreeMap<String, String>,
    cluster_name: Option<String>,
    cluster_password: Option<String>,
    root_password: Option<String>,
    write_quorum: Option<WriteQuorum>,
    read_quorum: Option<ReadQuorum>,
    execution_mode: Option<ExecutionMode>,
    default_db_config: Option<PathBuf>,
    suspect_after_ms: Option<u64>,
    auto_remove_offline_servers: Option<i64>,
    log_entries_max: Option<u64>,
    log_age_max_s: Option<u64>,
    align_items: Option<u64>,
    align_pause_ms: Option<u64>,
    conflict_resolver_chain: Option<String>,
    lost_contents_max: Option<u64>,
    lost_contents_mib_max: Option<u64>,
    retry_count: Option<u64>,
    retry_delay_ms: Option<u64>,
    retry_jitter_percent: Option<u64>,
    in_flight_max: Option<u64>,
    connections_max: Option<u64>,
}

/// Settings that fit together.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of this server.
    pub name: String,
    /// Data folder.
    pub data: PathBuf,
    /// Address for clients.
    pub http: SocketAddr,
    /// Links to other servers; `None` for a server that stands alone.
    pub links: Option<LinkSettings>,
    /// The MASTERs that found a cluster, this one included; of one that joins, itself.
    pub members: Members,
    /// Where it asks to be taken in; empty: it founds a cluster.
    pub join: Vec<String>,
    /// It is to be a witness.
    pub witness: bool,
    /// Default of new databases.
    pub write_quorum: WriteQuorum,
    /// Where servers are, in databases whose creation does not say.
    pub data_centers: DataCenters,
    /// Default of new databases.
    pub read_quorum: ReadQuorum,
    /// Default of new databases.
    pub execution_mode: ExecutionMode,
    /// Where what nobody else says of new databases was taken from.
    pub template: Template,
    /// Password of `root`, if given.
    pub root_password: Option<String>,
    /// Versions spoken to other servers.
    pub versions: Versions,
    /// Silence after which a peer counts as unreachable.
    pub suspect_after: Duration,
    /// For how long a MASTER that no database enlists is lost before it leaves; `None`: for ever.
    pub remove_after: Option<Duration>,
    /// When decision logs are cut past a server that is behind, and how fast servers align.
    pub align: AlignConfig,
    /// Who decides between contents that diverged; default of new databases.
    pub chain: Chain,
    /// Contents that lost and are kept, and their bytes.
    pub lost_max: (usize, usize),
    /// How transactions start over by themselves.
    pub retry: RetryPolicy,
    /// Requests worked on at once.
    pub in_flight_max: usize,
    /// Open connections of clients.
    pub connections_max: usize,
}

/// What a server among others needs.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// Address for other servers.
    pub listen: SocketAddr,
    /// Where others reach it, if that is not where it listens.
    pub advertise: Option<String>,
    /// Others can find it by multicast.
    pub multicast: bool,
    /// Where others are reached, whatever they say of themselves.
    pub dial: BTreeMap<String, String>,
    /// Name of the cluster.
    pub cluster: String,
    /// Password of the cluster.
    pub password: String,
}

impl Config {
    /// Merges flags, which win, with the file they name, and checks the whole. The terminal, when
    /// there is one, is where a server without a name asks for it.
    ///
    /// # Errors
    /// The file is unreadable, or settings do not fit together, or no name can be had.
    pub fn load(arguments: ServeArgs, terminal: Option<Terminal<'_>>) -> Result<Self, ConfigError> {
        let file = match &arguments.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        Self::merge(arguments, file, terminal)
    }

    fn merge(
        flags: ServeArgs,
        file: File,
        terminal: Option<Terminal<'_>>,
    ) -> Result<Self, ConfigError> {
        let Numbers { align, retry, lost_max, loads } = Numbers::of(&flags, &file)?;
        let (suspect_after, remove_after) = limits::lost_after(&flags, &file)?;
        let data = flags.data.or(file.data).ok_or(ConfigError::NoData)?;
        let (flagged, filed) = ((flags.masters, flags.join), (file.masters, file.join));
        let Founding { masters, join, witness } =
            join::founding(flagged, filed, flags.role.or(file.role))?;
        let stands_alone = masters.is_none() && join.is_empty();
        let given = flags.name.or(flags.env_name).or(file.name);
        let (name, members) = name_and_members(given, &data, masters, &join, terminal)?;
        let given = flags.default_db_config.or(file.default_db_config);
        let mut template = Template::load(given, &data, &members)?;
        let (write_quorum, read_quorum) = quorums(
            (flags.write_quorum, file.write_quorum),
            (flags.read_quorum, file.read_quorum),
            &template,
            // How many a server joins is not known before.
            if join.is_empty() { members.count() } else { usize::MAX },
        )?;
        let founders = if join.is_empty() { members.names() } else { &[] };
        check_centers(&template, (write_quorum, read_quorum), founders)?;
        let chain = flags.conflict_resolver_chain.or(file.conflict_resolver_chain);
        let chain = chain_of(chain, &template.defaults)?;
        let modes = (flags.execution_mode, file.execution_mode);
        let execution_mode = mode_of(modes, &template.defaults)?;
        let mut dial = file.dial;
        dial.extend(flags.dial);
        dial::check(&dial, &members, &name)?;
        dial.remove(&name);
        let advertise = flags.advertise.or(file.advertise);
        dial::check_join(&join, advertise.as_deref())?;
        let multicast = flags.multicast || file.multicast;
        check_multicast(multicast, stands_alone)?;
        let listen = flags.peer.or(file.peer).unwrap_or_else(|| default_address(DEFAULT_PEER));
        let reach = Reach { listen, advertise, multicast, seeds: &join };
        let cluster = flags.cluster_name.or(file.cluster_name);
        let secret = flags.cluster_password.or(file.cluster_password);
        let links =
            (!stands_alone).then(|| join::links(reach, dial, cluster, secret)).transpose()?;
        Ok(Self {
            witness: join::is_witness(witness, (&name, founders), &mut template)?,
            name,
            data,
            http: flags.http.or(file.http).unwrap_or_else(|| default_address(DEFAULT_HTTP)),
            links,
            members,
            join,
            write_quorum,
            data_centers: template.defaults.data_centers.clone(),
            read_quorum,
            execution_mode,
            template,
            root_password: flags.root_password.or(file.root_password).filter(|p| !p.is_empty()),
            versions: versions(flags.speak_version)?,
            suspect_after,
            remove_after,
            align,
            chain,
            lost_max,
            retry,
            in_flight_max: loads.0,
            connections_max: loads.1,
        })
    }
}

/// Every founder has its data center where quorums ask for one.
fn check_centers(
    template: &Template,
    quorums: (WriteQuorum, ReadQuorum),
    founders: &[String],
) -> Result<(), DataCenterError> {
    let names: Vec<&str> = founders.iter().map(String::as_str).collect();
    data_centers::check(&template.defaults.data_centers, quorums, &names)
}

/// A server that stands alone looks for nobody.
const fn check_multicast(wanted: bool, stands_alone: bool) -> Result<(), ConfigError> {
    if wanted && stands_alone { Err(ConfigError::MulticastAlone) } else { Ok(()) }
}

/// The name, given or found, and the MASTERs, of whom it must be one.
fn name_and_members(
    given: Option<String>,
    data: &Path,
    masters: Option<Vec<String>>,
    join: &[String],
    terminal: Option<Terminal<'_>>,
) -> Result<(String, Members), ConfigError> {
    let (name, is_saved) = match given {
        Some(name) => (name, false),
        None => {
            let others = masters.as_deref().or((!join.is_empty()).then_some(&[]));
            let found = first_run::name(data, others, terminal)?;
            (found.name, found.is_saved)
        }
    };
    let members = Members::new(masters.unwrap_or_else(|| vec![name.clone()]))?;
    if members.require(&name).is_err() {
        let advice = if is_saved {
            "its name is saved in the data folder: add it to the list at every server, or start \
             it with another data folder"
        } else {
            "give --name or ORIENTDB_NODE_NAME one of these, or add it to the list at every server"
        };
        let list = members.names().join(", ");
        return Err(ConfigError::NotListed { name, list, advice });
    }
    Ok((name, members))
}

fn versions(newest: Option<u16>) -> Result<Versions, ConfigError> {
    let up_to = |version| Versions::up_to(version).ok_or(ConfigError::Version(version));
    newest.map_or(Ok(Versions::ALL), up_to)
}

fn chain_of(given: Option<String>, template: &Defaults) -> Result<Chain, ConfigError> {
    let Some(text) = given else { return Ok(template.chain.clone().unwrap_or_default()) };
    let chain: Chain = text.parse()?;
    let stranger = chain.data_centers().find(|name| !template.data_centers.contains_key(*name));
    if let Some(center) = stranger {
        return Err(ConfigError::NoSuchCenter(DataCenterError::Unknown(center.to_owned())));
    }
    Ok(chain)
}

fn mode_of(
    (flag, file): (Option<String>, Option<ExecutionMode>),
    template: &Defaults,
) -> Result<ExecutionMode, ConfigError> {
    let given = flag.map(|text| text.parse()).transpose()?;
    Ok(given.or(file).unwrap_or(template.execution_mode))
}

impl Config {
    /// What the operator must be told of the quorum that new databases get.
    #[must_use]
    pub fn quorum_warning(&self) -> Option<String> {
        let names: Vec<&str> = self.members.names().iter().map(String::as_str).collect();
        let rule = data_centers::rule(self.write_quorum, &self.data_centers, &names);
        rule.warning(names.len())
    }
}

/// W and R, neither above the number of MASTERs.
fn quorums(
    (flag, file): (Option<String>, Option<WriteQuorum>),
    (read_flag, read_file): (Option<String>, Option<ReadQuorum>),
    template: &Template,
    masters: usize,
) -> Result<(WriteQuorum, ReadQuorum), ConfigError> {
    let set = flag.map(|text| text.parse()).transpose()?.or(file);
    let read_set = read_flag.map(|text| text.parse()).transpose()?.or(read_file);
    let write = set.unwrap_or(template.defaults.write_quorum);
    let read = read_set.unwrap_or(template.defaults.read_quorum);
    for (key, in_template, is_set, value) in [
        ("write_quorum", "writeQuorum", set.is_some(), write.effective(masters)),
        ("read_quorum", "readQuorum", read_set.is_some(), read.effective(masters)),
    ] {
        if value > masters {
            let path = template.path.display();
            let key = if is_set {
                key.to_owned()
            } else {
                format!("default_db_config: {path}: {in_template}")
            };
            return Err(ConfigError::QuorumTooLarge { key, value, masters });
        }
    }
    Ok((write, read))
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
    serde_saphyr::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.to_path_buf(), detail: error.to_string() })
}

fn default_address(text: &str) -> SocketAddr {
    text.parse().expect("the default addresses are addresses")
}

#[cfg(test)]
mod tests;

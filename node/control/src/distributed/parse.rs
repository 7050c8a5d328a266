//! From the text of a configuration, of whichever version, to the checked type. Nothing is guessed:
//! what is not legal is refused with its place. May not know how the text came here.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_protocol::chain::{Chain, ChainError};

use super::obsolete::{self, Obsolete};
use super::servers::{NEW_NODE, ServerList};
use super::tree::{Field, Settings, Tree};
use super::{
    ANY, ClusterConfig, ConfigError, DistributedConfig, NewNodeStrategy, Overridable, Parsed,
    Quorum, Role, VERSION_MAX, Warning,
};
use crate::data_centers::{DataCenter, DataCenterError, DataCenters};
use crate::members::{NAME_BYTES_MAX, is_legal_name};

/// Who decides between contents that diverged; the original has it among a server's settings, as
/// `distributed.conflictResolverRepairerChain`.
pub const CHAIN: &str = "conflictResolverRepairerChain";

/// Settings of a database that count.
const OF_DATABASE: &[&str] = &[
    "version",
    "autoDeploy",
    "readQuorum",
    "writeQuorum",
    "executionMode",
    "readYourWrites",
    "newNodeStrategy",
    "servers",
    "dataCenters",
    CHAIN,
    "clusters",
    "replication",
];

/// Settings of a cluster that count.
const OF_CLUSTER: &[&str] = &[
    "servers",
    "owner",
    "readQuorum",
    "writeQuorum",
    "executionMode",
    "readYourWrites",
    "replication",
    "partitioning",
];

impl DistributedConfig {
    /// Reads the text of a `distributed-config.json` or of its template, version 1.6 to 3.x.
    ///
    /// # Errors
    /// No JSON, an unknown or repeated key, a value that is not legal; with its path.
    pub fn parse(text: &[u8]) -> Result<Parsed, ConfigError> {
        let tree: Tree = serde_json::from_slice(text)?;
        let settings = Field::root(&tree).settings(&known(OF_DATABASE, obsolete::OF_DATABASE))?;
        let mut warnings = Vec::new();
        obsolete::look(obsolete::OF_DATABASE, &settings, &mut warnings)?;
        let data_centers = optional(&settings, "dataCenters", data_centers)?.unwrap_or_default();
        let chain = optional(&settings, CHAIN, |field| chain(field, &data_centers))?;
        let version = |field: &Field<'_>| field.whole(0, VERSION_MAX.cast_signed());
        let strategy = optional(&settings, "newNodeStrategy", new_node_strategy)?;
        let mut config = Self {
            version: optional(&settings, "version", version)?.map_or(1, i64::cast_unsigned),
            auto_deploy: optional(&settings, "autoDeploy", Field::bool)?.unwrap_or(true),
            overridable: overridable(&settings, !data_centers.is_empty())?,
            new_node_strategy: strategy.unwrap_or_default(),
            servers: optional(&settings, "servers", roles)?.unwrap_or_default(),
            data_centers,
            chain,
            clusters: BTreeMap::new(),
        };
        let legal = "an object with clusters by name";
        let clusters = settings
            .get("clusters")
            .ok_or(ConfigError::Missing { path: "clusters".into(), legal })?;
        let replicated = replication(&settings, &mut warnings)?.unwrap_or(true);
        let mut names = BTreeSet::new();
        for (name, field) in clusters.pairs(legal)? {
            if name.is_empty() {
                return Err(field.refuse("names of clusters and \"*\""));
            }
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(ConfigError::Twice { path: field.path });
            }
            let has_centers = !config.data_centers.is_empty();
            let cluster = cluster(&field, replicated, has_centers, &mut warnings)?;
            warn_of_absent(&config.overridable, name, &cluster, &mut warnings);
            config.clusters.insert(name.to_string(), cluster);
        }
        Ok(Parsed { config, warnings })
    }
}

fn known(counting: &[&'static str], obsolete: &[Obsolete]) -> Vec<&'static str> {
    counting.iter().copied().chain(obsolete.iter().map(|o| o.name)).collect()
}

/// A value that may be left out.
fn optional<'a, T>(
    settings: &Settings<'a>,
    key: &str,
    read: impl FnOnce(&Field<'a>) -> Result<T, ConfigError>,
) -> Result<Option<T>, ConfigError> {
    settings.get(key).map(read).transpose()
}

fn overridable(settings: &Settings<'_>, has_centers: bool) -> Result<Overridable, ConfigError> {
    let quorum = |field: &Field<'_>| quorum(field, has_centers);
    let mode = |field: &Field<'_>| {
        let legal = "\"undefined\", \"synchronous\" and \"asynchronous\"";
        field.text(legal)?.parse().map_err(|_| field.refuse(legal))
    };
    Ok(Overridable {
        read_quorum: optional(settings, "readQuorum", quorum)?,
        write_quorum: optional(settings, "writeQuorum", quorum)?,
        execution_mode: optional(settings, "executionMode", mode)?,
        read_your_writes: optional(settings, "readYourWrites", Field::bool)?,
    })
}

fn quorum(field: &Field<'_>, has_centers: bool) -> Result<Quorum, ConfigError> {
    let count = |number: i64| u32::try_from(number).ok().filter(|n| *n > 0).map(Quorum::Count);
    let word = |text: &str| {
        let words = [
            ("majority", Quorum::Majority),
            ("all", Quorum::All),
            ("localDataCenter", Quorum::LocalDataCenter),
        ];
        let found = words.into_iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
        found.map(|(_, quorum)| quorum).filter(|q| has_centers || *q != Quorum::LocalDataCenter)
    };
    let found = if let Tree::Whole(number) = field.tree {
        count(*number)
    } else if let Tree::Text(text) = field.tree {
        word(text)
    } else {
        None
    };
    found.ok_or_else(|| {
        field.refuse(if has_centers {
            "whole numbers from 1, \"majority\", \"all\" and \"localDataCenter\""
        } else {
            "whole numbers from 1, \"majority\" and \"all\"; with `dataCenters` also \
             \"localDataCenter\""
        })
    })
}

fn chain(field: &Field<'_>, centers: &DataCenters) -> Result<Chain, ConfigError> {
    let names: Vec<&str> = centers.keys().map(String::as_str).collect();
    let legal = |why: String| {
        let winner = match &names[..] {
            [] => String::new(),
            names => alloc::format!(", and dc{{winner:NAME}} with NAME of {}", names.join(", ")),
        };
        alloc::format!("quorum, content, majority and version, each once, by commas{winner}{why}")
    };
    let text = field.text(&legal(String::new()))?;
    let chain: Chain = text
        .parse()
        .map_err(|error: ChainError| field.refuse(legal(alloc::format!(": {error}"))))?;
    let stranger = chain.data_centers().find(|center| !names.contains(center));
    if let Some(center) = stranger {
        let error = DataCenterError::Unknown(center.to_string());
        return Err(field.refuse(legal(alloc::format!(": {error}"))));
    }
    Ok(chain)
}

fn new_node_strategy(field: &Field<'_>) -> Result<NewNodeStrategy, ConfigError> {
    let words = [("static", NewNodeStrategy::Static), ("dynamic", NewNodeStrategy::Dynamic)];
    one_of(field, "\"static\" and \"dynamic\"", words)
}

fn roles(field: &Field<'_>) -> Result<BTreeMap<String, Role>, ConfigError> {
    let role = |(name, field): (&str, Field<'_>)| {
        if name != ANY && !is_legal_name(name) {
            return Err(not_a_name(&field.path, name, "\"*\" and "));
        }
        let words =
            [("master", Role::Master), ("replica", Role::Replica), ("witness", Role::Witness)];
        let legal = "\"master\", \"replica\" and \"witness\"";
        Ok((name.to_string(), one_of(&field, legal, words)?))
    };
    field.pairs("an object with a role for each server")?.into_iter().map(role).collect()
}

/// A word, whatever the case.
fn one_of<T, const N: usize>(
    field: &Field<'_>,
    legal: &str,
    words: [(&str, T); N],
) -> Result<T, ConfigError> {
    let text = field.text(legal)?;
    let found = words.into_iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    found.map(|(_, value)| value).ok_or_else(|| field.refuse(legal))
}

fn not_a_name(path: &str, value: &str, besides: &str) -> ConfigError {
    let legal = alloc::format!(
        "{besides}names of servers: 1 to {NAME_BYTES_MAX} letters, digits, '_', '-' or '.', the \
         first one a letter or digit"
    );
    ConfigError::Value { path: path.to_string(), value: alloc::format!("\"{value}\""), legal }
}

fn server(field: &Field<'_>) -> Result<String, ConfigError> {
    let name = field.text("names of servers")?;
    if is_legal_name(name) { Ok(name.into()) } else { Err(not_a_name(&field.path, name, "")) }
}

/// Servers and, at most once, the tag for those that join.
fn server_list(entries: &[Field<'_>]) -> Result<ServerList, ConfigError> {
    let (mut names, mut new_node) = (Vec::<String>::new(), None);
    for entry in entries {
        let name = entry.text("names of servers and \"<NEW_NODE>\"")?;
        let is_tag = name == NEW_NODE;
        if (is_tag && new_node.is_some()) || names.iter().any(|other| other == name) {
            return Err(ConfigError::Twice { path: entry.path.clone() });
        }
        if is_tag {
            new_node = Some(names.len());
        } else if is_legal_name(name) {
            names.push(name.to_string());
        } else {
            return Err(not_a_name(&entry.path, name, "\"<NEW_NODE>\" and "));
        }
    }
    Ok(ServerList::new(names, new_node))
}

fn data_centers(field: &Field<'_>) -> Result<DataCenters, ConfigError> {
    let mut found = DataCenters::new();
    for (name, field) in field.pairs("an object with data centers by name")? {
        if name.is_empty() {
            return Err(field.refuse("names of data centers"));
        }
        let settings = field.settings(&["writeQuorum", "servers"])?;
        let missing = |key: &str, legal| {
            let path = alloc::format!("{}.{key}", field.path);
            ConfigError::Missing { path, legal }
        };
        let legal = "whole numbers from 1, \"majority\" and \"all\"";
        let write_quorum = settings.get("writeQuorum").ok_or(missing("writeQuorum", legal))?;
        let legal = "a list with one server at least";
        let servers = settings.get("servers").ok_or(missing("servers", legal))?;
        let mut names: Vec<String> = Vec::new();
        for entry in servers.list(legal)? {
            let server = server(&entry)?;
            let elsewhere = found.values().any(|center| center.servers.contains(&server));
            if elsewhere || names.contains(&server) {
                return Err(ConfigError::Twice { path: entry.path });
            }
            names.push(server);
        }
        if names.is_empty() {
            return Err(servers.refuse(legal));
        }
        let write_quorum = quorum(write_quorum, false)?.into();
        found.insert(name.to_string(), DataCenter { write_quorum, servers: names });
    }
    Ok(found)
}

fn cluster(
    field: &Field<'_>,
    replicated: bool,
    has_centers: bool,
    warnings: &mut Vec<Warning>,
) -> Result<ClusterConfig, ConfigError> {
    let settings = field.settings(&known(OF_CLUSTER, obsolete::OF_CLUSTER))?;
    obsolete::look(obsolete::OF_CLUSTER, &settings, warnings)?;
    let replicated = replication(&settings, warnings)?.unwrap_or(replicated);
    let list = |field: &Field<'_>| server_list(&field.list("a list of servers")?);
    let listed = optional(&settings, "servers", list)?;
    let has_list = listed.is_some();
    let partitions =
        optional(&settings, "partitioning", |field| partitioning(field, has_list, warnings))?;
    let mut servers = listed.or(partitions).unwrap_or_default();
    if !replicated {
        servers = ServerList::default();
    }
    let owner = |field: &Field<'_>| {
        let owner = server(field)?;
        if servers.names().contains(&owner) {
            return Ok(owner);
        }
        Err(field.refuse(if servers.names().is_empty() {
            "servers of the cluster, which lists none".to_string()
        } else {
            alloc::format!("the servers of the cluster: {}", servers.names().join(", "))
        }))
    };
    let owner = optional(&settings, "owner", owner)?;
    Ok(ClusterConfig { servers, owner, overridable: overridable(&settings, has_centers)? })
}

/// What 1.6 said before there were lists of servers.
fn replication(
    settings: &Settings<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<bool>, ConfigError> {
    let Some(field) = settings.get("replication") else { return Ok(None) };
    let replicated = field.bool()?;
    let instead = if replicated {
        "`servers` of a cluster says who keeps it"
    } else {
        "it is read as `servers` without anybody, which is how a cluster is not replicated"
    };
    warnings.push(Warning::Obsolete { path: field.path.clone(), instead });
    Ok(Some(replicated))
}

/// The lists of 1.6, joined to one: requests took turns between them, and there are no such turns.
/// A list that lost its inner brackets, as in some copies of the tutorial, is one partition.
fn partitioning(
    field: &Field<'_>,
    has_list: bool,
    warnings: &mut Vec<Warning>,
) -> Result<ServerList, ConfigError> {
    let settings = field.settings(&["strategy", "default", "partitions"])?;
    optional(&settings, "strategy", |f| one_of(f, "\"round-robin\"", [("round-robin", ())]))?;
    optional(&settings, "default", |f| f.whole(0, i64::from(u32::MAX)))?;
    let legal = "a list of lists of servers";
    let entries = settings.get("partitions").map_or(Ok(Vec::new()), |field| field.list(legal))?;
    let is_flat = entries.iter().any(|entry| matches!(entry.tree, Tree::Text(_)));
    let lists = if is_flat {
        alloc::vec![server_list(&entries)?]
    } else {
        let list = |entry: &Field<'_>| server_list(&entry.list(legal)?);
        entries.iter().map(list).collect::<Result<Vec<_>, _>>()?
    };
    let instead = match lists.len() {
        _ if has_list => "`servers` of the same cluster counts",
        0 | 1 => "it is read as `servers` of the cluster",
        _ => {
            "its partitions are read as one list of `servers`, each of which keeps all records; to \
             divide them, give each part a cluster with `servers` of its own"
        }
    };
    warnings.push(Warning::Obsolete { path: field.path.clone(), instead });
    Ok(joined(lists))
}

fn joined(mut lists: Vec<ServerList>) -> ServerList {
    if lists.len() == 1 {
        return lists.remove(0);
    }
    let mut names: Vec<String> = Vec::new();
    for name in lists.iter().flat_map(|list| list.names()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let grows = lists.iter().any(ServerList::grows);
    let new_node = grows.then_some(names.len());
    ServerList::new(names, new_node)
}

/// Says what counts where a replicated cluster is left without a setting that the original misses.
fn warn_of_absent(
    database: &Overridable,
    name: &str,
    cluster: &ClusterConfig,
    warnings: &mut Vec<Warning>,
) {
    if cluster.servers.is_empty() {
        return;
    }
    let own = &cluster.overridable;
    for (setting, is_set, used) in [
        ("readQuorum", own.read_quorum.or(database.read_quorum).is_some(), "1"),
        ("writeQuorum", own.write_quorum.or(database.write_quorum).is_some(), "majority"),
        ("readYourWrites", own.read_your_writes.or(database.read_your_writes).is_some(), "true"),
    ] {
        if !is_set {
            warnings.push(Warning::Absent { setting, cluster: name.to_string(), used });
        }
    }
}

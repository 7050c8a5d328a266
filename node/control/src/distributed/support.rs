//! What of a configuration this server can keep today. What asks for another placement of data, or
//! another promise, than there would be is refused; what only sounds different is warned about. May
//! not know where a configuration comes from.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use quorate_protocol::chain::Chain;

use super::{
    ANY, ClusterConfig, DistributedConfig, NewNodeStrategy, Overridable, Quorum, Role, Warning,
};
use crate::data_centers::DataCenters;
use crate::dynamic::NewNodes;
use crate::members::{Members, WriteQuorum};
use crate::settings::{ExecutionMode, ReadQuorum};

/// Clusters of the original's own records. What takes their place here is kept by all MASTERs and
/// decided by a majority, whatever is said of them.
const INTERNAL: [&str; 2] = ["internal", "index"];

/// What databases get whose creation does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Defaults {
    /// W.
    pub write_quorum: WriteQuorum,
    /// R.
    pub read_quorum: ReadQuorum,
    /// Whether writers wait.
    pub execution_mode: ExecutionMode,
    /// Where servers are.
    pub data_centers: DataCenters,
    /// Which servers they enlist.
    pub new_nodes: NewNodes,
    /// Who decides between contents that diverged; `None`: the server's own setting.
    pub chain: Option<Chain>,
}

/// A configuration that can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supported {
    /// What it comes to.
    pub defaults: Defaults,
    /// What in it does nothing.
    pub warnings: Vec<Warning>,
}

/// Something that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Unsupported {
    /// Where, as `clusters.client_usa.owner`.
    pub path: String,
    /// Why, and what to do.
    pub reason: String,
}

/// Goes through a configuration.
struct Look<'a> {
    config: &'a DistributedConfig,
    masters: &'a Members,
    warnings: Vec<Warning>,
    refused: Vec<Unsupported>,
}

impl DistributedConfig {
    /// What new databases on these MASTERs get by this template. Whether quorums can be reached is
    /// not looked at: other settings come before them.
    ///
    /// # Errors
    /// Everything in it that cannot be kept.
    pub fn supported(&self, masters: &Members) -> Result<Supported, Vec<Unsupported>> {
        let mut look = Look { config: self, masters, warnings: Vec::new(), refused: Vec::new() };
        look.database();
        look.roles();
        for (name, cluster) in &self.clusters {
            look.cluster(name, cluster);
        }
        if !look.refused.is_empty() {
            return Err(look.refused);
        }
        let defaults = Defaults {
            write_quorum: self.write_quorum(ANY).into(),
            read_quorum: WriteQuorum::from(self.read_quorum(ANY)).into(),
            execution_mode: self.execution_mode(ANY),
            data_centers: self.data_centers.clone(),
            new_nodes: self.new_nodes(),
            chain: self.chain.clone(),
        };
        Ok(Supported { defaults, warnings: look.warnings })
    }
}

impl DistributedConfig {
    /// Which servers are enlisted: where not everybody is, the MASTERs that it names.
    fn new_nodes(&self) -> NewNodes {
        match self.new_node_strategy {
            NewNodeStrategy::Static => NewNodes::Static,
            NewNodeStrategy::Dynamic => {
                let named = self.servers.iter();
                let named = named.filter(|(name, role)| *name != ANY && **role == Role::Master);
                NewNodes::Dynamic(named.map(|(name, _)| name.clone()).collect())
            }
        }
    }
}

impl Look<'_> {
    fn warn(&mut self, path: impl Into<String>, instead: &'static str) {
        self.warnings.push(Warning::NoEffect { path: path.into(), instead });
    }

    fn refuse(&mut self, path: impl Into<String>, reason: impl Into<String>) {
        self.refused.push(Unsupported { path: path.into(), reason: reason.into() });
    }

    fn database(&mut self) {
        if self.config.version != 1 {
            self.warn("version", "a new database begins with version 1");
        }
        if !self.config.auto_deploy {
            self.warn("autoDeploy", "every MASTER has every database");
        }
        if !self.config.clusters.contains_key(ANY) {
            self.refuse(
                "clusters.*",
                "it is missing: clusters that are not listed would not be replicated, and every \
                 MASTER keeps every cluster; add {\"servers\": [\"<NEW_NODE>\"]}",
            );
        }
    }

    fn roles(&mut self) {
        for server in self.masters.names() {
            if self.config.role(server) == Role::Replica {
                let listed = self.config.servers.contains_key(server);
                let path = format!("servers.{}", if listed { server } else { ANY });
                let reason = format!(
                    "there are no REPLICAs yet, and '{server}' is in --masters; make it \"master\""
                );
                self.refuse(path, reason);
            }
        }
        if self.config.servers.get(ANY) == Some(&Role::Witness) {
            let reason = "witnesses have to be named: less than half of those who vote may be some";
            self.refuse(format!("servers.{ANY}"), reason);
        }
        for server in self.config.servers.keys() {
            let is_dynamic = self.config.new_node_strategy == NewNodeStrategy::Dynamic;
            // There it is enlisted, whenever it comes.
            let is_for_later = is_dynamic && self.config.role(server) == Role::Master;
            if server != ANY && !self.is_master(server) && !is_for_later {
                self.warn(format!("servers.{server}"), "it is not in --masters");
            }
        }
    }

    fn is_master(&self, server: &str) -> bool {
        self.masters.require(server).is_ok()
    }

    fn cluster(&mut self, name: &str, cluster: &ClusterConfig) {
        let is_internal = INTERNAL.iter().any(|internal| name.eq_ignore_ascii_case(internal));
        if is_internal && cluster.servers.is_empty() {
            return;
        }
        self.cluster_servers(name, cluster);
        if cluster.owner.is_some() {
            self.refuse(
                format!("clusters.{name}.owner"),
                "owners cannot be chosen yet: a class has a cluster for each MASTER, owned by it; \
                 leave it out",
            );
        }
        if !self.config.read_your_writes(name) {
            let path = self.place(name, "readYourWrites", |o| o.read_your_writes.is_some());
            self.warn(path, "a server always sees what it has acknowledged");
        }
        if name != ANY {
            self.same_as_any(name);
        }
    }

    fn cluster_servers(&mut self, name: &str, cluster: &ClusterConfig) {
        let (path, names) = (format!("clusters.{name}.servers"), cluster.servers.names());
        let without: Vec<&str> = self
            .masters
            .names()
            .iter()
            .filter(|master| !cluster.servers.grows() && !names.contains(master))
            .map(String::as_str)
            .collect();
        if !without.is_empty() {
            let reason = format!(
                "clusters cannot be on chosen servers yet: every MASTER keeps every cluster, and \
                 the list lacks {}; add them or \"<NEW_NODE>\"",
                without.join(", ")
            );
            self.refuse(path, reason);
            return;
        }
        for server in names.iter().filter(|name| !self.is_master(name)).collect::<Vec<_>>() {
            self.warn(format!("'{server}' in {path}"), "it is not in --masters");
        }
        if !names.is_empty() {
            self.warn(
                format!("the order in {path}"),
                "a class has a cluster for each MASTER, owned by it",
            );
        }
    }

    /// Quorums and modes are the database's alone.
    fn same_as_any(&mut self, name: &str) {
        let config = self.config;
        let text = |quorum: Quorum| quorum.to_string();
        for (setting, own, others) in [
            ("writeQuorum", text(config.write_quorum(name)), text(config.write_quorum(ANY))),
            ("readQuorum", text(config.read_quorum(name)), text(config.read_quorum(ANY))),
            (
                "executionMode",
                config.execution_mode(name).to_string(),
                config.execution_mode(ANY).to_string(),
            ),
        ] {
            if own != others {
                let reason = format!(
                    "it cannot be set for single clusters yet: {own} for this one, {others} for \
                     the rest; make them equal"
                );
                self.refuse(format!("clusters.{name}.{setting}"), reason);
            }
        }
    }

    /// Where a setting of a cluster is said.
    fn place(&self, name: &str, setting: &str, is_set: fn(&Overridable) -> bool) -> String {
        let own = self.config.clusters.get(name).is_some_and(|c| is_set(&c.overridable));
        if own { format!("clusters.{name}.{setting}") } else { setting.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distributed::SHIPPED_TEMPLATE;
    use crate::distributed::tests::{parse, warnings};

    fn supported(text: &str) -> Result<Supported, Vec<String>> {
        let masters = "n1,n2,n3".parse().unwrap();
        let result = parse(text).config.supported(&masters);
        result.map_err(|refused| refused.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_shipped_template_is_kept_without_a_word() {
        let supported = supported(SHIPPED_TEMPLATE).unwrap();
        assert_eq!((supported.defaults, supported.warnings), (Defaults::default(), Vec::new()));
    }

    #[test]
    fn what_any_cluster_says_is_what_databases_get() {
        let text = r#"{"writeQuorum":"all","readQuorum":"all","executionMode":"synchronous",
            "clusters":{"internal":{"writeQuorum":1},"c":{"servers":["<NEW_NODE>"],
            "writeQuorum":2,"readQuorum":"majority"},"*":{"servers":["n3","n2","n1"],
            "writeQuorum":2,"readQuorum":"majority"}}}"#;
        let supported = supported(text).unwrap();
        let defaults = Defaults {
            write_quorum: WriteQuorum::Count(2),
            read_quorum: ReadQuorum::Majority,
            execution_mode: ExecutionMode::Synchronous,
            data_centers: DataCenters::new(),
            new_nodes: NewNodes::Static,
            chain: None,
        };
        assert_eq!(supported.defaults, defaults);
        assert_eq!(
            warnings(&supported.warnings),
            ["the order in clusters.*.servers has no effect: a class has a cluster for each \
              MASTER, owned by it"]
        );
    }

    /// FEATURES: S9
    #[test]
    fn what_does_nothing_is_said() {
        let text = r#"{"version":7,"autoDeploy":false,"newNodeStrategy":"dynamic",
            "readYourWrites":false,"servers":{"*":"replica","n1":"master","n2":"master",
            "n3":"master","n9":"replica"},
            "clusters":{"*":{"servers":["<NEW_NODE>","n9"]}}}"#;
        let found = warnings(&supported(text).unwrap().warnings);
        let paths: Vec<&str> =
            found.iter().map(|w| w.split_once(" has no effect: ").unwrap().0).collect();
        assert_eq!(
            paths,
            [
                "version",
                "autoDeploy",
                "servers.n9",
                "'n9' in clusters.*.servers",
                "the order in clusters.*.servers",
                "readYourWrites",
            ]
        );
    }

    /// FEATURES: S9
    #[test]
    fn dynamic_databases_enlist_the_masters_they_name_now_or_later() {
        let text = r#"{"newNodeStrategy":"Dynamic","servers":{"*":"master","n1":"master",
            "n8":"master","n9":"replica"},"clusters":{"*":{"servers":["<NEW_NODE>"]}}}"#;
        let supported = supported(text).unwrap();
        let named = ["n1", "n8"].map(String::from).into();
        assert_eq!(supported.defaults.new_nodes, NewNodes::Dynamic(named));
        let words = "servers.n9 has no effect: it is not in --masters";
        assert_eq!(warnings(&supported.warnings), [words]);
    }

    /// FEATURES: S9
    #[test]
    fn what_cannot_be_kept_is_refused_all_at_once() {
        let text = r#"{"servers":{"*":"replica","n1":"master","n2":"Replica"},
            "clusters":{"internal":{},"index":{"servers":["n1"]},
            "usa":{"servers":["n1","n2","n3"],"owner":"n2","writeQuorum":"all",
            "readQuorum":2,"executionMode":"asynchronous"},"local":{}}}"#;
        let refused = supported(text).unwrap_err();
        for (line, complaint) in refused.iter().zip([
            "clusters.*: it is missing",
            "servers.n2: there are no REPLICAs yet, and 'n2' is in --masters",
            "servers.*: there are no REPLICAs yet, and 'n3' is in --masters",
            "clusters.index.servers: clusters cannot be on chosen servers yet: every MASTER \
             keeps every cluster, and the list lacks n2, n3",
            "clusters.local.servers: clusters cannot be on chosen servers yet: every MASTER \
             keeps every cluster, and the list lacks n1, n2, n3",
            "clusters.usa.owner: owners cannot be chosen yet",
            "clusters.usa.writeQuorum: it cannot be set for single clusters yet: all for this \
             one, majority for the rest",
            "clusters.usa.readQuorum: it cannot be set for single clusters yet: 2 for",
            "clusters.usa.executionMode: it cannot be set for single clusters yet: asynchronous",
        ]) {
            assert!(line.starts_with(complaint), "{complaint:?} in {refused:#?}");
        }
        assert_eq!(refused.len(), 9, "{refused:#?}");
    }
}

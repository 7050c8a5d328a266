//! Lists of servers and the tag that stands for whoever joins (`<NEW_NODE>`); joining and leaving
//! as functions of the document. May not know who is there.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{ANY, DistributedConfig, NewNodeStrategy, VERSION_MAX};

/// The place in a list where servers that join are put.
pub const NEW_NODE: &str = "<NEW_NODE>";

/// Servers that keep a cluster, the owner first, and where the next one is put.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerList {
    names: Vec<String>,
    /// So many names stand before the tag; `None`: no tag, nobody is added.
    new_node: Option<usize>,
}

impl ServerList {
    /// A list with the tag behind so many names, or without.
    ///
    /// # Panics
    /// More names before the tag than there are.
    #[must_use]
    pub fn new(names: Vec<String>, new_node: Option<usize>) -> Self {
        assert!(new_node.is_none_or(|before| before <= names.len()), "the tag is in the list");
        Self { names, new_node }
    }

    /// The servers, without the tag.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether servers that join are added.
    #[must_use]
    pub const fn grows(&self) -> bool {
        self.new_node.is_some()
    }

    /// True for a cluster that is not replicated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.new_node.is_none()
    }

    /// Names and tag, in order.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        let (before, after) = self.names.split_at(self.new_node.unwrap_or(self.names.len()));
        let tag = self.new_node.map(|_| NEW_NODE);
        before.iter().map(String::as_str).chain(tag).chain(after.iter().map(String::as_str))
    }

    fn contains(&self, server: &str) -> bool {
        self.names.iter().any(|name| name == server)
    }

    /// Puts a server before the tag; says whether it did.
    fn join(&mut self, server: &str) -> bool {
        let Some(at) = self.new_node.filter(|_| !self.contains(server)) else { return false };
        self.names.insert(at, server.to_string());
        self.new_node = Some(at + 1);
        true
    }

    /// Takes a server out; says whether it was there.
    fn leave(&mut self, server: &str) -> bool {
        let Some(at) = self.names.iter().position(|name| name == server) else { return false };
        self.names.remove(at);
        self.new_node = self.new_node.map(|before| before - usize::from(at < before));
        true
    }
}

impl DistributedConfig {
    /// Takes in a server that joins: into every list with the tag, behind those that are there
    /// already, and with the strategy `static` among the roles, as what `*` is. Each of the two
    /// raises the version. Says whether anything changed.
    pub fn join(&mut self, server: &str) -> bool {
        let mut joined = false;
        for cluster in self.clusters.values_mut() {
            joined |= cluster.servers.join(server);
        }
        let enlisted =
            self.new_node_strategy == NewNodeStrategy::Static && !self.servers.contains_key(server);
        if enlisted {
            let role = self.role(ANY);
            self.servers.insert(server.to_string(), role);
        }
        self.raise(u64::from(joined) + u64::from(enlisted));
        joined || enlisted
    }

    /// Takes a server out of every list, and its ownership with it: an owner that keeps no copy
    /// would be none. Its role stays, as in the original. Raises the version, and says whether it
    /// was in any list.
    pub fn leave(&mut self, server: &str) -> bool {
        let mut left = false;
        for cluster in self.clusters.values_mut() {
            if cluster.servers.leave(server) {
                left = true;
                cluster.owner.take_if(|owner| owner == server);
            }
        }
        self.raise(u64::from(left));
        left
    }

    fn raise(&mut self, by: u64) {
        self.version = (self.version + by).min(VERSION_MAX);
    }
}

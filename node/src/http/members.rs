//! The servers of a cluster: what each tells of itself on its links, how this one sees the others,
//! and what follows for databases. Shapes and small sums; may not know links, HTTP or clocks.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quorate_api::NodeId;
use quorate_control::schema::Database;
use quorate_control::servers::Role;
use serde::{Deserialize, Serialize};

use super::backend::NodeState;

/// What a server tells of itself, about once a second and whenever its databases change. Numbers
/// count from its start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bulletin {
    /// Where it listens for clients.
    pub http: Option<SocketAddr>,
    /// Where it listens for other servers.
    pub peer: Option<SocketAddr>,
    /// When it started by its own wall clock, in milliseconds since 1970.
    pub started_ms: u64,
    /// Open connections of clients.
    pub connections: u64,
    /// Memory in use, in bytes.
    pub memory: u64,
    /// Memory of the machine, in bytes.
    pub memory_max: u64,
    /// Names of the databases that it has.
    pub databases: Vec<String>,
    /// Decisions of its own that other servers have not applied yet, as far as it knows; those that
    /// have all are left out.
    pub lags: BTreeMap<NodeId, u64>,
    /// What it has to do with each other server, by name.
    pub toward: BTreeMap<String, Toward>,
}

/// What one server has to do with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Toward {
    /// How long signs of life travel there and back.
    pub latency: Latency,
    /// Messages sent there.
    pub messages: u64,
}

/// Measured times, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Latency {
    /// How many.
    pub entries: u64,
    /// The newest.
    pub last: u64,
    /// The shortest.
    pub min: u64,
    /// The longest.
    pub max: u64,
    /// All together.
    pub total: u64,
}

impl Latency {
    /// One more.
    pub fn add(&mut self, us: u64) {
        self.min = if self.entries == 0 { us } else { self.min.min(us) };
        self.max = self.max.max(us);
        self.last = us;
        self.total = self.total.saturating_add(us);
        self.entries += 1;
    }

    /// Their mean; 0 when there are none.
    #[must_use]
    pub fn average(&self) -> u64 {
        self.total.checked_div(self.entries).unwrap_or(0)
    }
}

/// Where a server is in its life, as another one sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerState {
    /// As it says itself, and it is reachable.
    Is(NodeState),
    /// Met once, and not reachable from here now.
    NotAvailable,
    /// Never met.
    #[default]
    Offline,
}

impl ServerState {
    /// The original's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Is(state) => state.name(),
            Self::NotAvailable => "NOT_AVAILABLE",
            Self::Offline => "OFFLINE",
        }
    }
}

/// One server, this one included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Its identity; `None` until it was met once.
    pub node: Option<NodeId>,
    /// What it is to every database.
    pub role: Role,
    /// Where it is in its life.
    pub state: ServerState,
    /// What it told last since it started; kept when it cannot be reached any more.
    pub bulletin: Option<Bulletin>,
    /// Messages that came from it since this server started, by kind; those that never came are
    /// left out.
    pub received: BTreeMap<&'static str, u64>,
}

impl Server {
    /// The state of a database there, in the original's words. It takes part in what its server
    /// does, once the server has it.
    #[must_use]
    pub fn database_state(&self, name: &str) -> &'static str {
        let has = self.bulletin.as_ref().is_some_and(|b| b.databases.iter().any(|d| d == name));
        match self.state {
            ServerState::Is(state @ (NodeState::Online | NodeState::Aligning)) if has => {
                state.name()
            }
            ServerState::Is(_) | ServerState::NotAvailable | ServerState::Offline => {
                ServerState::NotAvailable.name()
            }
        }
    }
}

/// All servers as one of them sees them at some moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// Name of this one.
    pub own: String,
    /// False for a server that stands alone.
    pub is_distributed: bool,
    /// The moment by the wall clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// In order of their names.
    pub list: Vec<Server>,
}

impl Servers {
    /// One of them.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Server> {
        self.list.iter().find(|server| server.name == name)
    }

    /// Decisions that a server has not applied yet, of all deciders together, as far as those know.
    #[must_use]
    pub fn behind(&self, server: &Server) -> u64 {
        let told = self.list.iter().filter_map(|decider| decider.bulletin.as_ref());
        let lags = told.filter_map(|told| told.lags.get(&server.node?));
        lags.fold(0, |sum, lag| sum.saturating_add(*lag))
    }

    /// This one.
    #[must_use]
    pub fn itself(&self) -> Option<&Server> {
        self.find(&self.own)
    }

    /// Whether so many MASTERs are ONLINE for a database that its writes can succeed.
    #[must_use]
    pub fn has_write_quorum(&self, database: &Database) -> bool {
        let online = NodeState::Online.name();
        let masters = || self.list.iter().filter(|server| server.role.votes());
        let count = masters().filter(|s| s.database_state(&database.name) == online).count();
        count >= database.write_quorum.effective(masters().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(state: ServerState, databases: &[&str]) -> Server {
        let databases = databases.iter().map(|name| (*name).to_owned()).collect();
        let bulletin = Some(Bulletin { databases, ..Bulletin::default() });
        let (name, role) = ("n2".into(), Role::Master);
        Server { name, node: None, role, state, bulletin, received: BTreeMap::new() }
    }

    #[test]
    fn times_are_summed() {
        let mut latency = Latency::default();
        assert_eq!((latency.average(), latency.min), (0, 0));
        for us in [300, 100, 200] {
            latency.add(us);
        }
        assert_eq!(latency, Latency { entries: 3, last: 200, min: 100, max: 300, total: 600 });
        assert_eq!(latency.average(), 200);
    }

    /// FEATURES: S11
    #[test]
    fn a_database_is_what_its_server_is_once_it_is_there() {
        for (state, there, missing) in [
            (ServerState::Is(NodeState::Online), "ONLINE", "NOT_AVAILABLE"),
            (ServerState::Is(NodeState::Aligning), "SYNCHRONIZING", "NOT_AVAILABLE"),
            (ServerState::Is(NodeState::Starting), "NOT_AVAILABLE", "NOT_AVAILABLE"),
            (ServerState::Is(NodeState::ShuttingDown), "NOT_AVAILABLE", "NOT_AVAILABLE"),
            (ServerState::NotAvailable, "NOT_AVAILABLE", "NOT_AVAILABLE"),
            (ServerState::Offline, "NOT_AVAILABLE", "NOT_AVAILABLE"),
        ] {
            let server = server(state, &["bench"]);
            assert_eq!(server.database_state("bench"), there, "{}", state.name());
            assert_eq!(server.database_state("other"), missing, "{}", state.name());
        }
    }
}

//! The servers of a cluster: what each tells of itself on its links, how this one sees the others,
//! and what follows for databases. Shapes and small sums; may not know links, HTTP or clocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use quorate_api::{ClusterKey, NodeId};
use quorate_control::data_centers;
use quorate_control::schema::Database;
use quorate_control::servers::Role;
use quorate_protocol::io::{Placement, Stage};
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
    /// What servers tell since version 9; travels beside the rest.
    #[serde(skip)]
    pub addendum: Addendum,
}

/// What was added to bulletins. One that came over a link of an older version has none of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Addendum {
    /// The newest version that it speaks; 0: it does not say.
    pub speaks: u16,
    /// For how long others have lacked the oldest of its decisions that they lack, in milliseconds;
    /// those that have all are left out.
    pub behind_ms: BTreeMap<NodeId, u64>,
    /// What it is getting from others, while it does.
    pub progress: Option<Progress>,
}

/// How far a server is with getting what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Name of the database, where it is one at a time.
    pub database: Option<String>,
    /// Whom it has it from.
    pub source: Option<NodeId>,
    /// Items done.
    pub items: u64,
    /// Items that the source has, as far as it said so.
    pub items_there: u64,
    /// Bytes done, as they are in memory.
    pub bytes: u64,
    /// How long it has been doing it, in milliseconds.
    pub took_ms: u64,
}

impl Progress {
    /// Share of the items there that are done; `None` where that is not known.
    #[must_use]
    pub fn percent(&self) -> Option<u64> {
        let percent = self.items.saturating_mul(100).checked_div(self.items_there);
        percent.map(|percent| percent.min(100))
    }

    /// Bytes a second so far.
    #[must_use]
    pub fn rate(&self) -> u64 {
        self.bytes.saturating_mul(1_000) / self.took_ms.max(1)
    }
}

impl Phase {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::Comparing => "comparing",
        }
    }
}

/// What a server does that gets what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Everything of databases of which it has nothing.
    Copying,
    /// What is newer elsewhere.
    Comparing,
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
    /// Never met, or it has said that it stops.
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
    /// Some server hears it, or did until some seconds ago, whether it can be reached from here or
    /// not.
    pub is_heard: bool,
    /// What it told last since it started; kept when it cannot be reached any more.
    pub bulletin: Option<Bulletin>,
    /// Messages that came from it since this server started, by kind; those that never came are
    /// left out.
    pub received: BTreeMap<&'static str, u64>,
}

impl Server {
    /// Whether it takes part with a database in what it does, and in which way.
    fn takes_part(&self, name: &str) -> Option<NodeState> {
        let has = self.bulletin.as_ref().is_some_and(|b| b.databases.iter().any(|d| d == name));
        match self.state {
            ServerState::Is(state @ (NodeState::Online | NodeState::Aligning)) => {
                has.then_some(state)
            }
            ServerState::Is(NodeState::Starting | NodeState::ShuttingDown | NodeState::Offline)
            | ServerState::NotAvailable
            | ServerState::Offline => None,
        }
    }
}

/// A database on a server's disk that is not in the cluster, or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Name of the server.
    pub server: String,
    /// Name of the database.
    pub database: String,
    /// What becomes of it.
    pub state: FoundState,
}

/// What becomes of a database on a server's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundState {
    /// It is being brought in.
    Coming,
    /// Another database has its name, and it stays on the disk.
    Refused,
    /// It cannot come for now, as the server that has it says itself.
    Waits(String),
}

impl Found {
    /// What becomes of it, for people.
    #[must_use]
    pub fn state(&self) -> String {
        match &self.state {
            FoundState::Coming => "BEING BROUGHT IN".to_owned(),
            FoundState::Refused => "REFUSED: another database has its name".to_owned(),
            FoundState::Waits(why) => format!("WAITS: {why}"),
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
    /// Databases on disks of servers that are not in the cluster, or not yet.
    pub found: Vec<Found>,
    /// In order of their names.
    pub list: Vec<Server>,
    /// Clusters on their way from W below a majority to one.
    pub uniting: Vec<Uniting>,
    /// By database the names of servers that people took OFFLINE for it.
    pub offline: BTreeMap<String, BTreeSet<String>>,
}

/// A cluster on its way from W below a majority to W of one: every MASTER of it is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uniting {
    /// Number of its database.
    #[serde(skip)]
    pub database: u32,
    /// Its number there.
    pub cluster: u32,
    /// What MASTERs do: `merging`, `sealing` or `comparing`.
    pub stage: &'static str,
    /// Names of those who have not reported that they have.
    pub waits_for: Vec<String>,
    /// Names of MASTERs that are given up: what they alone have acknowledged is lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<String>,
}

impl Uniting {
    /// A cluster as it is placed; `None` if its MASTERs do not unite.
    #[must_use]
    pub fn of(
        key: ClusterKey,
        placement: &Placement,
        name: impl Fn(NodeId) -> String,
    ) -> Option<Self> {
        let change = placement.change.as_ref().filter(|change| change.unites)?;
        let (stage, done) = match &change.stage {
            Stage::Merging { merged, .. } => ("merging", merged),
            Stage::Sealing { sealed } => ("sealing", sealed),
            Stage::Transferring { synced, .. } => ("comparing", synced),
        };
        let missing = change.masters.iter().filter(|node| !done.contains(node));
        let waits_for = missing.map(|node| name(*node)).collect();
        let without = placement.masters.iter().filter(|node| !change.masters.contains(node));
        let without = without.map(|node| name(*node)).collect();
        Some(Self { database: key.database, cluster: key.cluster, stage, waits_for, without })
    }
}

impl std::fmt::Display for Uniting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cluster, stage, waits_for, without, .. } = self;
        let waits_for = waits_for.join(", ");
        if without.is_empty() {
            return write!(
                f,
                "cluster #{cluster} goes back to a majority: {stage}, waits for {waits_for}"
            );
        }
        let without = without.join(", ");
        write!(
            f,
            "cluster #{cluster} goes on without {without}: {stage}, waits for {waits_for}; what \
             {without} alone has acknowledged is lost"
        )
    }
}

impl Servers {
    /// The state of a database at a server, in the original's words: OFFLINE where people said so,
    /// whatever the server does; else what that does, once it has the database.
    #[must_use]
    pub fn database_state(&self, server: &Server, name: &str) -> &'static str {
        if self.offline.get(name).is_some_and(|servers| servers.contains(&server.name)) {
            return ServerState::Offline.name();
        }
        server.takes_part(name).map_or(ServerState::NotAvailable.name(), NodeState::name)
    }

    /// Clusters of a database whose MASTERs unite.
    pub fn uniting_in(&self, database: u32) -> impl Iterator<Item = &Uniting> {
        self.uniting.iter().filter(move |uniting| uniting.database == database)
    }

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

    /// For how many milliseconds, at least, a server has lacked some decision, by the clock of the
    /// one who made it.
    #[must_use]
    pub fn behind_ms(&self, server: &Server) -> u64 {
        let told = self.list.iter().filter_map(|decider| decider.bulletin.as_ref());
        let times = told.filter_map(|told| told.addendum.behind_ms.get(&server.node?));
        times.max().copied().unwrap_or(0)
    }

    /// The name of a server, or its identity.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        let found = self.list.iter().find(|server| server.node == Some(node));
        found.map_or_else(|| node.to_string(), |server| server.name.clone())
    }

    /// This one.
    #[must_use]
    pub fn itself(&self) -> Option<&Server> {
        self.find(&self.own)
    }

    /// Whether so many MASTERs are there with a database that its writes through this server can
    /// succeed. Who is OFFLINE for it votes, too.
    #[must_use]
    pub fn has_write_quorum(&self, database: &Database) -> bool {
        let masters = self.list.iter().filter(|server| server.role.votes());
        let masters: Vec<&Server> = masters.collect();
        let names: Vec<&str> = masters.iter().map(|server| server.name.as_str()).collect();
        let rule = data_centers::rule(database.write_quorum, &database.data_centers, &names);
        let own = names.iter().position(|name| *name == self.own);
        let (voters, needed) = rule.seen_from(own, names.len());
        let is_there =
            |at: &usize| masters[*at].takes_part(&database.name) == Some(NodeState::Online);
        voters.into_iter().filter(is_there).count() >= needed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(state: ServerState, databases: &[&str]) -> Server {
        let databases = databases.iter().map(|name| (*name).to_owned()).collect();
        let bulletin = Some(Bulletin { databases, ..Bulletin::default() });
        let (name, role) = ("n2".into(), Role::Master);
        let received = BTreeMap::new();
        Server { name, node: None, role, state, is_heard: false, bulletin, received }
    }

    /// These are OFFLINE for database `bench`.
    fn servers(offline: &[&str]) -> Servers {
        let offline = offline.iter().map(|name| (*name).to_owned()).collect();
        Servers {
            own: "n1".into(),
            is_distributed: true,
            now_ms: 0,
            found: vec![],
            list: vec![],
            uniting: vec![],
            offline: [("bench".to_owned(), offline)].into(),
        }
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
            (ServerState::Is(NodeState::Offline), "NOT_AVAILABLE", "NOT_AVAILABLE"),
            (ServerState::Offline, "NOT_AVAILABLE", "NOT_AVAILABLE"),
        ] {
            let server = server(state, &["bench"]);
            let servers = servers(&[]);
            let shown = |name| servers.database_state(&server, name);
            assert_eq!((shown("bench"), shown("other")), (there, missing), "{}", state.name());
        }
    }

    /// FEATURES: A20
    #[test]
    fn a_database_is_offline_where_people_said_so_whatever_its_server_does() {
        let servers = servers(&["n2"]);
        for state in [ServerState::Is(NodeState::Online), ServerState::NotAvailable] {
            let server = server(state, &["bench", "other"]);
            assert_eq!(servers.database_state(&server, "bench"), "OFFLINE");
            assert_ne!(servers.database_state(&server, "other"), "OFFLINE");
            let other = Server { name: "n3".into(), ..server };
            assert_ne!(servers.database_state(&other, "bench"), "OFFLINE");
        }
    }
}

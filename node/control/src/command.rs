//! What servers ask the control plane to do. May not know what comes of it (that is `agreement`),
//! nor how the servers come to agree on the order of commands (that is `plane`).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use quorate_api::{Boot, ClusterKey, NodeId};
use quorate_protocol::io::{Report, SessionToken};
use serde::{Deserialize, Serialize};

use crate::found::Origin;
use crate::indexes::NewIndex;
use crate::schema::Database;
use crate::servers::Role;
use crate::settings::{NewDatabase, Settings};
use crate::status::Setting;
use crate::versions::is_false;

/// A change of what all servers agree on. Commands are applied in one order by every server, each
/// to the schema that the one before left, so a command is checked where it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// A database with its built-in classes.
    CreateDatabase {
        /// What it shall be.
        new: NewDatabase,
    },
    /// A server wants to be in the cluster: it becomes a REPLICA of everything.
    Enlist {
        /// Its name.
        name: String,
        /// Its identity.
        node: NodeId,
        /// Where other servers reach it, as `HOST:PORT`.
        address: String,
    },
    /// A server becomes something else in every database.
    SetRole {
        /// Its name.
        server: String,
        /// What it becomes.
        role: Role,
    },
    /// A server goes for good.
    RemoveServer {
        /// Its name.
        server: String,
        /// It is lost, and what it alone may have acknowledged is given up: where W is below a
        /// majority, the MASTERs that are left go on with what they have.
        #[serde(default, skip_serializing_if = "is_false")]
        force: bool,
    },
    /// A MASTER goes that is lost and that no database enlists. It may come back under its name.
    RemoveAbsent {
        /// Its identity.
        node: NodeId,
        /// Of the schema by which it was judged; refused where another one is agreed on by then.
        revision: u64,
    },
    /// A server that was removed is gone: no cluster names it, nor does the log's own list.
    LetGo {
        /// Which one.
        node: NodeId,
    },
    /// A server says where others reach it.
    Announce {
        /// Who.
        node: NodeId,
        /// Where, as `HOST:PORT`.
        address: String,
    },
    /// Every server speaks a higher version from now on. Proposed only once all do, so nobody
    /// meets this command who does not know it.
    Raise {
        /// That version.
        level: u16,
        /// The servers that were found to speak it; refused if there are others by now.
        of: BTreeSet<NodeId>,
    },
    /// A database goes.
    DropDatabase {
        /// Its name.
        name: String,
    },
    /// A class with one cluster a MASTER.
    CreateClass {
        /// In which database.
        database: String,
        /// Its name.
        name: String,
        /// Classes it extends.
        supers: Vec<String>,
    },
    /// A class goes.
    DropClass {
        /// In which database.
        database: String,
        /// Its name.
        name: String,
    },
    /// A class gets one cluster more.
    AddCluster {
        /// In which database.
        database: String,
        /// To which class.
        class: String,
        /// Its name.
        name: String,
        /// Who creates records in it.
        owner: NodeId,
    },
    /// An index that servers begin to fill.
    CreateIndex {
        /// In which database.
        database: String,
        /// What it shall be.
        new: NewIndex,
    },
    /// An index goes.
    DropIndex {
        /// In which database.
        database: String,
        /// Its name.
        name: String,
    },
    /// A MASTER has filled an index that is building.
    IndexFilled {
        /// The cluster of its keys.
        index: ClusterKey,
        /// Who.
        by: NodeId,
    },
    /// An index that is building cannot be.
    IndexFailed {
        /// The cluster of its keys.
        index: ClusterKey,
        /// Why.
        reasons: Vec<String>,
    },
    /// A database gets other quorums and static owners, while it is used.
    Reconfigure {
        /// Its name.
        database: String,
        /// The version of its configuration that this builds on.
        version: u64,
        /// What it shall have.
        settings: Settings,
        /// By cluster the server that owns it, lost or not; the owners of all others may move.
        owners: BTreeMap<String, String>,
    },
    /// A server owns a cluster from now on, lost or not.
    SetOwner {
        /// Of which database.
        database: String,
        /// Its name; `*`: every one whose owner nobody has chosen.
        cluster: String,
        /// Name of the server.
        server: String,
    },
    /// Roles of servers, owners of clusters and statuses, all of them or none.
    Set {
        /// What owners and statuses are of.
        database: String,
        /// No server has two roles or statuses in it, and no cluster two owners.
        settings: Vec<Setting>,
    },
    /// The next block of positions for the owner of a cluster.
    Grant {
        /// Of which cluster.
        cluster: ClusterKey,
        /// Who asks; refused to all but the owner.
        to: NodeId,
        /// The boot of it that may use them.
        boot: Boot,
    },
    /// The clusters that a server owns which is lost get other owners.
    MoveOwners {
        /// Who cannot be reached.
        lost: NodeId,
        /// The MASTERs that serve.
        to: Vec<NodeId>,
    },
    /// A server that serves again owns the clusters again that were made for it.
    ReturnOwners {
        /// Who.
        back: NodeId,
    },
    /// A MASTER that came later gets a cluster of each class in which none was made for it.
    AddClusters {
        /// Who.
        to: NodeId,
    },
    /// A server brings along a database that it found on its disk: it is made, with exactly its
    /// classes, cluster numbers and indexes, and its records follow.
    Adopt {
        /// Who.
        by: NodeId,
        /// Which one it is.
        origin: Origin,
        /// As it was there. Number, version, owners and states of indexes are made anew.
        database: Box<Database>,
        /// By cluster, where the first new record goes.
        positions: BTreeMap<u32, u64>,
    },
    /// All of a database that was brought along is committed.
    Brought {
        /// Its number.
        database: u32,
        /// Who has brought it.
        by: NodeId,
        /// Decision logs up to here have all of it.
        #[serde(with = "crate::binary")]
        cover: SessionToken,
    },
    /// A server has applied all of a database that was brought along.
    Arrived {
        /// Its number.
        database: u32,
        /// Who.
        at: NodeId,
    },
    /// There are no databases any more on a server's disk that cannot come.
    ForgetStrays {
        /// Whose.
        of: NodeId,
    },
    /// How far a server is with changes of generations.
    Reports {
        /// Who.
        from: NodeId,
        /// At most one of a kind for a cluster.
        #[serde(with = "crate::binary")]
        reports: Vec<Report>,
    },
}

//! Statements as data. May not know text or records.

use quorate_api::Rid;
use quorate_control::indexes::NewIndex;
use quorate_control::status::Setting;
use serde_json::{Map, Value};

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// Reads.
    Select(Select),
    /// Makes records.
    Insert(Insert),
    /// Changes fields.
    Update(Update),
    /// Removes records.
    Delete(Delete),
    /// Makes a vertex.
    CreateVertex(CreateVertex),
    /// Makes edges.
    CreateEdge(CreateEdge),
    /// Removes vertices with their edges.
    DeleteVertex(Delete),
    /// Removes edges from both their ends.
    DeleteEdge(DeleteEdge),
    /// Makes a class.
    CreateClass(CreateClass),
    /// Removes a class.
    DropClass(DropClass),
    /// Gives a class one cluster more.
    AddCluster(AddCluster),
    /// Makes an index.
    CreateIndex(CreateIndex),
    /// Removes an index.
    DropIndex(Drop),
    /// Says how a query would be run.
    Explain(Select),
    /// Says how the servers are.
    HaStatus(HaStatus),
    /// Gives servers roles and statuses, and clusters owners: all of it or nothing.
    HaSet(Vec<Setting>),
    /// Removes a server.
    HaRemoveServer(HaRemoveServer),
    /// Lists records that diverged, those behind this one.
    HaConflicts(Option<Rid>),
    /// Chooses one content of a record that diverged.
    HaResolve(HaResolve),
    /// Drops contents that have lost.
    HaDismiss(HaDismiss),
    /// Compares with the other servers.
    HaSync(HaSync),
}

impl Statement {
    /// True when it changes nothing.
    #[must_use]
    pub const fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::Select(_) | Self::Explain(_) | Self::HaStatus(_) | Self::HaConflicts(_)
        )
    }

    /// True when it is about servers, and not about what databases hold.
    #[must_use]
    pub const fn is_about_servers(&self) -> bool {
        matches!(self, Self::HaStatus(_) | Self::HaSet(_) | Self::HaRemoveServer(_))
    }

    /// True when it is about servers, or about what diverged between them: no client's business.
    #[must_use]
    pub const fn is_administrative(&self) -> bool {
        let about_divergence = matches!(
            self,
            Self::HaConflicts(_) | Self::HaResolve(_) | Self::HaDismiss(_) | Self::HaSync(_)
        );
        about_divergence || self.is_about_servers()
    }

    /// True when it changes what the servers have agreed on.
    #[must_use]
    pub const fn is_ddl(&self) -> bool {
        matches!(
            self,
            Self::CreateClass(_)
                | Self::DropClass(_)
                | Self::AddCluster(_)
                | Self::CreateIndex(_)
                | Self::DropIndex(_)
                | Self::HaSet(_)
                | Self::HaRemoveServer(_)
                | Self::HaResolve(_)
                | Self::HaDismiss(_)
                | Self::HaSync(_)
        )
    }
}

/// `SELECT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// What is shown; empty: whole records.
    pub projections: Vec<Projection>,
    /// Of what.
    pub target: Target,
    /// Of which.
    pub filter: Option<Condition>,
    /// In which order; empty: by record id.
    pub order: Vec<OrderKey>,
    /// Records left out at the beginning.
    pub skip: usize,
    /// Most records shown; `None`: the statement does not say.
    pub limit: Option<Limit>,
}

/// `LIMIT`; -1 asks for everything.
pub type Limit = Option<usize>;

/// One column.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// What.
    pub what: Column,
    /// Its name in the result.
    pub name: String,
}

/// What a column shows.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// Everything; stands alone.
    All,
    /// How many; stands alone.
    Count,
    /// A field or attribute.
    Operand(Operand),
}

/// Where records come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A class with those that extend it.
    Class(String),
    /// A cluster by name or number.
    Cluster(String),
    /// Records by id.
    Rids(Vec<Rid>),
    /// The records that a query finds.
    Query(Box<Select>),
}

/// One key of an order.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderKey {
    /// By what.
    pub by: Operand,
    /// Largest first.
    pub descending: bool,
}

/// `INSERT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Insert {
    /// Of which class.
    pub class: String,
    /// Into which of its clusters; `None`: one owned by the server.
    pub cluster: Option<String>,
    /// Content of the new records, at least one.
    pub rows: Vec<Map<String, Value>>,
}

/// `UPDATE`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Which records.
    pub target: Target,
    /// New values, at least one.
    pub set: Vec<Assignment>,
    /// Of which.
    pub filter: Option<Condition>,
    /// Most records changed.
    pub limit: Limit,
}

/// `field = value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Field.
    pub field: String,
    /// Its new value.
    pub value: Value,
}

/// `DELETE`, `DELETE VERTEX`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// Which records.
    pub target: Target,
    /// Of which.
    pub filter: Option<Condition>,
    /// Most records deleted.
    pub limit: Limit,
}

/// `CREATE VERTEX`.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateVertex {
    /// Of which class.
    pub class: String,
    /// Into which of its clusters; `None`: one owned by the server.
    pub cluster: Option<String>,
    /// Its content.
    pub fields: Map<String, Value>,
}

/// `CREATE EDGE`: one from each of some vertices to each of others.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateEdge {
    /// Of which class.
    pub class: String,
    /// Into which of its clusters; `None`: one owned by the server.
    pub cluster: Option<String>,
    /// Where they begin.
    pub from: Target,
    /// Where they end.
    pub to: Target,
    /// Content of each.
    pub fields: Map<String, Value>,
}

/// `DELETE EDGE`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteEdge {
    /// Which records.
    pub target: Target,
    /// Only those that begin here.
    pub from: Option<Target>,
    /// Only those that end here.
    pub to: Option<Target>,
    /// Of which.
    pub filter: Option<Condition>,
    /// Most edges deleted.
    pub limit: Limit,
}

/// `CREATE CLASS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateClass {
    /// Its name.
    pub name: String,
    /// One that exists is no error.
    pub if_not_exists: bool,
    /// What it extends.
    pub super_classes: Vec<String>,
}

/// `ALTER CLASS … ADDCLUSTER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCluster {
    /// To which class.
    pub class: String,
    /// Its name.
    pub name: String,
}

/// `CREATE INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateIndex {
    /// What it shall be.
    pub new: NewIndex,
    /// One that exists is no error.
    pub if_not_exists: bool,
}

/// `DROP CLASS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropClass {
    /// Of what.
    pub name: String,
    /// One that does not exist is no error.
    pub if_exists: bool,
    /// `UNSAFE`: vertices and edges in it are no reason to keep it.
    pub is_forced: bool,
}

/// `DROP INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// Of what.
    pub name: String,
    /// One that does not exist is no error.
    pub if_exists: bool,
}

/// `HA STATUS`: which parts are shown, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HaStatus {
    /// `-servers`: one row a server.
    pub servers: bool,
    /// `-db`: quorums and clusters of the database.
    pub database: bool,
    /// `-latency`: between each two servers.
    pub latency: bool,
    /// `-messages`: how many between each two servers, and of which kind.
    pub messages: bool,
    /// `-output=text`: tables as one text.
    pub as_text: bool,
}

/// `HA RESOLVE rid = stamp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaResolve {
    /// Which record.
    pub rid: Rid,
    /// Stamp of the content that wins, as it was written.
    pub winner: String,
}

/// `HA RESOLVE … DISMISS`: contents that have lost and were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaDismiss {
    /// Of which record; `None`: of all.
    pub rid: Option<Rid>,
    /// Stamp of the one that is meant, as it was written; `None`: all.
    pub stamp: Option<String>,
}

/// `HA SYNC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HaSync {
    /// All clusters of the database.
    Database {
        /// Although it is ONLINE.
        force: bool,
    },
    /// One of them, by name or number.
    Cluster(String),
}

/// `HA REMOVE SERVER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaRemoveServer {
    /// Its name.
    pub server: String,
    /// `FORCE`: although what it alone has acknowledged is lost.
    pub force: bool,
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// Any of them.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// Two values compared.
    Compare(Operand, Comparison, Operand),
    /// Null or missing.
    IsNull(Operand),
    /// Equal to one of a list.
    In(Operand, Operand),
    /// A text with `%` for any part.
    Like(Operand, Operand),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`.
    Equal,
    /// `<>`, `!=`.
    NotEqual,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
}

/// A value or where to find it.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A field, or a field within fields.
    Field(Vec<String>),
    /// `@rid`.
    Rid,
    /// `@class`.
    Class,
    /// `@version`.
    Version,
    /// Itself; record ids are their text.
    Value(Value),
}

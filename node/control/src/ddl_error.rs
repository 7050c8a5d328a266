//! Why a change of the schema is refused, in words and as a code. May not decide it.

use alloc::string::String;

use quorate_api::ErrorCode;

use crate::data_centers::DataCenterError;

/// Why a schema change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DdlError {
    /// Letters, digits, `_` and (databases only) `-`; classes begin with a letter or `_`.
    #[error("'{0}' is not a legal name")]
    Name(String),
    /// There is one already.
    #[error("Database named '{0}' already exists")]
    DatabaseExists(String),
    /// There is none.
    #[error("Database '{0}' does not exist")]
    UnknownDatabase(String),
    /// There is one already, perhaps in another case.
    #[error("Class '{0}' already exists")]
    ClassExists(String),
    /// There is none.
    #[error("Class '{0}' was not found")]
    UnknownClass(String),
    /// There is one already, perhaps in another case.
    #[error("Index '{0}' already exists")]
    IndexExists(String),
    /// There is none.
    #[error("Index '{0}' was not found")]
    UnknownIndex(String),
    /// There is none.
    #[error("Cluster '{0}' does not exist")]
    UnknownCluster(String),
    /// There is one already.
    #[error("Cluster '{0}' already exists")]
    ClusterExists(String),
    /// Only who keeps a cluster can own it.
    #[error(
        "Cannot set ownership of cluster '{cluster}' to the server '{server}', because the server \
         has no that cluster. Servers with the cluster are [{servers}]"
    )]
    OwnerWithoutCluster {
        /// Which.
        cluster: String,
        /// Who was to own it.
        server: String,
        /// Who could, joined with commas.
        servers: String,
    },
    /// Whoever chose an owner takes that back first.
    #[error(
        "Cannot overwrite ownership of cluster '{cluster}' to the server '{server}', because \
         server '{owner}' was already configured as owner"
    )]
    OwnerChosen {
        /// Which.
        cluster: String,
        /// Who was to own it.
        server: String,
        /// Who owns it for good.
        owner: String,
    },
    /// Others extend it, or it is built in.
    #[error("Class '{class}' cannot be dropped because {reason}")]
    InUse {
        /// Which.
        class: String,
        /// Why.
        reason: String,
    },
    /// More votes or answers asked for than there are MASTERs.
    #[error(
        "{key} {quorum} cannot be reached because it is major than the MASTERs ({masters}); give \
         a number from 1 to {masters}, majority or all"
    )]
    QuorumTooLarge {
        /// Which quorum.
        key: &'static str,
        /// Answers asked for.
        quorum: usize,
        /// N.
        masters: usize,
    },
    /// What diverges could not be merged.
    #[error(
        "writeQuorum {quorum} is below the majority of {masters} MASTERs ({majority}), and one of \
         them is a witness, which keeps no records: give a majority or more, or remove it"
    )]
    LooseBesideWitness {
        /// W.
        quorum: usize,
        /// N.
        masters: usize,
        /// Of N.
        majority: usize,
    },
    /// Data centers that cannot be.
    #[error(transparent)]
    DataCenters(#[from] DataCenterError),
    /// A chain of resolvers that cannot be.
    #[error("conflictResolverRepairerChain: {0}")]
    Chain(DataCenterError),
    /// Its records are on their way from a server that found it on its disk.
    #[error("Database '{0}' is being brought in: try again when all of it is there")]
    Coming(String),
    /// Only MASTERs create records.
    #[error(
        "database '{database}' on the disk of '{server}' waits, because that server is no MASTER: \
         HA SET ROLE {server}=MASTER lets it come"
    )]
    BroughtByNoMaster {
        /// Which.
        database: String,
        /// On whose disk.
        server: String,
    },
    /// What was decided by one server alone would be decided by less than a majority.
    #[error(
        "database '{database}' cannot be brought in: its writeQuorum {quorum} is below the \
         majority of the {masters} MASTERs ({majority}); start its server alone on the folder that \
         was set aside, give the database the writeQuorum 'majority' there, and let it come again"
    )]
    BroughtLoose {
        /// Which.
        database: String,
        /// W.
        quorum: usize,
        /// N.
        masters: usize,
        /// Of N.
        majority: usize,
    },
    /// What a server found is no database.
    #[error("database '{database}' cannot be brought in: {flaw}")]
    Unsound {
        /// Which.
        database: String,
        /// Why not.
        flaw: String,
    },
    /// No MASTER at all.
    #[error("a database needs at least one MASTER")]
    NoMasters,
    /// It was changed since.
    #[error(
        "the configuration of database '{database}' has version {now}, not {given}: read it again"
    )]
    Version {
        /// Which.
        database: String,
        /// Its version.
        now: u64,
        /// What the change builds on.
        given: u64,
    },
    /// Numbers are never reused and there are no more.
    #[error("all {0} numbers are used up")]
    Exhausted(&'static str),
}

impl DdlError {
    /// What the client is told.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::DatabaseExists(_) => ErrorCode::DatabaseExists,
            Self::UnknownDatabase(_) => ErrorCode::UnknownDatabase,
            Self::ClassExists(_) => ErrorCode::ClassExists,
            Self::UnknownClass(_) => ErrorCode::UnknownClass,
            Self::IndexExists(_) => ErrorCode::IndexExists,
            Self::UnknownIndex(_) => ErrorCode::UnknownIndex,
            Self::UnknownCluster(_) => ErrorCode::UnknownCluster,
            Self::Version { .. } => ErrorCode::VersionConflict,
            Self::Coming(_) => ErrorCode::NotReady,
            Self::BroughtByNoMaster { .. } => ErrorCode::NotMaster,
            Self::Name(_)
            | Self::ClusterExists(_)
            | Self::InUse { .. }
            | Self::OwnerWithoutCluster { .. }
            | Self::OwnerChosen { .. }
            | Self::QuorumTooLarge { .. }
            | Self::LooseBesideWitness { .. }
            | Self::NoMasters
            | Self::BroughtLoose { .. }
            | Self::Unsound { .. }
            | Self::DataCenters(_)
            | Self::Chain(_)
            | Self::Exhausted(_) => ErrorCode::BadRequest,
        }
    }
}

//! What servers ask the control plane to do, and the pure step from one schema to the next. May not
//! know how the servers come to agree on the order of commands (that is `plane`).

use alloc::string::String;
use alloc::vec::Vec;

use quorate_api::{ClusterKey, NodeId};
use serde::{Deserialize, Serialize};

use crate::ddl::DdlError;
use crate::indexes::NewIndex;
use crate::schema::Schema;
use crate::settings::NewDatabase;

/// A change of what all servers agree on. Commands are applied in one order by every server, each
/// to the schema that the one before left, so a command is checked where it is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Command {
    /// A database with its built-in classes.
    CreateDatabase {
        /// What it shall be.
        new: NewDatabase,
        /// All MASTERs with their identities.
        masters: Vec<(String, NodeId)>,
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
}

impl Command {
    /// Short name for logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateDatabase { .. } => "create database",
            Self::DropDatabase { .. } => "drop database",
            Self::CreateClass { .. } => "create class",
            Self::DropClass { .. } => "drop class",
            Self::CreateIndex { .. } => "create index",
            Self::DropIndex { .. } => "drop index",
            Self::IndexFilled { .. } => "index filled",
            Self::IndexFailed { .. } => "index failed",
        }
    }

    /// The schema that follows; `None`: there is nothing to change.
    ///
    /// # Errors
    /// The command does not fit the schema; nothing changes then.
    pub fn apply(&self, schema: &Schema) -> Result<Option<Schema>, DdlError> {
        match self {
            Self::CreateDatabase { new, masters } => schema.create_database(new, masters).map(Some),
            Self::DropDatabase { name } => schema.drop_database(name).map(Some),
            Self::CreateClass { database, name, supers } => {
                schema.create_class(database, name, supers).map(Some)
            }
            Self::DropClass { database, name } => schema.drop_class(database, name).map(Some),
            Self::CreateIndex { database, new } => schema.create_index(database, new).map(Some),
            Self::DropIndex { database, name } => schema.drop_index(database, name).map(Some),
            Self::IndexFilled { index, by } => Ok(schema.index_filled(*index, *by)),
            Self::IndexFailed { index, reasons } => {
                Ok(schema.index_failed(*index, reasons.clone()))
            }
        }
    }
}

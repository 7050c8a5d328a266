//! A database's quorums and mode, changed while it is used, in the schema. May not know
//! generations: what a new W means for clusters is `agreement`'s.

use alloc::string::ToString;

use crate::ddl::DdlError;
use crate::members::WriteQuorum;
use crate::schema::Schema;
use crate::settings::{ReadQuorum, Settings};

impl Schema {
    /// The schema with other settings of a database, if its configuration still has this version.
    ///
    /// # Errors
    /// Database unknown, changed since, or a quorum above N.
    pub fn reconfigured(
        &self,
        database: &str,
        version: u64,
        settings: Settings,
    ) -> Result<Self, DdlError> {
        let mut next = self.next();
        let found = next.database_mut(database)?;
        if found.version != version {
            let (database, now) = (database.to_string(), found.version);
            return Err(DdlError::Version { database, now, given: version });
        }
        self.check_quorums(settings.write_quorum, settings.read_quorum)?;
        found.version += 1;
        found.write_quorum = settings.write_quorum;
        found.read_quorum = settings.read_quorum;
        found.execution_mode = settings.execution_mode;
        Ok(next)
    }

    /// Refuses quorums that no number of answers reaches, and W below a majority beside a witness:
    /// what diverges is merged by contents, and it has none.
    pub(crate) fn check_quorums(
        &self,
        write: WriteQuorum,
        read: ReadQuorum,
    ) -> Result<(), DdlError> {
        let masters = self.master_count();
        let quorums =
            [("writeQuorum", write.effective(masters)), ("readQuorum", read.effective(masters))];
        for (key, quorum) in quorums {
            if quorum > masters {
                return Err(DdlError::QuorumTooLarge { key, quorum, masters });
            }
        }
        if write.is_below_majority(masters) && !self.witnesses().is_empty() {
            let (quorum, majority) = (write.effective(masters), masters / 2 + 1);
            return Err(DdlError::LooseBesideWitness { quorum, masters, majority });
        }
        Ok(())
    }
}

//! A database's quorums, mode and chain of resolvers, changed while it is used, in the schema. May
//! not know generations: what a new W means for clusters is `agreement`'s.

use alloc::collections::BTreeMap;
use alloc::string::ToString;

use quorate_protocol::chain::Chain;

use crate::data_centers::{self, DataCenterError, DataCenters};
use crate::ddl::DdlError;
use crate::members::WriteQuorum;
use crate::schema::Schema;
use crate::settings::{ReadQuorum, Settings};

/// Refuses a data center that decides and is not there.
pub(crate) fn check_chain(chain: Option<&Chain>, centers: &DataCenters) -> Result<(), DdlError> {
    let mut deciding = chain.into_iter().flat_map(Chain::data_centers);
    match deciding.find(|center| !centers.contains_key(*center)) {
        Some(center) => Err(DdlError::Chain(DataCenterError::Unknown(center.to_string()))),
        None => Ok(()),
    }
}

impl Schema {
    /// Who decides between contents that diverged, by number of the database, where that was agreed
    /// on.
    #[must_use]
    pub fn chains(&self) -> BTreeMap<u32, Chain> {
        self.databases.iter().filter_map(|db| Some((db.id, db.chain.clone()?))).collect()
    }

    /// The schema with other settings of a database, if its configuration still has this version.
    ///
    /// # Errors
    /// Database unknown, changed since, a quorum above N, or a chain with a data center that is not
    /// there.
    pub fn reconfigured(
        &self,
        database: &str,
        version: u64,
        settings: &Settings,
    ) -> Result<Self, DdlError> {
        let mut next = self.next();
        let found = next.database_mut(database)?;
        if found.version != version {
            let (database, now) = (database.to_string(), found.version);
            return Err(DdlError::Version { database, now, given: version });
        }
        self.check_quorums((settings.write_quorum, settings.read_quorum), &settings.data_centers)?;
        let chain = settings.chain.as_ref().or(found.chain.as_ref());
        check_chain(chain, &settings.data_centers)?;
        found.chain = chain.cloned();
        found.version += 1;
        found.write_quorum = settings.write_quorum;
        found.read_quorum = settings.read_quorum;
        found.execution_mode = settings.execution_mode;
        found.data_centers.clone_from(&settings.data_centers);
        Ok(next)
    }

    /// Refuses quorums that no number of answers reaches, data centers that cannot be, and W below
    /// a majority beside a witness, that of data centers included: what diverges is merged by
    /// contents, and it has none.
    pub(crate) fn check_quorums(
        &self,
        (write, read): (WriteQuorum, ReadQuorum),
        centers: &DataCenters,
    ) -> Result<(), DdlError> {
        let names = self.voter_names();
        let masters = names.len();
        let quorums =
            [("writeQuorum", write.effective(masters)), ("readQuorum", read.effective(masters))];
        for (key, quorum) in quorums {
            if quorum > masters {
                return Err(DdlError::QuorumTooLarge { key, quorum, masters });
            }
        }
        data_centers::check(centers, (write, read), &names)?;
        let rule = data_centers::rule(write, centers, &names);
        if rule.is_below_majority(masters) && !self.witnesses().is_empty() {
            let (quorum, majority) = (rule.write_quorum, masters / 2 + 1);
            return Err(DdlError::LooseBesideWitness { quorum, masters, majority });
        }
        Ok(())
    }
}

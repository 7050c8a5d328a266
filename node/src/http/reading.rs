//! Reading records and keys for one request, at the level that it or the database asks for. May not
//! know paths, methods or SQL.

use quorate_api::{Committed, ErrorCode, ItemId};
use quorate_control::data_centers::{self, DataCenterError};
use quorate_control::indexes::IndexKind;
use quorate_control::schema::Database;
use quorate_control::settings::ReadQuorum;
use quorate_protocol::io;

use super::access::{Access, Db};
use super::backend::Backend;
use super::error::ApiError;
use super::permitted;
use super::weight;

impl<B: Backend> Access<'_, B> {
    /// How many MASTERs answer reads of a database.
    pub(super) fn level_in(&self, db: &Db) -> ReadQuorum {
        self.level.unwrap_or(db.read_quorum)
    }

    /// The same server for finding what a statement changes: the transaction itself sees to it that
    /// it builds on the newest state, so a database's read quorum is not for it.
    pub(super) fn for_writing(self) -> Self {
        Self { level: Some(self.level.unwrap_or_default()), ..self }
    }

    /// A record or key, at the request's read level; tombstones included.
    pub(super) async fn read(&self, db: &Db, item: &ItemId) -> Result<Option<Committed>, ApiError> {
        let level = self.level_in(db);
        if level.is_local() {
            return self.read_local(item).await;
        }
        if level == ReadQuorum::LocalDataCenter {
            return self.read_near(db, item).await;
        }
        let masters = db.schema().master_count();
        let (wanted, majority) =
            (level.effective(masters), ReadQuorum::Majority.effective(masters));
        if wanted > masters {
            let text = format!("read level {level} cannot be reached: there are {masters} MASTERs");
            return Err(ApiError::bad_request(text));
        }
        let found = self.read_quorum(item.clone(), io::ReadQuorum::Count(wanted)).await?;
        if wanted >= majority {
            return Ok(found);
        }
        // Whoever answers first need not know what this server has acknowledged to its client.
        let own = self.read_local(item).await?;
        Ok(found.into_iter().chain(own).max_by_key(|committed| committed.stamp))
    }

    /// The newest of so many committed states of this server's data center as its quorum says;
    /// where no MASTER is there, of this server alone.
    async fn read_near(&self, db: &Db, item: &ItemId) -> Result<Option<Committed>, ApiError> {
        let (schema, centers) = (db.schema(), &db.data_centers);
        let own = schema.server_name(self.app.node).unwrap_or_default();
        let Some((_, center)) = data_centers::center_of(centers, own) else {
            let error = DataCenterError::Unspecified(own.to_owned());
            return Err(ApiError::bad_request(error.to_string()));
        };
        let there = schema.masters().filter(|server| center.contains(&server.name)).count();
        let own = self.read_local(item).await?;
        if there == 0 {
            return Ok(own);
        }
        let wanted = center.write_quorum.effective(there);
        let found = self.read_quorum(item.clone(), io::ReadQuorum::Near(wanted)).await?;
        Ok(found.into_iter().chain(own).max_by_key(|committed| committed.stamp))
    }

    /// State that a transaction builds on, which is held with its values until the answer is sent.
    pub(super) async fn base(
        &self,
        item: &ItemId,
        version: Option<u64>,
    ) -> Result<Option<Committed>, ApiError> {
        let found = self.find_base(item, version).await?;
        if let Some(image) = found.as_ref().and_then(|found| found.image.as_ref()) {
            self.weight.take(weight::of_body(image.0.len()) + weight::of_values(&image.0))?;
        }
        Ok(found)
    }

    /// State that a transaction builds on: local, or by majority when that is known not to do or
    /// has nothing in the version wanted. Tombstones included.
    async fn find_base(
        &self,
        item: &ItemId,
        version: Option<u64>,
    ) -> Result<Option<Committed>, ApiError> {
        if self.fresh || self.level.is_some_and(|level| !level.is_local()) {
            return self.read_base(item).await;
        }
        let found = self.read_local(item).await?;
        let is_record = matches!(item.key, quorate_api::ItemKey::Record(_));
        let has = match (&found, version) {
            (Some(found), Some(wanted)) => found.stamp.version >= wanted,
            (Some(_), None) => true,
            (None, _) => !is_record,
        };
        if has { Ok(found) } else { self.read_base(item).await }
    }

    /// Of whoever votes for the transaction. Where data centers decide by themselves, a key or a
    /// token in it makes these all MASTERs: what others have decided may not be here yet. Without a
    /// majority of them it has neither, or comes to nothing.
    async fn read_base(&self, item: &ItemId) -> Result<Option<Committed>, ApiError> {
        let schema = self.app.backend.schema();
        let found = schema.databases.iter().find(|db| db.id == item.cluster.database);
        let has_keys = |db: &Database| db.indexes.iter().any(|i| i.kind == IndexKind::Unique);
        if self.token.is_some() || found.is_some_and(has_keys) {
            match self.read_majority(item.clone()).await {
                Err(error) if error.code == ErrorCode::NoQuorum => {}
                read => return read,
            }
        }
        self.read_quorum(item.clone(), io::ReadQuorum::Bases).await
    }

    pub(super) async fn read_local(&self, item: &ItemId) -> Result<Option<Committed>, ApiError> {
        let read = permitted::reader(self.app)?.read_local(item);
        let read = self.in_time(ErrorCode::ReadTimeout, read).await?;
        read.map_err(|error| permitted::unread(self.app, error))
    }

    pub(super) async fn read_majority(&self, item: ItemId) -> Result<Option<Committed>, ApiError> {
        self.read_quorum(item, io::ReadQuorum::Majority).await
    }

    async fn read_quorum(
        &self,
        item: ItemId,
        quorum: io::ReadQuorum,
    ) -> Result<Option<Committed>, ApiError> {
        let read =
            permitted::reader(self.app)?.read_quorum(vec![item.clone()], quorum, self.deadline);
        match self.in_time(ErrorCode::ReadTimeout, read).await? {
            Ok(answers) => {
                let found = answers.into_iter().find(|(id, _)| *id == item);
                let found = found.and_then(|(_, found)| found);
                if let (Some(trail), Some(committed)) = (self.trail, &found) {
                    trail.saw(item, committed.stamp);
                }
                Ok(found)
            }
            Err(failure) => Err(self.explain(&failure, &[])),
        }
    }
}

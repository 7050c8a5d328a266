//! Record operations before they are submitted: the proposal together with what the reply needs
//! once it is committed. May not wait for commits or know methods and paths.

use quorate_api::{Image, OpKind, Rid, Stamp};
use quorate_protocol::io::{Base, Proposal};
use serde_json::{Map, Value};

use super::access::{Access, Db};
use super::backend::Backend;
use super::error::ApiError;
use super::record::{self, Incoming};

/// An operation on one record.
pub(super) struct Draft {
    /// On which record.
    pub(super) rid: Rid,
    /// What the machine gets.
    pub(super) proposal: Proposal,
}

impl Draft {
    /// A new record of the class it names, at the next position of a cluster owned here.
    pub(super) async fn create<B: Backend>(
        access: Access<'_, B>,
        db: Db,
        record: &Incoming,
    ) -> Result<(Self, Db), ApiError> {
        let Some(class) = &record.class else {
            return Err(ApiError::bad_request("a new record needs its @class"));
        };
        let db = access.database_with_class(db, class).await?;
        let found = db.class(class).ok_or_else(|| db.unknown_class(class))?;
        let image = record::encode(&found.name, &record.fields)?;
        let rid = access.allocate(&db, found).await?;
        Ok((Self::new(&db, rid, OpKind::Create, Base::Exact(Stamp::ABSENT), Some(image)), db))
    }

    /// A new record at a position taken already.
    pub(super) fn create_at(
        db: &Db,
        rid: Rid,
        class: &str,
        fields: &Map<String, Value>,
    ) -> Result<Self, ApiError> {
        let image = record::encode(class, fields)?;
        Ok(Self::new(db, rid, OpKind::Create, Base::Exact(Stamp::ABSENT), Some(image)))
    }

    /// The whole content replaced; the class is the cluster's and stays.
    pub(super) fn replace(
        db: &Db,
        rid: Rid,
        base: Base,
        fields: &Map<String, Value>,
    ) -> Result<Self, ApiError> {
        let image = record::encode(db.class_name(rid.cluster)?, fields)?;
        Ok(Self::new(db, rid, OpKind::Update, base, Some(image)))
    }

    /// A deletion; the tombstone may keep an id.
    pub(super) fn delete(
        db: &Db,
        rid: Rid,
        base: Base,
        tombstone: Option<u64>,
    ) -> Result<Self, ApiError> {
        db.class_name(rid.cluster)?;
        Ok(Self::new(db, rid, OpKind::Delete, base, record::tombstone_image(tombstone)))
    }

    /// Nothing changes, but the transaction holds only while the record stays as it is.
    pub(super) fn check(db: &Db, rid: Rid, base: Base) -> Result<Self, ApiError> {
        db.class_name(rid.cluster)?;
        Ok(Self::new(db, rid, OpKind::Check, base, None))
    }

    fn new(db: &Db, rid: Rid, kind: OpKind, base: Base, image: Option<Image>) -> Self {
        Self { rid, proposal: Proposal { item: db.item(rid), kind, base, image } }
    }

    /// Runs it as a transaction of its own; gives the stamp it left and the image it wrote.
    pub(super) async fn commit<B: Backend>(
        self,
        access: Access<'_, B>,
    ) -> Result<(Rid, Stamp, Option<Image>), ApiError> {
        let image = self.proposal.image.clone();
        let commit = access.submit(vec![self.proposal]).await?;
        let stamp = commit.stamps.first().copied().unwrap_or_default();
        Ok((self.rid, stamp, image))
    }
}

/// The base an expected version stands for.
pub(super) fn base(version: Option<u64>) -> Base {
    version.map_or(Base::Current, Base::Version)
}

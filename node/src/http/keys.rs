//! Keys of unique indexes that a transaction claims, moves and releases, together with the records.
//! At most one operation a key: releasing it from one record and claiming it for another is one
//! update (PROTOCOL.md trap A13). May not know what a record is changed for.

use std::collections::BTreeMap;

use quorate_api::{Committed, ErrorCode, ItemId, OpKind, Rid, Stamp};
use quorate_control::indexes::{Index, IndexKind};
use quorate_protocol::io::{Base, Proposal};
use serde_json::Value;

use super::backend::Backend;
use super::error::ApiError;
use super::work::{After, Work, schema_changed};
use crate::index::key;

/// What a transaction does with one key.
struct KeyChange<'a> {
    index: &'a Index,
    /// The value, for people.
    value: &'a Value,
    released: Vec<Rid>,
    claimed: Option<Rid>,
}

impl<B: Backend> Work<'_, B> {
    /// The operations on keys that the records' changes need.
    pub(super) async fn key_operations(&self) -> Result<Vec<Proposal>, ApiError> {
        let mut operations = Vec::new();
        for (item, change) in self.key_changes()? {
            let held = self.access.base(&item, None).await?;
            let operation = match self.key_operation(item.clone(), &change, held) {
                // This server may not have heard yet that the key is free.
                Err(error) if error.code == ErrorCode::DuplicateKey && !self.access.fresh => {
                    let held = self.access.read_majority(item.clone()).await?;
                    self.key_operation(item, &change, held)
                }
                known => known,
            };
            operations.extend(operation?);
        }
        Ok(operations)
    }

    fn key_changes(&self) -> Result<BTreeMap<ItemId, KeyChange<'_>>, ApiError> {
        let mut changes: BTreeMap<ItemId, KeyChange<'_>> = BTreeMap::new();
        for (rid, staged) in self.operations() {
            for index in self.db.indexes_of(&staged.class) {
                if index.kind != IndexKind::Unique || staged.after == After::Checked {
                    continue;
                }
                if !staged.is_known() {
                    return Err(schema_changed());
                }
                let is_left = !matches!(staged.after, After::Deleted(_));
                let before = staged.before(&index.field);
                let after = staged.fields.get(&index.field).filter(|_| is_left);
                if let Some(Value::Array(_) | Value::Object(_)) = after {
                    let text = format!(
                        "record {rid}: a list or an object cannot be a key of unique index '{}'",
                        index.name
                    );
                    return Err(ApiError::bad_request(text));
                }
                let (old, new) = (before.and_then(key::encode), after.and_then(key::encode));
                if old == new {
                    continue;
                }
                let change = |bytes, value| {
                    let item = key::item(self.db.id, index.cluster, bytes);
                    let none = KeyChange { index, value, released: Vec::new(), claimed: None };
                    (item, none)
                };
                if let (Some(bytes), Some(value)) = (old, before) {
                    let (item, none) = change(bytes, value);
                    changes.entry(item).or_insert(none).released.push(rid);
                }
                if let (Some(bytes), Some(value)) = (new, after) {
                    let (item, none) = change(bytes, value);
                    let change = changes.entry(item).or_insert(none);
                    if let Some(other) = change.claimed.replace(rid) {
                        return Err(duplicate(change.index, value, rid, other));
                    }
                }
            }
        }
        Ok(changes)
    }

    fn key_operation(
        &self,
        item: ItemId,
        change: &KeyChange<'_>,
        held: Option<Committed>,
    ) -> Result<Option<Proposal>, ApiError> {
        let base = Base::Exact(held.as_ref().map_or(Stamp::ABSENT, |c| c.stamp));
        let is_held = held.as_ref().is_some_and(|c| c.live);
        let owner = held.filter(|c| c.live).and_then(|c| key::owner(c.image.as_ref()));
        // A class that was dropped took its records along, not their keys.
        let owner = owner.filter(|rid| self.db.cluster(rid.cluster).is_some());
        let operation = |kind, image| Some(Proposal { item, kind, base, image });
        let releases = owner.is_some_and(|rid| change.released.contains(&rid));
        Ok(match (change.claimed, owner) {
            (Some(rid), Some(other)) if rid == other => operation(OpKind::Check, None),
            (Some(rid), Some(other)) if !releases => {
                let mut error = duplicate(change.index, change.value, rid, other);
                // A record of this transaction has the key: only what this server holds of that
                // record, which may be old, says that the transaction does not take the key away.
                let is_ours = self.operations().any(|(rid, _)| rid == other);
                error.again = is_ours && !self.access.fresh;
                return Err(error);
            }
            (Some(rid), _) => {
                let kind = if is_held { OpKind::Update } else { OpKind::Create };
                operation(kind, Some(key::owner_image(rid)))
            }
            (None, Some(_)) if releases => operation(OpKind::Delete, None),
            // The index is being filled, and this record's key was not claimed yet: it must stay
            // so, or whoever claims it meanwhile would claim it for a record that has it no more.
            (None, _) => operation(OpKind::Check, None),
        })
    }
}

/// The original's text.
fn duplicate(index: &Index, value: &Value, rid: Rid, other: Rid) -> ApiError {
    let text = format!(
        "Cannot index record {rid}: found duplicated key '{}' in index '{}' previously assigned to \
         the record {other}",
        value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        index.name,
    );
    ApiError::new(ErrorCode::DuplicateKey, text)
}

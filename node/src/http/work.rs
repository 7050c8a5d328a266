//! A transaction in the making: records read, changed and put together until they become one
//! proposal an item, however often each was touched. Knows what an answer needs before the commit
//! is there, so that the answer can be kept under a retry token. May not know methods, paths or
//! statements.
//!
//! Records are read first only where something depends on what they hold: keys of unique indexes,
//! edges, a retry token. All others go to the coordinator as the client asked.

use std::collections::BTreeMap;

use quorate_api::{ErrorCode, Image, OpKind, Rid, Stamp};
use quorate_control::indexes::IndexKind;
use quorate_protocol::io::{Base, Proposal};
use serde_json::{Map, Value};

use super::access::{Access, Db, version_conflict};
use super::backend::{Backend, Commit, Planned};
use super::error::ApiError;
use super::graph::is_edge;
use super::record::{self, Graph};
use super::reply::Answer;
use super::token;

/// Most records that one transaction changes.
pub(super) const RECORDS_MAX: usize = 1000;

/// Fields of a record.
pub(super) type Fields = Map<String, Value>;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It was only looked at, or made and removed again.
    Untouched,
    /// It must stay as it is until the commit.
    Checked,
    /// It is new.
    Created,
    /// It has other content.
    Changed,
    /// It is removed; its tombstone may keep an id.
    Deleted(Option<u64>),
}

/// A record in the making.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    pub(super) class: String,
    /// Content it has after the transaction.
    pub(super) fields: Fields,
    pub(super) after: After,
    /// What it is built on.
    base: Base,
    /// The client named the version: another one is its conflict, not a reason to start over.
    named: bool,
    /// Content before; `None` when it was not read, or is new.
    before: Option<Fields>,
}

/// A record as a transaction leaves it.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) rid: Rid,
    /// 0 when nothing of it is left.
    pub(super) version: u64,
    pub(super) after: After,
    pub(super) image: Option<Image>,
}

/// A transaction in the making.
pub(super) struct Work<'a, B> {
    pub(super) access: Access<'a, B>,
    pub(super) db: Db,
    staged: BTreeMap<Rid, Staged>,
    /// In the order in which they were first touched.
    order: Vec<Rid>,
}

impl<'a, B: Backend> Work<'a, B> {
    pub(super) fn new(access: Access<'a, B>, db: Db) -> Self {
        Self { access, db, staged: BTreeMap::new(), order: Vec::new() }
    }

    /// What kind of graph element the records of a cluster are.
    pub(super) fn graph(&self, class: &str) -> Graph {
        if self.db.is_a(class, "V") {
            Graph::Vertex
        } else if self.db.is_a(class, "E") {
            Graph::Edge
        } else {
            Graph::None
        }
    }

    /// True for the fields of a graph element that edges are made of.
    pub(super) fn links(&self, graph: Graph, field: &str) -> bool {
        graph.links(field, &|class| is_edge(&self.db, class))
    }

    /// True when something depends on what records of the class hold.
    fn must_read(&self, class: &str) -> bool {
        self.access.token.is_some()
            || self.graph(class) != Graph::None
            || self.db.indexes_of(class).any(|i| i.kind == IndexKind::Unique)
    }

    fn put(&mut self, rid: Rid, staged: Staged) -> Result<&mut Staged, ApiError> {
        if !self.staged.contains_key(&rid) {
            if self.order.len() == RECORDS_MAX {
                let text = format!("a transaction changes at most {RECORDS_MAX} records");
                return Err(ApiError::new(ErrorCode::TooLarge, text));
            }
            self.order.push(rid);
        }
        self.staged.insert(rid, staged);
        self.staged.get_mut(&rid).ok_or_else(|| record::not_found(rid, None))
    }

    /// The record as the transaction has it so far; read when it was not yet.
    pub(super) async fn load(&mut self, rid: Rid) -> Result<&mut Staged, ApiError> {
        if !self.staged.get(&rid).is_some_and(Staged::is_known) {
            let class = self.db.class_name(rid.cluster)?.to_owned();
            let earlier = self.staged.get(&rid).cloned();
            let named = earlier.as_ref().and_then(|s| version_of(s.base));
            let found = self.access.base(&self.db.item(rid), named).await?;
            let found = match found {
                Some(found) if found.live => found,
                gone => return Err(record::not_found(rid, gone.as_ref())),
            };
            if let Some(wanted) = named.filter(|v| *v != found.stamp.version) {
                return Err(version_conflict("UPDATE", rid, found.stamp.version, wanted));
            }
            let before = record::decode(rid, found.image.as_ref())?;
            let staged = Staged {
                class,
                fields: before.clone(),
                after: earlier.map_or(After::Untouched, |s| s.after),
                base: Base::Exact(found.stamp),
                named: named.is_some(),
                before: Some(before),
            };
            self.put(rid, staged)?;
        }
        match self.staged.get_mut(&rid) {
            Some(staged) if !matches!(staged.after, After::Deleted(_)) => Ok(staged),
            Some(_) | None => Err(record::not_found(rid, None)),
        }
    }

    /// Takes over a record that a scan found.
    pub(super) fn adopt(
        &mut self,
        rid: Rid,
        stamp: Stamp,
        before: &Fields,
    ) -> Result<(), ApiError> {
        if self.staged.contains_key(&rid) {
            return Ok(());
        }
        let staged = Staged {
            class: self.db.class_name(rid.cluster)?.to_owned(),
            fields: before.clone(),
            after: After::Untouched,
            base: Base::Exact(stamp),
            named: false,
            before: Some(before.clone()),
        };
        self.put(rid, staged)?;
        Ok(())
    }

    /// The record to be changed in the version that the client names; read if something needs it.
    async fn touch(&mut self, rid: Rid, version: Option<u64>) -> Result<&mut Staged, ApiError> {
        let class = self.db.class_name(rid.cluster)?.to_owned();
        if let Some(wanted) = version {
            self.expect_version(rid, &class, wanted)?;
        }
        if self.must_read(&class) {
            return self.load(rid).await;
        }
        if !self.staged.contains_key(&rid) {
            self.put(rid, Staged::unread(class, Base::Current))?;
        }
        match self.staged.get_mut(&rid) {
            Some(staged) if !matches!(staged.after, After::Deleted(_)) => Ok(staged),
            Some(_) | None => Err(record::not_found(rid, None)),
        }
    }

    /// The version that the client expects of a record, if it names one.
    pub(super) fn expect(&mut self, rid: Rid, version: Option<u64>) -> Result<(), ApiError> {
        let class = self.db.class_name(rid.cluster)?.to_owned();
        version.map_or(Ok(()), |wanted| self.expect_version(rid, &class, wanted))
    }

    /// Goes on with a schema that knows the class.
    pub(super) async fn require_class(&mut self, class: &str) -> Result<(), ApiError> {
        if self.db.class(class).is_none() {
            let name = self.db.name.clone();
            let db = self.access.database(&name).await?;
            let db = self.access.database_with_class(db, class).await?;
            // What had to be read so far was decided by the older one.
            if !self.order.is_empty() && db.schema().revision != self.db.schema().revision {
                return Err(schema_changed());
            }
            self.db = db;
        }
        Ok(())
    }

    /// Several operations of one transaction on a record all name the version before it.
    fn expect_version(&mut self, rid: Rid, class: &str, wanted: u64) -> Result<(), ApiError> {
        let Some(staged) = self.staged.get_mut(&rid) else {
            let staged = Staged::unread(class.to_owned(), Base::Version(wanted));
            return self.put(rid, Staged { named: true, ..staged }).map(|_| ());
        };
        match version_of(staged.base) {
            Some(version) if version == wanted => {
                staged.named = true;
                Ok(())
            }
            Some(version) => Err(version_conflict("UPDATE", rid, version, wanted)),
            None => {
                (staged.base, staged.named) = (Base::Version(wanted), true);
                Ok(())
            }
        }
    }

    /// A new record; edges bring both their ends along.
    pub(super) async fn create(
        &mut self,
        class: &str,
        cluster: Option<&str>,
        mut fields: Fields,
    ) -> Result<Rid, ApiError> {
        match self.graph(class) {
            Graph::Edge => {
                let mut end = |name: &str| match fields.shift_remove(name) {
                    Some(Value::String(text)) => record::parse_rid(&text),
                    _ => {
                        let text = format!("an edge needs the record id of its end in '{name}'");
                        Err(ApiError::bad_request(text))
                    }
                };
                let (from, to) = (end("out")?, end("in")?);
                self.create_edge(class, cluster, from, to, fields).await
            }
            Graph::Vertex => {
                fields.retain(|name, _| !self.links(Graph::Vertex, name));
                self.insert(class, cluster, fields).await
            }
            Graph::None => self.insert(class, cluster, fields).await,
        }
    }

    /// A new record with exactly this content.
    pub(super) async fn insert(
        &mut self,
        class: &str,
        cluster: Option<&str>,
        fields: Fields,
    ) -> Result<Rid, ApiError> {
        let found = self.db.class(class).ok_or_else(|| self.db.unknown_class(class))?;
        let rid = match cluster {
            None => self.access.allocate(&self.db, found).await?,
            Some(name) => {
                let named =
                    self.db.cluster_named(name).or_else(|| self.db.cluster(name.parse().ok()?));
                let named = named.filter(|c| found.clusters.contains(&c.id));
                let named = named.ok_or_else(|| self.db.unknown_cluster(name))?;
                self.access.allocate_in(&self.db, named.id).await?
            }
        };
        let class = found.name.clone();
        let base = Base::Exact(Stamp::ABSENT);
        let staged = Staged { fields, after: After::Created, ..Staged::unread(class, base) };
        self.put(rid, staged)?;
        Ok(rid)
    }

    /// The whole content replaced; edges stay, they have statements of their own.
    pub(super) async fn replace(
        &mut self,
        rid: Rid,
        version: Option<u64>,
        mut fields: Fields,
    ) -> Result<(), ApiError> {
        let graph = self.graph(self.db.class_name(rid.cluster)?);
        let own = self.touch(rid, version).await?.fields.clone();
        fields.retain(|name, _| !self.links(graph, name));
        fields.extend(own.into_iter().filter(|(name, _)| self.links(graph, name)));
        self.touch(rid, version).await?.set(fields);
        Ok(())
    }

    /// Some fields replaced, the others stay.
    pub(super) async fn merge(&mut self, rid: Rid, fields: &Fields) -> Result<(), ApiError> {
        let mut merged = self.load(rid).await?.fields.clone();
        for (name, value) in fields {
            merged.insert(name.clone(), value.clone());
        }
        self.replace(rid, None, merged).await
    }

    /// The record must be as the client knows it when the transaction commits.
    pub(super) async fn check(&mut self, rid: Rid, version: Option<u64>) -> Result<(), ApiError> {
        let staged = self.touch(rid, version).await?;
        if staged.after == After::Untouched {
            staged.after = After::Checked;
        }
        Ok(())
    }

    /// The record with whatever hangs on it: a vertex takes its edges along, an edge leaves its
    /// ends.
    pub(super) async fn delete(
        &mut self,
        rid: Rid,
        version: Option<u64>,
        tombstone: Option<u64>,
    ) -> Result<(), ApiError> {
        let graph = self.graph(self.db.class_name(rid.cluster)?);
        self.touch(rid, version).await?;
        match graph {
            Graph::Vertex => self.detach_vertex(rid).await?,
            Graph::Edge => self.detach_edge(rid).await?,
            Graph::None => {}
        }
        self.touch(rid, version).await?;
        self.remove(rid, tombstone);
        Ok(())
    }

    /// Removes a record that is staged: one that the transaction made never was.
    pub(super) fn remove(&mut self, rid: Rid, tombstone: Option<u64>) {
        match self.staged.get_mut(&rid) {
            Some(staged) if staged.after != After::Created => {
                staged.after = After::Deleted(tombstone);
            }
            Some(_) | None => {
                self.staged.remove(&rid);
                self.order.retain(|other| *other != rid);
            }
        }
    }

    /// Records of the transaction that are changed or checked.
    pub(super) fn operations(&self) -> impl Iterator<Item = (Rid, &Staged)> {
        let staged = self.order.iter().filter_map(|rid| Some((*rid, self.staged.get(rid)?)));
        staged.filter(|(_, staged)| staged.after != After::Untouched)
    }

    /// Agrees on the whole; the answer is made from what the records are then.
    pub(super) async fn commit(
        self,
        answer: impl Fn(&[Written]) -> Result<Answer, ApiError> + Send,
    ) -> Result<Answer, ApiError> {
        let mut proposals = Vec::with_capacity(self.order.len());
        let mut written = Vec::with_capacity(self.order.len());
        for (rid, staged) in self.operations() {
            let proposal = self.proposal(rid, staged)?;
            // The base may be a version of the client's, any number.
            let step = u64::from(proposal.kind != OpKind::Check);
            let after = version_of(staged.base).map_or(0, |v| v.saturating_add(step));
            let image = proposal.image.clone();
            written.push(Written { rid, version: after, after: staged.after, image });
            proposals.push(proposal);
        }
        let records = proposals.len();
        // That nothing was to be done is an answer too, and has to stay the same under a token.
        if records == 0 && self.access.token.is_none() {
            return answer(&written);
        }
        proposals.extend(self.key_operations().await?);
        if let Some(token) = self.access.token {
            let kept = answer(&written)?;
            proposals.extend(token::operations(&self.access, &self.db, token, &kept).await?);
        }
        let commit = self.submit(proposals).await?;
        for (entry, stamp) in written.iter_mut().zip(&commit.stamps[..records]) {
            entry.version = stamp.version;
        }
        answer(&written)
    }

    fn proposal(&self, rid: Rid, staged: &Staged) -> Result<Proposal, ApiError> {
        let content = || {
            let graph = self.graph(&staged.class);
            record::encode(&staged.class, &staged.fields, graph, &|class| is_edge(&self.db, class))
        };
        let (kind, image) = match staged.after {
            After::Created => (OpKind::Create, Some(content()?)),
            After::Changed => (OpKind::Update, Some(content()?)),
            After::Deleted(tombstone) => (OpKind::Delete, record::tombstone_image(tombstone)),
            After::Checked | After::Untouched => (OpKind::Check, None),
        };
        Ok(Proposal { item: self.db.item(rid), kind, base: staged.base, image })
    }

    async fn submit(&self, proposals: Vec<Proposal>) -> Result<Commit, ApiError> {
        let (ops, schema) = (proposals, self.db.schema().revision);
        let planned = Planned { ops, schema, accepted: self.access.accepted.cloned() };
        let submitted = self.access.submit_planned(planned).await;
        submitted.map_err(|(mut error, item)| {
            let record = item.as_ref().and_then(crate::index::table::rid_of);
            // What the client did not name is not its conflict: decided not to have happened, so
            // starting over cannot do it twice.
            let named = record.and_then(|rid| self.staged.get(&rid)).is_some_and(|s| s.named);
            let moved = matches!(error.code, ErrorCode::VersionConflict | ErrorCode::NotFound);
            let is_read =
                |rid| self.staged.get(&rid).is_some_and(|s| matches!(s.base, Base::Exact(_)));
            // Keys and tokens are not the client's to name, and always read.
            let read = item.is_some() && record.is_none_or(is_read);
            // A cluster that went to another server is one that this server will hear of.
            let late = matches!(error.code, ErrorCode::SchemaChanged | ErrorCode::NotOwner);
            error.again = late || (moved && read && !named);
            error
        })
    }
}

impl Staged {
    fn unread(class: String, base: Base) -> Self {
        let fields = Fields::new();
        Self { class, fields, after: After::Untouched, base, named: false, before: None }
    }

    /// False while an existing record was not read: nobody knows what it held before.
    pub(super) fn is_known(&self) -> bool {
        self.before.is_some() || self.after == After::Created
    }

    /// Content before, empty for a new record.
    pub(super) fn before(&self, field: &str) -> Option<&Value> {
        self.before.as_ref()?.get(field)
    }

    /// Gives it other content.
    pub(super) fn set(&mut self, fields: Fields) {
        self.fields = fields;
        if self.after != After::Created {
            self.after = After::Changed;
        }
    }
}

/// For a transaction that was begun on a schema that is outdated: nothing was sent yet.
pub(super) fn schema_changed() -> ApiError {
    let text = "the schema changed while the transaction was put together";
    ApiError { again: true, ..ApiError::new(ErrorCode::SchemaChanged, text) }
}

const fn version_of(base: Base) -> Option<u64> {
    match base {
        Base::Current => None,
        Base::Version(version) => Some(version),
        Base::Exact(stamp) => Some(stamp.version),
    }
}

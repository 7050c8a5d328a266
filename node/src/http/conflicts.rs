//! What diverged where W is below a majority, over SQL and HTTP: the list, a choice, what was
//! looked at and is listed no longer, and what the original calls `HA SYNC`. May not know how lines
//! of history are told apart or merged.

use axum::http::StatusCode;
use quorate_api::{Boot, Committed, ErrorCode, NodeId, Rid, Stamp, TxId};
use quorate_protocol::conflict::{Dismissed, Fate, Rival};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{Access, Db};
use super::backend::{Backend, NodeState};
use super::context::Ctx;
use super::error::ApiError;
use super::members::{Server, ServerState};
use super::permitted;
use super::record;
use super::reply::{self, Answer, Reply};
use crate::index::table;
use crate::sql::{HaDismiss, HaResolve, HaSync};

/// Records in one answer.
const PAGE: usize = 256;

/// `GET /conflicts/{db}` and `…/after/{rid}`: records with contents beside the committed ones at
/// this server.
pub(super) async fn list<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let after = ctx.optional_param("rid").map(record::parse_rid).transpose()?;
    let (rows, more) = ctx.access().conflicts(&db, after).await?;
    reply::json(StatusCode::OK, &json!({"conflicts": rows, "more": more}))
}

/// `POST /conflicts/{db}/{rid}` with `{"winner":"<stamp>"}`: this content is the one.
pub(super) async fn resolve<B: Backend>(ctx: Ctx<B>) -> Reply {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Choice {
        winner: String,
    }
    let db = ctx.database().await?;
    let rid = record::parse_rid(ctx.param("rid"))?;
    let choice: Choice = serde_json::from_slice(&ctx.body)
        .map_err(|error| ApiError::bad_request(format!("not {{\"winner\":STAMP}}: {error}")))?;
    let version = ctx.access().choose(&db, rid, &choice.winner).await?;
    reply::json(StatusCode::OK, &json!({"@rid": rid.to_string(), "@version": version}))
}

/// `DELETE /conflicts/{db}`, `…/{rid}` and `…/{rid}/{stamp}`: this server keeps contents that have
/// lost no longer.
pub(super) async fn dismiss<B: Backend>(ctx: Ctx<B>) -> Reply {
    let db = ctx.database().await?;
    let rid = ctx.optional_param("rid").map(record::parse_rid).transpose()?;
    let stamp = ctx.optional_param("stamp");
    let contents = ctx.access().dismiss(&db, rid, stamp).await?;
    reply::json(StatusCode::OK, &json!({"dismissed": contents}))
}

impl<B: Backend> Access<'_, B> {
    /// `HA CONFLICTS`.
    pub(super) async fn run_ha_conflicts(
        &self,
        db: &Db,
        after: Option<Rid>,
    ) -> Result<Answer, ApiError> {
        let (rows, _) = self.conflicts(db, after).await?;
        let rows: Vec<Vec<u8>> = rows.into_iter().map(|row| row.to_string().into_bytes()).collect();
        Ok(Answer::result(&rows))
    }

    /// `HA RESOLVE`.
    pub(super) async fn run_ha_resolve(
        &self,
        db: &Db,
        resolve: &HaResolve,
    ) -> Result<Answer, ApiError> {
        let version = self.choose(db, resolve.rid, &resolve.winner).await?;
        let row = json!({"@rid": resolve.rid.to_string(), "@version": version});
        Ok(Answer::result(&[row.to_string().into_bytes()]))
    }

    /// `HA RESOLVE … DISMISS`.
    pub(super) async fn run_ha_dismiss(
        &self,
        db: &Db,
        dismiss: &HaDismiss,
    ) -> Result<Answer, ApiError> {
        let contents = self.dismiss(db, dismiss.rid, dismiss.stamp.as_deref()).await?;
        Ok(Answer::result(&[json!({"dismissed": contents}).to_string().into_bytes()]))
    }

    /// `HA SYNC DATABASE` and `HA SYNC CLUSTER`.
    pub(super) fn run_ha_sync(&self, db: &Db, sync: &HaSync) -> Result<Answer, ApiError> {
        let servers = self.app.backend.servers();
        if !servers.is_distributed {
            return Err(ApiError::bad_request("OrientDB is not started in distributed mode"));
        }
        let is_other = |server: &&Server| {
            let is_there = matches!(server.state, ServerState::Is(NodeState::Online));
            server.name != servers.own && is_there
        };
        let is_alone = servers.list.iter().find(is_other).is_none();
        let result = match sync {
            // What is ONLINE is left alone, as in the original.
            HaSync::Database { force: false } => json!(false),
            HaSync::Database { force: true } if is_alone => {
                let text = "Cannot execute HA SYNC DATABASE: no other server is ONLINE";
                return Err(ApiError::new(ErrorCode::NotReady, text));
            }
            HaSync::Database { force: true } => {
                self.app.backend.compare(db.clusters.iter().map(|c| db.key(c.id)).collect());
                json!(true)
            }
            HaSync::Cluster(name) => {
                let found = match name.parse() {
                    Ok(id) => db.cluster(id),
                    Err(_) => db.cluster_named(name),
                };
                let cluster = found.ok_or_else(|| db.unknown_cluster(name))?;
                if is_alone {
                    let text = format!(
                        "Cannot synchronize cluster '{}' because is not configured on any \
                         running nodes",
                        cluster.name
                    );
                    return Err(ApiError::new(ErrorCode::NotReady, text));
                }
                self.app.backend.compare([db.key(cluster.id)].into());
                json!(format!(
                    "Cluster '{}' is compared with the other servers, what differs is made equal",
                    cluster.name
                ))
            }
        };
        Ok(Answer::result(&[json!({"result": result}).to_string().into_bytes()]))
    }

    /// A page of the list, and whether there is more behind it.
    async fn conflicts(&self, db: &Db, after: Option<Rid>) -> Result<(Vec<Value>, bool), ApiError> {
        let mut after = after.map(|rid| db.item(rid));
        let (page, more) = loop {
            let page = self.app.backend.rivals(db.id, after, PAGE);
            let page = page.await.map_err(|error| ApiError::new(error.code, error.text))?;
            let more = page.len() == PAGE;
            after = page.last().map(|(item, _)| item.clone());
            // A page without records names none to go on behind.
            if !more || page.iter().any(|(item, _)| table::rid_of(item).is_some()) {
                break (page, more);
            }
        };
        let mut rows = Vec::with_capacity(page.len());
        for (item, rivals) in page {
            let Some(rid) = table::rid_of(&item) else { continue };
            let committed = self.read_local(&item).await?;
            let contents: Result<Vec<Value>, ApiError> =
                rivals.iter().map(|rival| listed(rid, rival)).collect();
            let committed = committed.map(|c| shown(rid, &c)).transpose()?;
            rows.push(json!({
                "@rid": rid.to_string(),
                "committed": committed,
                "contents": contents?,
            }));
        }
        Ok((rows, more))
    }

    /// Contents that have lost are kept no longer: of all records or of one, or one of that. Gives
    /// how many there were.
    async fn dismiss(
        &self,
        db: &Db,
        rid: Option<Rid>,
        stamp: Option<&str>,
    ) -> Result<u64, ApiError> {
        permitted::write(self.app, || "Command 'HA RESOLVE DISMISS'".to_owned())?;
        let stamp = stamp.map(stamp_of).transpose()?;
        if let Some(rid) = rid {
            check_cluster(db, rid)?;
        }
        let contents = match (rid.map(|rid| db.item(rid)), stamp) {
            (None, _) => Dismissed::Database(db.id),
            (Some(item), None) => Dismissed::Item(item),
            (Some(item), Some(stamp)) => Dismissed::Content(item, stamp),
        };
        let dismissed = self.app.backend.dismiss(contents, self.deadline).await;
        let dismissed = dismissed
            .map_err(|failure| ApiError::new(failure.code, super::error::describe(failure.code)))?;
        if let (0, Some(rid), Some(stamp)) = (dismissed, rid, stamp) {
            let text = format!(
                "no content of record {rid} with stamp {} has lost here: HA CONFLICTS lists those \
                 that have, and HA RESOLVE {rid} = STAMP chooses among those that have not",
                stamp_text(stamp)
            );
            return Err(ApiError::new(ErrorCode::VersionConflict, text));
        }
        Ok(dismissed)
    }

    async fn choose(&self, db: &Db, rid: Rid, winner: &str) -> Result<u64, ApiError> {
        permitted::write(self.app, || format!("Command 'HA RESOLVE {rid}'"))?;
        let winner = stamp_of(winner)?;
        check_cluster(db, rid)?;
        let item = db.item(rid);
        match self.app.backend.choose(item, winner, self.deadline).await {
            Ok(commit) => Ok(commit.stamps.first().map_or(0, |stamp| stamp.version)),
            Err(failure) if failure.code == ErrorCode::BadRequest => {
                let text = format!(
                    "records of database '{}' do not diverge: its write quorum is a majority",
                    db.name
                );
                Err(ApiError::bad_request(text))
            }
            Err(failure) if failure.code == ErrorCode::VersionConflict => {
                let now = failure.current.map_or_else(|| "absent".to_owned(), stamp_text);
                let text = format!(
                    "no server that can be reached has record {rid} with that stamp, and it is not \
                     listed here; it is at {now}, or it was written meanwhile: list it again"
                );
                Err(ApiError::new(failure.code, text))
            }
            Err(failure) => Err(ApiError::new(failure.code, super::error::describe(failure.code))),
        }
    }
}

fn listed(rid: Rid, rival: &Rival) -> Result<Value, ApiError> {
    let mut row = shown(rid, &rival.committed)?;
    row["state"] = json!(match rival.fate {
        Fate::Open => "open",
        Fate::NoWinner => "no winner",
        Fate::Lost => "lost",
    });
    Ok(row)
}

fn shown(rid: Rid, committed: &Committed) -> Result<Value, ApiError> {
    let version = committed.stamp.version;
    let record = match &committed.image {
        Some(image) if committed.live => {
            let bytes = record::render(rid, version, Some(image))?;
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        }
        Some(_) | None => Value::Null,
    };
    Ok(json!({"stamp": stamp_text(committed.stamp), "version": version, "record": record}))
}

/// A stamp as text.
fn stamp_text(stamp: Stamp) -> String {
    format!("{}@{}", stamp.version, stamp.tx)
}

/// A stamp that somebody wrote.
fn stamp_of(text: &str) -> Result<Stamp, ApiError> {
    parse_stamp(text).ok_or_else(|| {
        ApiError::bad_request(format!(
            "'{text}' is no stamp: it looks like 2@00c0ffee00c0ffee.1.7, as the list of conflicts \
             shows it"
        ))
    })
}

fn check_cluster(db: &Db, rid: Rid) -> Result<(), ApiError> {
    let found = db.cluster(rid.cluster).map(drop);
    found.ok_or_else(|| db.unknown_cluster(&format!("#{}", rid.cluster)))
}

/// Back again.
fn parse_stamp(text: &str) -> Option<Stamp> {
    let (version, tx) = text.split_once('@')?;
    let mut parts = tx.splitn(3, '.');
    let node = NodeId(u64::from_str_radix(parts.next()?, 16).ok()?);
    let boot = Boot(parts.next()?.parse().ok()?);
    let seq = parts.next()?.parse().ok()?;
    Some(Stamp { version: version.parse().ok()?, tx: TxId { node, boot, seq } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_from_its_text() {
        let tx = TxId { node: NodeId(0x00c0_ffee), boot: Boot(3), seq: 9 };
        let stamp = Stamp { version: 4, tx };
        assert_eq!(stamp_text(stamp), "4@0000000000c0ffee.3.9");
        assert_eq!(parse_stamp(&stamp_text(stamp)), Some(stamp));
        for text in ["", "4", "4@", "@1.2.3", "4@g.1.2", "4@1.2", "4@1.2.3.4", "-1@1.2.3"] {
            assert_eq!(parse_stamp(text), None, "{text}");
        }
    }
}

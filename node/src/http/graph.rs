//! Vertices and edges: an edge names both its ends, each end lists the edge, and all three change
//! in one transaction. May not know statements.
//!
//! A vertex lists its edges by their class, `out_Knows` and `in_Knows`, as the original does.

use std::collections::BTreeSet;

use quorate_api::{ErrorCode, Rid};
use serde_json::Value;

use super::access::Db;
use super::backend::Backend;
use super::error::ApiError;
use super::record::{self, Graph};
use super::work::{After, Fields, Work};

impl<B: Backend> Work<'_, B> {
    /// A new edge between two vertices.
    pub(super) async fn create_edge(
        &mut self,
        class: &str,
        cluster: Option<&str>,
        from: Rid,
        to: Rid,
        mut fields: Fields,
    ) -> Result<Rid, ApiError> {
        for end in [from, to] {
            let class = self.db.class_name(end.cluster)?;
            if self.graph(class) != Graph::Vertex {
                let text = format!("record {end} is no vertex: class '{class}' does not extend V");
                return Err(ApiError::bad_request(text));
            }
            // Before a position is taken.
            self.load(end).await?;
        }
        let found = self.db.class(class).ok_or_else(|| self.db.unknown_class(class))?;
        let name = found.name.clone();
        fields.insert("out".to_owned(), Value::String(from.to_string()));
        fields.insert("in".to_owned(), Value::String(to.to_string()));
        let edge = self.insert(&name, cluster, fields).await?;
        self.list(from, &format!("out_{name}"), edge).await?;
        self.list(to, &format!("in_{name}"), edge).await?;
        Ok(edge)
    }

    /// Adds an edge to a vertex's list.
    async fn list(&mut self, vertex: Rid, field: &str, edge: Rid) -> Result<(), ApiError> {
        let staged = self.load(vertex).await?;
        let mut fields = staged.fields.clone();
        let list = fields.entry(field).or_insert_with(|| Value::Array(Vec::new()));
        let Value::Array(list) = list else {
            let text = format!("field '{field}' of vertex {vertex} is no list of edges");
            return Err(ApiError::bad_request(text));
        };
        list.push(Value::String(edge.to_string()));
        staged.set(fields);
        Ok(())
    }

    /// Removes all edges of a vertex, from their other ends too.
    pub(super) async fn detach_vertex(&mut self, vertex: Rid) -> Result<(), ApiError> {
        let lists = self.load(vertex).await?.fields.clone();
        // An edge from a vertex to itself is in two lists.
        let edges: BTreeSet<Rid> =
            lists.iter().flat_map(|(field, list)| edges_in(&self.db, field, list)).collect();
        for edge in edges {
            self.detach_edge(edge).await.map_err(found_elsewhere)?;
            self.remove(edge, None);
        }
        Ok(())
    }

    /// Takes an edge out of the lists of its ends.
    pub(super) async fn detach_edge(&mut self, edge: Rid) -> Result<(), ApiError> {
        let staged = self.load(edge).await?;
        let class = staged.class.clone();
        let end = |field: &str| staged.fields.get(field).and_then(Value::as_str);
        let ends = [("out", end("out")), ("in", end("in"))];
        let ends =
            ends.map(|(field, rid)| (field, rid.and_then(|rid| record::parse_rid(rid).ok())));
        for (field, vertex) in ends {
            // A class that was dropped took its records along, not their edges.
            let is_left = |v: &Rid| self.db.cluster(v.cluster).is_some() && !self.is_deleted(*v);
            let Some(vertex) = vertex.filter(is_left) else { continue };
            let staged = self.load(vertex).await.map_err(found_elsewhere)?;
            let mut fields = staged.fields.clone();
            let field = format!("{field}_{class}");
            let own = edge.to_string();
            if let Some(Value::Array(list)) = fields.get_mut(&field) {
                list.retain(|rid| *rid != own);
                if list.is_empty() {
                    fields.shift_remove(&field);
                }
                staged.set(fields);
            }
        }
        Ok(())
    }

    /// True once the transaction removes it.
    pub(super) fn is_deleted(&self, rid: Rid) -> bool {
        self.operations().any(|(r, staged)| r == rid && matches!(staged.after, After::Deleted(_)))
    }
}

/// True for classes of edges, in their own spelling: that is what lists of edges have.
pub(super) fn is_edge(db: &Db, class: &str) -> bool {
    db.class(class).is_some_and(|c| c.name == class) && db.is_a(class, "E")
}

/// The edges that a vertex's field lists: those of the class that it is called after. Others may
/// be in a field that was there before the class was, or be gone with a class of that name.
pub(super) fn edges_in(db: &Db, field: &str, list: &Value) -> Vec<Rid> {
    let class = record::edge_class(field).filter(|class| is_edge(db, class));
    let Some(class) = class else { return Vec::new() };
    let of_class = |rid: &Rid| db.class_of(rid.cluster).is_some_and(|c| c.name == class);
    let rids = list.as_array().into_iter().flatten();
    rids.filter_map(|rid| rid.as_str()?.parse().ok()).filter(of_class).collect()
}

/// For records that the client did not name: where they were found may be outdated.
pub(super) fn found_elsewhere(mut error: ApiError) -> ApiError {
    error.again |= error.code == ErrorCode::NotFound;
    error
}

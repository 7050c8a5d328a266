//! Records of a class `Item` with a `content` or a number `n`, in the database `bench`, asked for
//! as people do.
//! What a test expects of them stays in the test.

use serde_json::{Value, json};

use super::people::{done, sql};
use super::{Server, json_of, request, status};

/// Where the numbers of all records are asked for.
pub(crate) const NUMBERS: &str = "/query/bench/sql/SELECT%20n%20FROM%20Item/-1";

/// Saves a new one; gives its record id.
pub(crate) fn create(server: &Server, content: &str) -> String {
    let record = json!({"@class": "Item", "content": content}).to_string();
    let made = done(server, "POST", "/document/bench", &record);
    made["@rid"].as_str().unwrap().to_owned()
}

/// Where a record is asked for.
pub(crate) fn path(rid: &str) -> String {
    format!("/document/bench/{}", rid.trim_start_matches('#'))
}

/// Writes another content.
pub(crate) fn update(server: &Server, rid: &str, content: &str) {
    let record = json!({"@class": "Item", "content": content}).to_string();
    done(server, "PUT", &path(rid), &record);
}

/// All that a server has itself, in the order of their record ids.
pub(crate) fn items(server: &Server) -> Vec<Value> {
    let mut rows = sql(server, "SELECT FROM Item LIMIT -1");
    rows.sort_by_key(|row| row["@rid"].to_string());
    rows
}

/// The numbers of all records that a server has itself, in order; `None` while it says nothing.
pub(crate) fn numbers(server: &Server) -> Option<Vec<u64>> {
    let answer = request(server.address(), "GET", NUMBERS, "").ok()?;
    if status(&answer) != 200 {
        return None;
    }
    let rows = json_of(&answer);
    let mut found: Vec<u64> =
        rows["result"].as_array()?.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    found.sort_unstable();
    Some(found)
}

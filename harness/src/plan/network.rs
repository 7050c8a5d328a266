//! How far servers and clients are from each other, where that is simulated. Types alone; the
//! tables are read in `crate::spec`.

use serde::{Deserialize, Serialize};

/// Places, the ways between them, and who is where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Name of the table.
    pub name: String,
    /// Where its figures were published.
    pub source: String,
    /// When, or for which time, as `YYYY-MM-DD`.
    pub date: String,
    /// Names of the places.
    pub regions: Vec<String>,
    /// Microseconds there and back, by place and place; within one, too.
    pub round_trips_us: Vec<Vec<u64>>,
    /// The place of each server, as an index, in the order of [`super::Topology::servers`].
    pub places: Vec<usize>,
    /// The place of all clients; `None`: beside the server that they ask.
    pub clients: Option<usize>,
}

impl Network {
    /// For people: the table, its source, and where clients are.
    #[must_use]
    pub fn describe(&self) -> String {
        let Self { name, source, date, .. } = self;
        let clients = match self.clients.and_then(|place| self.regions.get(place)) {
            Some(region) => format!("in {region}"),
            None => "beside the server that they ask".to_owned(),
        };
        format!("{name} ({source}; {date}), clients {clients}")
    }
}

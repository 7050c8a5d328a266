//! Data centers of a database: which servers share a place, what a quorum of one of them is, and
//! why some cannot be. Pure arithmetic over names; may not know generations, documents or how
//! votes are counted.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::members::{WriteQuorum, is_legal_name};
use crate::settings::ReadQuorum;

/// Data centers by name.
pub type DataCenters = BTreeMap<String, DataCenter>;

/// Servers that share a place, with a quorum among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataCenter {
    /// Of the MASTERs among its servers; never [`WriteQuorum::LocalDataCenter`].
    pub write_quorum: WriteQuorum,
    /// At least one; each in one data center only. They need not be there yet.
    pub servers: Vec<String>,
}

/// Why data centers, or a quorum of them, are refused. The first three are the original's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataCenterError {
    /// A MASTER whose votes would count nowhere.
    #[error(
        "Data center not specified for server '{0}' in distributed configuration: add it to the \
         servers of one of dataCenters"
    )]
    Unspecified(String),
    /// Nobody is there.
    #[error("Data center '{0}' does not contain any server in distributed database configuration")]
    Empty(String),
    /// There is none of this name.
    #[error("Cannot find the data center '{0}' in distributed database configuration")]
    Unknown(String),
    /// A server is in one place.
    #[error("dataCenters.{center}.servers: '{server}' is in a data center already")]
    Twice {
        /// Where it stands for the second time.
        center: String,
        /// Who.
        server: String,
    },
    /// Not a name of a server.
    #[error("dataCenters.{center}.servers: '{server}' is no legal name of a server")]
    Name {
        /// Where.
        center: String,
        /// What stands there.
        server: String,
    },
    /// It would be its own quorum.
    #[error(
        "dataCenters.{0}.writeQuorum: \"localDataCenter\" is not legal; legal are whole numbers \
         from 1, \"majority\" and \"all\""
    )]
    Nested(String),
    /// More votes than there are MASTERs.
    #[error(
        "dataCenters.{center}.writeQuorum: {quorum} cannot be reached: the data center has \
         {masters} MASTERs"
    )]
    TooLarge {
        /// Of which one.
        center: String,
        /// Votes asked for.
        quorum: usize,
        /// MASTERs in it.
        masters: usize,
    },
    /// Quorums of nothing.
    #[error("{0}: \"localDataCenter\" is legal with dataCenters only")]
    Missing(&'static str),
}

/// What write quorums come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// W; where data centers decide by themselves the least of theirs.
    pub write_quorum: usize,
    /// Of every data center that decides by itself its MASTERs, as places in their list, and its W.
    /// Empty: all MASTERs vote.
    pub local: Vec<(Vec<usize>, usize)>,
}

/// What a write quorum comes to with these MASTERs. All of them in one data center: its quorum is
/// the cluster's, and a majority of it is safe.
#[must_use]
pub fn rule(quorum: WriteQuorum, centers: &DataCenters, masters: &[&str]) -> Rule {
    let all = masters.len();
    if quorum != WriteQuorum::LocalDataCenter {
        return Rule { write_quorum: quorum.effective(all), local: Vec::new() };
    }
    let of = |center: &DataCenter| {
        let places = (0..all).filter(|at| center.contains(masters[*at]));
        let places: Vec<usize> = places.collect();
        let needed = center.write_quorum.effective(places.len());
        (places, needed)
    };
    let local = centers.values().map(of).filter(|(places, _)| !places.is_empty());
    let local: Vec<(Vec<usize>, usize)> = local.collect();
    match &local[..] {
        [] => Rule { write_quorum: WriteQuorum::Majority.effective(all), local },
        [(places, needed)] if places.len() == all => {
            Rule { write_quorum: *needed, local: Vec::new() }
        }
        some => {
            let write_quorum = some.iter().map(|(_, needed)| *needed).min().unwrap_or(all);
            Rule { write_quorum, local }
        }
    }
}

impl Rule {
    /// Who votes on what a MASTER coordinates, as places in their list, and how many have to say
    /// Yes; `None` for a server that is no MASTER.
    #[must_use]
    pub fn seen_from(&self, coordinator: Option<usize>, masters: usize) -> (Vec<usize>, usize) {
        let is_there = |places: &Vec<usize>| coordinator.is_some_and(|at| places.contains(&at));
        let local = self.local.iter().find(|(places, _)| is_there(places));
        local.cloned().unwrap_or_else(|| ((0..masters).collect(), self.write_quorum))
    }

    /// True when two disjoint sets of MASTERs could both reach it.
    #[must_use]
    pub const fn is_below_majority(&self, masters: usize) -> bool {
        self.write_quorum < masters / 2 + 1
    }

    /// What the operator must be told when the quorum gives up safety.
    #[must_use]
    pub fn warning(&self, masters: usize) -> Option<String> {
        if !self.is_below_majority(masters) {
            return None;
        }
        let (quorum, majority) = (self.write_quorum, masters / 2 + 1);
        let asked = if self.local.is_empty() {
            format!("writeQuorum {quorum} of {masters} MASTERs")
        } else {
            let centers = self.local.len();
            format!(
                "writeQuorum localDataCenter with MASTERs in {centers} data centers, {quorum} of \
                 {masters},"
            )
        };
        Some(format!(
            "{asked} is below the majority ({majority}): writes that were acknowledged may be \
             lost. When the network splits or servers fail, several sides can commit different \
             content; afterwards the conflict resolvers choose one of them, and HA CONFLICTS lists \
             the others. A transaction that also touches what a majority decides (unique keys, \
             retry tokens) needs a majority of all MASTERs in each of its clusters"
        ))
    }
}

impl DataCenter {
    /// True when a server is in it.
    #[must_use]
    pub fn contains(&self, server: &str) -> bool {
        self.servers.iter().any(|other| other == server)
    }
}

/// The data center of a server.
#[must_use]
pub fn center_of<'a>(centers: &'a DataCenters, server: &str) -> Option<(&'a str, &'a DataCenter)> {
    let found = centers.iter().find(|(_, center)| center.contains(server));
    found.map(|(name, center)| (name.as_str(), center))
}

/// Refuses data centers that cannot be, and quorums of them that nobody reaches.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn check(
    centers: &DataCenters,
    (write, read): (WriteQuorum, ReadQuorum),
    masters: &[&str],
) -> Result<(), DataCenterError> {
    let mut seen: Vec<&str> = vec![];
    for (name, center) in centers {
        if center.servers.is_empty() {
            return Err(DataCenterError::Empty(name.clone()));
        }
        if center.write_quorum == WriteQuorum::LocalDataCenter {
            return Err(DataCenterError::Nested(name.clone()));
        }
        for server in &center.servers {
            let (center, server) = (name.clone(), server.as_str());
            if !is_legal_name(server) {
                return Err(DataCenterError::Name { center, server: server.to_string() });
            }
            if seen.contains(&server) {
                return Err(DataCenterError::Twice { center, server: server.to_string() });
            }
            seen.push(server);
        }
    }
    let local = [
        ("writeQuorum", write == WriteQuorum::LocalDataCenter),
        ("readQuorum", read == ReadQuorum::LocalDataCenter),
    ];
    let Some((key, _)) = local.into_iter().find(|(_, is_local)| *is_local) else { return Ok(()) };
    if centers.is_empty() {
        return Err(DataCenterError::Missing(key));
    }
    if let Some(nowhere) = masters.iter().find(|master| !seen.contains(master)) {
        return Err(DataCenterError::Unspecified((*nowhere).to_string()));
    }
    for (name, center) in centers {
        let there = masters.iter().filter(|master| center.contains(master)).count();
        let quorum = center.write_quorum.effective(there);
        if there > 0 && quorum > there {
            let center = name.clone();
            return Err(DataCenterError::TooLarge { center, quorum, masters: there });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rome majority n1,n2; oslo 1 n3`.
    fn centers(text: &str) -> DataCenters {
        let center = |text: &str| {
            let mut words = text.split_whitespace();
            let name = words.next().unwrap().to_string();
            let write_quorum = words.next().unwrap().parse().unwrap();
            let servers = words.next().into_iter().flat_map(|list| list.split(','));
            let servers = servers.map(ToString::to_string).collect();
            (name, DataCenter { write_quorum, servers })
        };
        text.split(';').filter(|text| !text.is_empty()).map(center).collect()
    }

    const FIVE: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

    /// FEATURES: A17, A9
    #[test]
    fn what_quorums_come_to() {
        use WriteQuorum as W;
        let local = W::LocalDataCenter;
        let both = "oslo 1 n4,n5; rome majority n1,n2,n3";
        let apart = [(vec![3, 4], 1), (vec![0, 1, 2], 2)];
        for (quorum, text, masters, write_quorum, locals, below) in [
            (W::Majority, both, &FIVE[..], 3, &[][..], false),
            (W::Count(1), both, &FIVE, 1, &[], true),
            (local, both, &FIVE, 1, &apart, true),
            // A safe cluster of one data center: the others have REPLICAs, or nobody.
            (local, both, &FIVE[..3], 2, &[], false),
            (local, "rome all n1,n2,n3; oslo 1 n8", &FIVE[..3], 3, &[], false),
            (local, "rome 1 n1,n2,n3", &FIVE[..3], 1, &[], true),
            // Servers that are not there, or are REPLICAs, do not count.
            (local, "rome majority n1,n7,n8,n9", &FIVE[..1], 1, &[], false),
            // Two data centers have no MASTER in common, whatever they ask for.
            (
                local,
                "a all n1; b all n2,n3,n4",
                &FIVE[..4],
                1,
                &[(vec![0], 1), (vec![1, 2, 3], 3)],
                true,
            ),
            // Refused before it comes to this.
            (local, "", &FIVE, 3, &[], false),
            (local, "rome majority n1,n2", &FIVE[..3], 2, &[(vec![0, 1], 2)], false),
        ] {
            let found = rule(quorum, &centers(text), masters);
            let expected = Rule { write_quorum, local: locals.to_vec() };
            assert_eq!(found, expected, "{quorum} {text}");
            assert_eq!(found.is_below_majority(masters.len()), below, "{quorum} {text}");
        }
    }

    /// FEATURES: A17, S9
    #[test]
    fn what_cannot_be_is_refused_in_the_originals_words() {
        use ReadQuorum as R;
        use WriteQuorum as W;
        let (local, one) = (W::LocalDataCenter, R::Count(1));
        let both = "oslo 1 n4,n5; rome majority n1,n2,n3";
        for (text, quorums, expected) in [
            (both, (local, R::LocalDataCenter), ""),
            ("", (W::Majority, one), ""),
            ("rome 9 n1", (W::Majority, one), ""),
            (
                "rome majority n1,n2,n3,n4",
                (local, one),
                "Data center not specified for server 'n5' in distributed configuration",
            ),
            (
                "rome majority n1,n2,n3,n4",
                (W::Majority, R::LocalDataCenter),
                "Data center not specified for server 'n5'",
            ),
            (
                "rome majority",
                (W::Majority, one),
                "Data center 'rome' does not contain any server in distributed database \
                 configuration",
            ),
            ("a 1 n1;b 1 n2,n1", (W::Majority, one), "dataCenters.b.servers: 'n1' is in a data"),
            ("a 1 n1,n1", (W::Majority, one), "dataCenters.a.servers: 'n1' is in a data"),
            ("a 1 -x", (W::Majority, one), "dataCenters.a.servers: '-x' is no legal name"),
            ("a localDataCenter n1", (W::Majority, one), "dataCenters.a.writeQuorum: \"localData"),
            ("", (local, one), "writeQuorum: \"localDataCenter\" is legal with dataCenters only"),
            ("", (W::All, R::LocalDataCenter), "readQuorum: \"localDataCenter\" is legal"),
            (
                "rome 4 n1,n2,n3,n7; oslo 1 n4,n5",
                (local, one),
                "dataCenters.rome.writeQuorum: 4 cannot be reached: the data center has 3 MASTERs",
            ),
            ("rome majority n1,n2,n3,n4,n5; oslo 3 n9", (local, one), ""),
        ] {
            let found = check(&centers(text), quorums, &FIVE);
            let found = found.err().map(|error| error.to_string()).unwrap_or_default();
            let is_so =
                if expected.is_empty() { found.is_empty() } else { found.starts_with(expected) };
            assert!(is_so, "{text}: {found:?}");
        }
    }
}

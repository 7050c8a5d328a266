//! Settings that earlier versions had and that do nothing any more: their legal values, and what
//! took their place. May not know the settings that count.

use alloc::vec::Vec;

use super::tree::{Field, Settings, Tree};
use super::{ConfigError, Warning};

/// A setting that is checked and then only warned about.
pub(super) struct Obsolete {
    pub(super) name: &'static str,
    check: fn(&Field<'_>) -> Result<(), ConfigError>,
    instead: fn(&Tree) -> &'static str,
}

/// Those of the database, in the order of their versions.
pub(super) const OF_DATABASE: &[Obsolete] = &[
    SYNCHRONIZATION,
    SYNCH_REPLICAS,
    ASYNCH_REPLICAS,
    MASTER,
    Obsolete {
        name: "resyncEvery",
        check: |field| field.whole(i64::MIN, i64::MAX).map(drop),
        instead: |_| "decisions are sent to every server all the time",
    },
    Obsolete {
        name: "hotAlignment",
        check: |field| field.bool().map(drop),
        instead: |_| {
            "a server that was away is sent what it missed; --log-entries-max and --log-age-max-s \
             say how much, and beyond that it aligns itself"
        },
    },
    Obsolete {
        name: "offlineMsgQueueSize",
        check: |field| field.whole(0, i64::MAX).map(drop),
        instead: |_| "--log-entries-max says how many decisions are kept for a server that is away",
    },
    FAILURE_AVAILABLE_NODES_LESS_QUORUM,
];

/// Those of a cluster.
pub(super) const OF_CLUSTER: &[Obsolete] = &[
    SYNCHRONIZATION,
    SYNCH_REPLICAS,
    ASYNCH_REPLICAS,
    MASTER,
    FAILURE_AVAILABLE_NODES_LESS_QUORUM,
];

const SYNCHRONIZATION: Obsolete = Obsolete {
    name: "synchronization",
    check: |field| field.bool().map(drop),
    instead: |_| "`servers` of a cluster says who keeps it",
};

const SYNCH_REPLICAS: Obsolete = Obsolete {
    name: "synch-replicas",
    check: |field| {
        let is_count = matches!(field.tree, Tree::Whole(0..));
        if is_count { Ok(()) } else { percentage(field) }
    },
    instead: |_| "writeQuorum says how many servers a writer waits for",
};

const ASYNCH_REPLICAS: Obsolete = Obsolete {
    name: "asynch-replicas",
    check: SYNCH_REPLICAS.check,
    instead: |_| "every server in `servers` gets all writes, waited for or not",
};

const MASTER: Obsolete = Obsolete {
    name: "master",
    check: |field| field.text("names of servers and \"$auto\"").map(drop),
    instead: |_| "the first in `servers`, or `owner` of the cluster",
};

const FAILURE_AVAILABLE_NODES_LESS_QUORUM: Obsolete = Obsolete {
    name: "failureAvailableNodesLessQuorum",
    check: |field| field.bool().map(drop),
    instead: |tree| {
        if *tree == Tree::Bool(true) {
            return "a write always fails when its quorum cannot be reached";
        }
        "a quorum is never lowered to the servers that can be reached, the write fails; give a \
         lower writeQuorum if it shall not"
    },
};

fn percentage(field: &Field<'_>) -> Result<(), ConfigError> {
    let legal = "whole numbers from 0 and percentages like \"100%\"";
    let number = field.text(legal)?.strip_suffix('%').and_then(|n| n.parse::<u8>().ok());
    if number.is_some_and(|n| n <= 100) { Ok(()) } else { Err(field.refuse(legal)) }
}

/// Checks the obsolete ones among settings and warns of each.
pub(super) fn look(
    all: &[Obsolete],
    settings: &Settings<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<(), ConfigError> {
    for obsolete in all {
        if let Some(field) = settings.get(obsolete.name) {
            (obsolete.check)(field)?;
            let instead = (obsolete.instead)(field.tree);
            warnings.push(Warning::Obsolete { path: field.path.clone(), instead });
        }
    }
    Ok(())
}

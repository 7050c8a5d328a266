//! How a server comes to a cluster: it founds one with others, joins one, or stands alone; and what
//! its links need. May not reach anybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::runtime::MULTICAST;

use super::{ConfigError, DEFAULT_CLUSTER, DialError, LinkSettings};

/// The MASTERs that are named, and the seeds. A flag says what the server is to do now, whatever
/// the file does.
///
/// # Errors
/// Both are given in one place, or a role that a server cannot come in.
pub(super) fn founding(
    flags: (Option<Vec<String>>, Vec<String>),
    file: (Option<Vec<String>>, Vec<String>),
    role: Option<String>,
) -> Result<(Option<Vec<String>>, Vec<String>), ConfigError> {
    let is_said = flags.0.is_some() || !flags.1.is_empty();
    let (masters, join) = if is_said { flags } else { file };
    if masters.is_some() && !join.is_empty() {
        return Err(ConfigError::FoundsAndJoins);
    }
    match role {
        Some(role) if join.is_empty() || !role.eq_ignore_ascii_case("replica") => {
            Err(ConfigError::Role(role))
        }
        Some(_) | None => Ok((masters, join)),
    }
}

/// Where a server listens for others, and where these are told to find it.
pub(super) struct Reach<'a> {
    pub(super) listen: SocketAddr,
    pub(super) advertise: Option<String>,
    pub(super) multicast: bool,
    pub(super) seeds: &'a [String],
}

/// What a server among others needs.
///
/// # Errors
/// No password, or others could not reach a server that joins.
pub(super) fn links(
    reach: Reach<'_>,
    dial: BTreeMap<String, String>,
    cluster: Option<String>,
    password: Option<String>,
) -> Result<LinkSettings, ConfigError> {
    let Reach { listen, advertise, multicast, seeds } = reach;
    let multicast = multicast || seeds.iter().any(|seed| seed == MULTICAST);
    let is_sought = multicast || !seeds.is_empty();
    if is_sought && advertise.is_none() && listen.ip().is_unspecified() {
        return Err(DialError::Unreachable(listen).into());
    }
    let cluster = cluster.unwrap_or_else(|| DEFAULT_CLUSTER.to_owned());
    let password = password.filter(|p| !p.is_empty()).ok_or(ConfigError::NoPassword)?;
    Ok(LinkSettings { listen, advertise, multicast, dial, cluster, password })
}

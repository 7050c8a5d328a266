//! How a server comes to a cluster: it founds one with others, joins one, or stands alone; and what
//! its links need. May not reach anybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use quorate_control::distributed::Warning;

use crate::runtime::MULTICAST;

use super::template::Template;
use super::{ConfigError, DEFAULT_CLUSTER, DialError, LinkSettings};

/// How a server begins.
pub(super) struct Founding {
    /// The MASTERs that are named.
    pub(super) masters: Option<Vec<String>>,
    /// The seeds.
    pub(super) join: Vec<String>,
    /// It is to be a witness.
    pub(super) witness: bool,
}

/// How a server is to begin. A flag says what it is to do now, whatever the file does.
///
/// # Errors
/// MASTERs and seeds are given in one place, or a role that a server cannot come in.
pub(super) fn founding(
    flags: (Option<Vec<String>>, Vec<String>),
    file: (Option<Vec<String>>, Vec<String>),
    role: Option<String>,
) -> Result<Founding, ConfigError> {
    let is_said = flags.0.is_some() || !flags.1.is_empty();
    let (masters, join) = if is_said { flags } else { file };
    if masters.is_some() && !join.is_empty() {
        return Err(ConfigError::FoundsAndJoins);
    }
    let is = |word: &str| role.as_ref().is_some_and(|role| role.eq_ignore_ascii_case(word));
    let is_alone = masters.is_none() && join.is_empty();
    let (is_replica, is_witness) = (is("replica"), is("witness"));
    let is_legal = (is_replica && !join.is_empty()) || (is_witness && !is_alone);
    match role {
        Some(role) if !is_legal => Err(ConfigError::Role(role)),
        Some(_) | None => Ok(Founding { masters, join, witness: is_witness }),
    }
}

/// True when this server is to be a witness, by its flag or by the template; that of others tells
/// only them.
///
/// # Errors
/// A server that stands alone would be one, or every second one of those that found a cluster.
pub(super) fn is_witness(
    flagged: bool,
    (name, founders): (&str, &[String]),
    template: &mut Template,
) -> Result<bool, ConfigError> {
    let is_named = |server: &str| template.witnesses.iter().any(|witness| witness == server);
    let is_witness = flagged || is_named(name);
    let others = founders.iter().filter(|other| *other != name && is_named(other));
    let (others, masters): (Vec<&String>, usize) = (others.collect(), founders.len());
    let witnesses = others.len() + usize::from(is_witness);
    if masters > 0 && 2 * witnesses >= masters && witnesses > 0 {
        return Err(ConfigError::Witnesses { witnesses, masters });
    }
    let warnings = others.into_iter().map(|other| Warning::NoEffect {
        path: format!("servers.{other}"),
        instead: "a server becomes a witness by its own template, or its own --role witness",
    });
    template.warnings.extend(warnings);
    Ok(is_witness)
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

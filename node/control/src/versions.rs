//! The versions that servers speak: one number for links, for what passes over them, and for what
//! all servers agree on. May not know how servers hear which versions others speak.
//!
//! A link uses the highest version that both ends speak. What all servers agree on is written in
//! the cluster's *level*, which stands in the schema and is raised by a command once every server
//! speaks more. So nothing is written that an older server does not understand while there is one,
//! and none comes back afterwards: a server speaks nothing below the level any more.
//!
//! Whoever changes a type that is sent, or kept in the log, raises [`NEWEST`], lets the old shape
//! be written below it, and renews the files that hold the shapes; a new command says since which
//! version there is one. [`OLDEST`] rises when the code for an old version goes.

use alloc::collections::BTreeSet;
use core::fmt;

use quorate_api::NodeId;

use crate::command::Command;
use crate::dynamic::NewNodes;
use crate::schema::Schema;
use crate::servers::Role;
use crate::settings::NewDatabase;

/// The oldest version that this program speaks; the level of a cluster that was never raised.
pub const OLDEST: u16 = 8;

/// The newest one. Since 9 there is a level, links are negotiated, and servers tell each other
/// which versions they speak, how far their copies are, and how long others are behind; and a
/// server can be a witness.
pub const NEWEST: u16 = 9;

/// A range of versions, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The first one.
    pub oldest: u16,
    /// The last one.
    pub newest: u16,
}

impl Versions {
    /// All that this program speaks.
    pub const ALL: Self = Self { oldest: OLDEST, newest: NEWEST };

    /// Those up to one that this program speaks; `None` if it speaks no such version.
    #[must_use]
    pub const fn up_to(newest: u16) -> Option<Self> {
        if newest < OLDEST || newest > NEWEST {
            return None;
        }
        Some(Self { oldest: OLDEST, newest })
    }

    /// Those that are left in a cluster of this level.
    #[must_use]
    pub fn from_level(self, level: u16) -> Self {
        Self { oldest: self.oldest.max(level), ..self }
    }

    /// The highest that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.newest.min(other.newest);
        (newest >= self.oldest.max(other.oldest)).then_some(newest)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { oldest, newest } if oldest == newest => write!(f, "version {oldest}"),
            Self { oldest, newest } => write!(f, "versions {oldest} to {newest}"),
        }
    }
}

/// Since this version databases say who decides between contents that diverged.
pub const CHAIN_SINCE: u16 = 9;

impl Command {
    /// The level from which on it can be proposed: since then every server knows it. What raises
    /// the level is proposed before.
    #[must_use]
    pub const fn since(&self) -> u16 {
        let is_newer = matches!(
            self,
            Self::AddCluster { .. }
                | Self::SetOwner { .. }
                | Self::Set { .. }
                | Self::Adopt { .. }
                | Self::Brought { .. }
                | Self::Arrived { .. }
                | Self::ForgetStrays { .. }
                | Self::RemoveAbsent { .. }
                | Self::CreateDatabase { new: NewDatabase { new_nodes: NewNodes::Dynamic(_), .. } }
                | Self::SetRole { role: Role::Witness, .. }
                | Self::RemoveServer { force: true, .. }
        );
        if self.says_chain() {
            CHAIN_SINCE
        } else if is_newer {
            9
        } else {
            OLDEST
        }
    }

    const fn says_chain(&self) -> bool {
        if let Self::CreateDatabase { new } = self {
            new.chain.is_some()
        } else if let Self::Reconfigure { settings, .. } = self {
            settings.chain.is_some()
        } else {
            false
        }
    }
}

/// For serde: the level of a schema that does not say it.
pub(crate) const fn oldest() -> u16 {
    OLDEST
}

/// For serde: a schema of this level does not say it, so that older servers can read it.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
pub(crate) const fn is_oldest(level: &u16) -> bool {
    *level == OLDEST
}

/// For serde: what came later is not said where it is not used.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
pub(crate) const fn is_false(value: &bool) -> bool {
    !*value
}

impl Schema {
    /// The schema of a higher level; `None` when it is as high, or when there are other servers
    /// than those who were found to speak it.
    pub(crate) fn raised(&self, level: u16, of: &BTreeSet<NodeId>) -> Option<Self> {
        let known = self.servers.iter().all(|server| of.contains(&server.node));
        (known && level > self.level).then(|| {
            let mut next = self.clone();
            next.level = level;
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const fn versions(oldest: u16, newest: u16) -> Versions {
        Versions { oldest, newest }
    }

    #[test]
    fn the_highest_common_version_is_found_or_none() {
        for (one, other, common) in [
            ((8, 9), (8, 9), Some(9)),
            ((8, 9), (8, 8), Some(8)),
            ((8, 9), (9, 11), Some(9)),
            ((9, 9), (8, 8), None),
            ((8, 9), (10, 11), None),
        ] {
            let (one, other) = (versions(one.0, one.1), versions(other.0, other.1));
            assert_eq!(one.common(other), common, "{one} and {other}");
            assert_eq!(other.common(one), common, "{other} and {one}");
        }
        assert_eq!(versions(8, 9).from_level(9), versions(9, 9));
        assert_eq!(versions(8, 9).from_level(1), versions(8, 9));
        assert_eq!(versions(9, 9).to_string(), "version 9");
        assert_eq!(versions(8, 9).to_string(), "versions 8 to 9");
    }

    #[test]
    fn only_versions_that_exist_can_be_asked_for() {
        assert_eq!(Versions::up_to(NEWEST), Some(Versions::ALL));
        assert_eq!((Versions::up_to(OLDEST - 1), Versions::up_to(NEWEST + 1)), (None, None));
    }

    #[test]
    fn the_level_rises_for_the_servers_that_were_asked_and_never_falls() {
        let founders = [("n1".to_string(), NodeId(1)), ("n2".to_string(), NodeId(2))];
        let schema = Schema::founded_by(&founders);
        let both = [NodeId(1), NodeId(2)].into();
        assert_eq!(schema.raised(9, &[NodeId(1)].into()), None, "a server came meanwhile");
        assert_eq!(schema.raised(OLDEST, &both), None);
        let raised = schema.raised(9, &both).unwrap();
        assert_eq!((raised.level, raised.raised(9, &both)), (9, None));
        // An older server reads what is written before, and nothing afterwards.
        let says_so = |schema: &Schema| {
            core::str::from_utf8(&schema.encode().unwrap()).unwrap().contains("level")
        };
        assert!(!says_so(&schema) && says_so(&raised));
        assert_eq!(Schema::decode(&raised.encode().unwrap()).unwrap(), raised);
    }
}

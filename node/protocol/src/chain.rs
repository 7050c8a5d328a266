//! The chain of conflict resolvers (PROTOCOL.md 3.10; the original's steps and words): a pure
//! function from what the MASTERs have of one item to the content that wins. May not know stamps,
//! messages or who asks.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// One step of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolver {
    /// The largest group of equal copies, if it has at least W of them.
    Quorum,
    /// The content that most copies have, whatever their versions; its highest version wins. What
    /// is absent has no content.
    Content,
    /// The group of equal copies that is larger than every other one.
    Majority,
    /// The highest version. What is absent has none, so a delete loses.
    Version,
    /// The majority of the copies in this data center.
    DataCenter(String),
}

/// Names of all resolvers, as they are told to whoever misspells one.
const NAMES: &str = "[quorum, content, majority, version, dc]";

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quorum => f.write_str("quorum"),
            Self::Content => f.write_str("content"),
            Self::Majority => f.write_str("majority"),
            Self::Version => f.write_str("version"),
            Self::DataCenter(winner) => write!(f, "dc{{winner:{winner}}}"),
        }
    }
}

/// Resolvers in the order in which they are asked; the first that names a winner ends the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Chain(Vec<Resolver>);

impl TryFrom<String> for Chain {
    type Error = ChainError;

    fn try_from(text: String) -> Result<Self, ChainError> {
        text.parse()
    }
}

impl From<Chain> for String {
    fn from(chain: Chain) -> Self {
        chain.to_string()
    }
}

/// The documented order.
impl Default for Chain {
    fn default() -> Self {
        Self([Resolver::Majority, Resolver::Content, Resolver::Version].into())
    }
}

/// A text that is no chain. The first two are the original's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// Nobody is called so.
    #[error("Cannot find '{0}' conflict resolver implementation. Available are: {NAMES}")]
    Unknown(String),
    /// Its braces do not close, or hold what it does not know.
    #[error(
        "Invalid configuration for conflict resolver: {0} (legal is dc{{winner:NAME}}; the others \
         take none)"
    )]
    Configuration(String),
    /// `dc` alone.
    #[error("DC conflict resolver requires a configuration for the winner: dc{{winner:NAME}}")]
    NoWinner,
    /// The same resolver again would find what it found.
    #[error("conflict resolver '{0}' stands in the chain twice")]
    Twice(String),
    /// Nothing between two commas, or nothing at all.
    #[error("the chain of conflict resolvers has an empty step: available are {NAMES}")]
    Empty,
}

impl FromStr for Resolver {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        let text = text.trim();
        let (name, configuration) = match text.split_once('{') {
            Some((name, rest)) => (name.trim_end(), Some(rest)),
            None => (text, None),
        };
        let invalid = || ChainError::Configuration(text.to_string());
        let plain = match name {
            "" => return Err(ChainError::Empty),
            "quorum" => Self::Quorum,
            "content" => Self::Content,
            "majority" => Self::Majority,
            "version" => Self::Version,
            "dc" => {
                let inside = configuration.ok_or(ChainError::NoWinner)?;
                let inside = inside.strip_suffix('}').ok_or_else(invalid)?;
                let (key, winner) = inside.split_once(':').ok_or_else(invalid)?;
                let (key, winner) = (unquoted(key), unquoted(winner));
                let is_name = |c: char| c.is_alphanumeric() || "-_.".contains(c);
                if key != "winner" || winner.is_empty() || !winner.chars().all(is_name) {
                    return Err(invalid());
                }
                return Ok(Self::DataCenter(winner.to_string()));
            }
            unknown => return Err(ChainError::Unknown(unknown.to_string())),
        };
        if configuration.is_some() { Err(invalid()) } else { Ok(plain) }
    }
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}

impl FromStr for Chain {
    type Err = ChainError;

    fn from_str(text: &str) -> Result<Self, ChainError> {
        let mut steps: Vec<Resolver> = Vec::new();
        let mut depth = 0_u32;
        let is_comma = |c: char| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == ',' && depth == 0
        };
        for step in text.split(is_comma) {
            let step: Resolver = step.parse()?;
            if steps.contains(&step) {
                return Err(ChainError::Twice(step.to_string()));
            }
            steps.push(step);
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{step}")?;
        }
        Ok(())
    }
}

/// What one MASTER has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy<'a> {
    /// Version and content; `None` for what is absent or deleted there.
    pub content: Option<(u64, &'a [u8])>,
    /// The data center of the MASTER, if it is in one.
    pub data_center: Option<&'a str>,
}

/// Copies with the same version and content, by index.
type Groups = Vec<Vec<usize>>;

impl Chain {
    /// Its steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Resolver] {
        &self.0
    }

    /// Data centers that decide, in the order of the steps.
    pub fn data_centers(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|step| match step {
            Resolver::DataCenter(winner) => Some(winner.as_str()),
            Resolver::Quorum | Resolver::Content | Resolver::Majority | Resolver::Version => None,
        })
    }

    /// Index of a copy that wins, and the step that said so; `None` when none of them decides.
    /// `quorum` is W of the record's cluster.
    #[must_use]
    pub fn winner(&self, copies: &[Copy<'_>], quorum: usize) -> Option<(usize, &Resolver)> {
        self.0.iter().find_map(|step| Some((step.winner(copies, quorum)?, step)))
    }
}

impl Resolver {
    fn winner(&self, copies: &[Copy<'_>], quorum: usize) -> Option<usize> {
        let all = || 0..copies.len();
        match self {
            Self::Quorum => {
                let groups = grouped(copies, all());
                // Of equally large ones the first.
                let best = groups.iter().rev().max_by_key(|group| group.len())?;
                (best.len() >= quorum).then_some(best[0])
            }
            Self::Content => most_content(copies),
            Self::Majority => largest(&grouped(copies, all())),
            Self::Version => {
                let groups = grouped(copies, all());
                let version = |group: &Vec<usize>| Some(copies[group[0]].content?.0);
                let highest = groups.iter().filter_map(version).max()?;
                let mut best = groups.iter().filter(|group| version(group) == Some(highest));
                let winner = best.next()?[0];
                best.next().is_none().then_some(winner)
            }
            Self::DataCenter(winner) => {
                let there = |at: &usize| copies[*at].data_center == Some(winner.as_str());
                largest(&grouped(copies, all().filter(there)))
            }
        }
    }
}

/// Equal copies together, in the order of their first ones.
fn grouped(copies: &[Copy<'_>], which: impl Iterator<Item = usize>) -> Groups {
    let mut groups = Groups::new();
    for at in which {
        match groups.iter_mut().find(|group| copies[group[0]].content == copies[at].content) {
            Some(group) => group.push(at),
            None => groups.push([at].into()),
        }
    }
    groups
}

/// The first copy of the group that is larger than every other one.
fn largest(groups: &Groups) -> Option<usize> {
    let most = groups.iter().map(Vec::len).max()?;
    let mut best = groups.iter().filter(|group| group.len() == most);
    let winner = best.next()?[0];
    best.next().is_none().then_some(winner)
}

/// Of the content that more copies have than any other, the one of the highest version.
fn most_content(copies: &[Copy<'_>]) -> Option<usize> {
    let mut by_content: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for (at, copy) in copies.iter().enumerate() {
        if let Some((_, content)) = copy.content {
            by_content.entry(content).or_default().push(at);
        }
    }
    let groups: Groups = by_content.into_values().collect();
    let winner = largest(&groups)?;
    let group = groups.into_iter().find(|group| group[0] == winner)?;
    group.into_iter().rev().max_by_key(|at| copies[*at].content.map(|(version, _)| version))
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::*;

    /// `ok/3@rome`: content, version, data center. `-`: absent.
    fn copy(text: &str) -> Copy<'_> {
        let (text, data_center) = match text.split_once('@') {
            Some((text, center)) => (text, Some(center)),
            None => (text, None),
        };
        let content = text.split_once('/');
        let content = content.map(|(bytes, version)| (version.parse().unwrap(), bytes.as_bytes()));
        assert!(content.is_some() || text == "-");
        Copy { content, data_center }
    }

    /// What the chain makes of these copies: the winner and the step, or `none`.
    fn outcome(chain: &str, quorum: usize, copies: &str) -> String {
        let texts: Vec<&str> = copies.split_whitespace().collect();
        let copies: Vec<Copy<'_>> = texts.iter().map(|text| copy(text)).collect();
        let chain: Chain = chain.parse().unwrap();
        let said = chain.winner(&copies, quorum);
        said.map_or("none".into(), |(at, step)| format!("{} by {step}", texts[at]))
    }

    /// FEATURES: A14
    #[test]
    fn documented_cases_of_every_resolver() {
        for (chain, quorum, copies, wanted) in [
            // quorum: W equal copies; of two groups that have it, the first; absence counts.
            ("quorum", 2, "a/1 b/1 b/1", "b/1 by quorum"),
            ("quorum", 2, "a/1 b/1 c/1", "none"),
            ("quorum", 2, "a/1 a/1 b/1 b/1", "a/1 by quorum"),
            ("quorum", 2, "- a/1 -", "- by quorum"),
            ("quorum", 3, "a/1 a/1 a/2", "none"),
            // content: versions do not count, the highest one of the winner is taken.
            ("content", 1, "a/1 a/5 b/9", "a/5 by content"),
            ("content", 1, "a/5 a/1 b/9", "a/5 by content"),
            ("content", 1, "a/1 b/2", "none"),
            ("content", 1, "- - a/1", "a/1 by content"),
            ("content", 1, "- -", "none"),
            // majority: a strict one over the second largest, not over half.
            ("majority", 1, "a/1 b/1 b/1", "b/1 by majority"),
            ("majority", 1, "a/1 b/1 b/2", "none"),
            ("majority", 1, "a/1 a/1 b/1 c/1 d/1", "a/1 by majority"),
            ("majority", 1, "a/1 a/1 b/1 b/1 c/1", "none"),
            ("majority", 1, "- - a/7", "- by majority"),
            // version: unique among groups; what exists beats what does not, so deletes lose.
            ("version", 1, "a/1 b/2 c/2", "none"),
            ("version", 1, "a/1 b/2 b/2", "b/2 by version"),
            ("version", 1, "- - a/1", "a/1 by version"),
            ("version", 1, "-", "none"),
            // dc: the majority of one data center alone.
            ("dc{winner:rome}", 1, "a/1@rome b/9@oslo b/9@oslo", "a/1@rome by dc{winner:rome}"),
            ("dc{winner:rome}", 1, "a/1@rome b/1@rome c/1@oslo", "none"),
            ("dc{winner:bonn}", 1, "a/1@rome b/1", "none"),
            // No copy, no winner.
            ("quorum,content,majority,version,dc{winner:a}", 1, "", "none"),
        ] {
            assert_eq!(outcome(chain, quorum, copies), wanted, "{chain} of {quorum}: {copies}");
        }
    }

    /// The original's DistributedDatabaseRepair, with the documented order.
    ///
    /// FEATURES: A14
    #[test]
    fn the_originals_tests_in_the_documented_order() {
        let chain = Chain::default().to_string();
        assert_eq!(chain, "majority,content,version");
        for (copies, wanted) in [
            ("corrupted0/1 corrupted1/1 ok/1", "none"),
            ("corrupted0/1 ok/1 ok/1", "ok/1 by majority"),
            ("corrupted0/1 recent/1000 ok/1", "recent/1000 by version"),
            ("ok/1 ok/2 corrupted/1", "ok/2 by content"),
        ] {
            assert_eq!(outcome(&chain, 2, copies), wanted, "{copies}");
        }
    }

    /// FEATURES: A14
    #[test]
    fn the_first_step_that_decides_ends_the_chain_in_any_order() {
        for (chain, wanted) in [
            ("quorum,content,majority,version", "a/1 by quorum"),
            ("majority,version", "a/1 by majority"),
            ("content,majority", "b/9 by content"),
            ("version,majority", "b/9 by version"),
        ] {
            assert_eq!(outcome(chain, 2, "a/1 a/1 b/3 b/9 b/5"), wanted, "{chain}");
        }
    }

    /// FEATURES: A14
    #[test]
    fn a_chain_is_read_and_written_alike_and_refused_with_the_legal_names() {
        for text in ["version", "dc{winner:a-1.b},majority", "version,dc{winner:a},dc{winner:b}"] {
            assert_eq!(text.parse::<Chain>().unwrap().to_string(), text);
        }
        let spaced: Chain = " content , dc {\"winner\" : \"rome\"} ".parse().unwrap();
        assert_eq!(spaced.to_string(), "content,dc{winner:rome}");
        for (text, wanted) in [
            ("", ChainError::Empty),
            ("majority,", ChainError::Empty),
            ("Majority", ChainError::Unknown("Majority".into())),
            ("majority,most", ChainError::Unknown("most".into())),
            ("dc", ChainError::NoWinner),
            ("dc{}", ChainError::Configuration("dc{}".into())),
            ("dc{winner:a", ChainError::Configuration("dc{winner:a".into())),
            ("dc{winner:}", ChainError::Configuration("dc{winner:}".into())),
            ("dc{loser:a}", ChainError::Configuration("dc{loser:a}".into())),
            ("version{a:b}", ChainError::Configuration("version{a:b}".into())),
            ("version,version", ChainError::Twice("version".into())),
        ] {
            assert_eq!(text.parse::<Chain>(), Err(wanted), "{text}");
        }
        let told = ChainError::Unknown("most".into()).to_string();
        assert!(told.ends_with("Available are: [quorum, content, majority, version, dc]"));
    }
}

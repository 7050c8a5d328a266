//! Random chaos: rounds of a workload under faults drawn from a seed. What such a campaign is made
//! of and which rounds are done; the file `chaos.json` in its folder names them, so that one that
//! was killed goes on where it was. May not run anything.

mod draw;
mod slope;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use draw::{
    Deck, Hurt, MASTERS_MIN, ROUND_MS_MIN, Weights, round, seed_of, usual_weights, weights,
};
pub use slope::{Growth, Slopes};

use crate::sweep::{LedgerError, Means};

/// Name of its file in the campaign's folder.
pub const CHAOS_FILE: &str = "chaos.json";
/// Version of it that this build writes and reads.
pub const CHAOS_FORMAT: u32 = 1;

/// What a campaign is: two with the same definition are the same campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Name of the workload.
    pub name: String,
    /// Its file.
    pub workload: PathBuf,
    /// SHA-256 of the plan of its first round, which stands for the workload's contents.
    pub plan: String,
    /// `path=value` of what differs from the file.
    pub set: Vec<String>,
    /// Version of the program that began it.
    pub harness: String,
    /// Root of every draw.
    pub seed: u64,
    /// How many rounds.
    pub rounds: u32,
    /// How long each measures, in milliseconds.
    pub round_ms: u64,
    /// What is drawn how often, by name and forms.
    pub weights: Vec<(String, u32)>,
    /// With what it is run.
    pub means: Means,
}

/// A round that ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Which, from 1.
    pub number: u32,
    /// Its run's folder, beside `chaos.json`; empty if it never came to one.
    pub folder: String,
    /// Exit code that it alone would have had.
    pub exit: u8,
    /// Faults done in it.
    pub faults: usize,
    /// How often it was tried: again only when the harness failed.
    #[serde(default = "once")]
    pub tries: u32,
    /// What is wrong with it; empty for a good one.
    pub remark: String,
}

fn once() -> u32 {
    1
}

/// A campaign and its rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Campaign {
    /// [`CHAOS_FORMAT`] of the writer.
    pub format: u32,
    /// What it is.
    pub definition: Definition,
    /// In their order.
    pub rounds: Vec<Round>,
}

impl Campaign {
    /// One of which nothing has been run.
    #[must_use]
    pub fn new(definition: Definition) -> Self {
        Self { format: CHAOS_FORMAT, definition, rounds: Vec::new() }
    }

    /// The number of the round that comes next; `None` behind the last.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        let next = u32::try_from(self.rounds.len()).unwrap_or(u32::MAX).saturating_add(1);
        (next <= self.definition.rounds).then_some(next)
    }

    /// Reads that of a folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be understood.
    pub fn read(folder: &Path) -> Result<Self, LedgerError> {
        let path = folder.join(CHAOS_FILE);
        let json = |source| LedgerError::Json { path: path.clone(), source };
        let text = fs::read_to_string(&path)
            .map_err(|source| LedgerError::File { path: path.clone(), source })?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
        let found = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(CHAOS_FORMAT) {
            return Err(LedgerError::Version { path, found, reads: CHAOS_FORMAT });
        }
        serde_json::from_value(value).map_err(json)
    }

    /// Writes it into a folder; whoever is killed meanwhile leaves the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), LedgerError> {
        let path = folder.join(CHAOS_FILE);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| LedgerError::Json { path: path.clone(), source })?;
        text.push('\n');
        let fresh = folder.join(format!(".{CHAOS_FILE}"));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| LedgerError::File { path, source })
    }
}

/// The latest folder below `out` with a campaign of this definition, if that did not get to its
/// end. What cannot be read is somebody else's.
#[must_use]
pub fn unfinished(out: &Path, definition: &Definition) -> Option<PathBuf> {
    let entries = fs::read_dir(out).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> =
        entries.filter(|path| !path.is_symlink() && path.join(CHAOS_FILE).is_file()).collect();
    folders.sort();
    let found = folders.into_iter().rev().find_map(|folder| {
        let campaign = Campaign::read(&folder).ok()?;
        (campaign.definition == *definition).then_some((folder, campaign))
    });
    found.filter(|(_, campaign)| campaign.next().is_some()).map(|(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(seed: u64) -> Definition {
        Definition {
            name: "x".to_owned(),
            workload: "x.yaml".into(),
            plan: String::new(),
            set: Vec::new(),
            harness: "test".to_owned(),
            seed,
            rounds: 2,
            round_ms: 20_000,
            weights: Vec::new(),
            means: Means::default(),
        }
    }

    fn round(number: u32) -> Round {
        let folder = format!("run-{number}");
        Round { number, folder, exit: 0, faults: 3, tries: 1, remark: String::new() }
    }

    #[test]
    fn a_campaign_that_was_killed_is_found_again_and_one_that_differs_is_not() {
        let out = tempfile::tempdir().unwrap();
        let folder = out.path().join("2026-a");
        fs::create_dir(&folder).unwrap();
        let mut campaign = Campaign::new(definition(1));
        campaign.rounds.push(round(1));
        campaign.write(&folder).unwrap();
        assert_eq!(unfinished(out.path(), &definition(1)), Some(folder.clone()));
        assert_eq!(unfinished(out.path(), &definition(2)), None);
        let mut read = Campaign::read(&folder).unwrap();
        assert_eq!((&read, read.next()), (&campaign, Some(2)));
        read.rounds.push(round(2));
        read.write(&folder).unwrap();
        assert_eq!(read.next(), None);
        assert_eq!(unfinished(out.path(), &definition(1)), None);
    }

    #[test]
    fn a_file_of_another_version_is_refused_with_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CHAOS_FILE), "{\"format\": 9}").unwrap();
        let error = Campaign::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("format 9"), "{error}");
    }
}

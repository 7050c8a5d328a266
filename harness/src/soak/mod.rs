//! Random chaos: rounds of a workload under faults drawn from a seed. What such a campaign is made
//! of and which rounds are done; the file `chaos.json` in its folder names them, so that one that
//! was killed goes on where it was. May not run anything.

mod draw;
mod slope;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use draw::{
    Deck, Hurt, MASTERS_MIN, ROUND_MS_MIN, Weights, round, seed_of, usual_weights, weights,
};
pub use slope::{Growth, Slopes};

use crate::resume::Resumable;
use crate::sweep::Means;

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
    /// [`Resumable::FORMAT`] of the writer.
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
        Self { format: Self::FORMAT, definition, rounds: Vec::new() }
    }

    /// The number of the round that comes next; `None` behind the last.
    #[must_use]
    pub fn next(&self) -> Option<u32> {
        let next = u32::try_from(self.rounds.len()).unwrap_or(u32::MAX).saturating_add(1);
        (next <= self.definition.rounds).then_some(next)
    }
}

impl Resumable for Campaign {
    const FILE: &'static str = "chaos.json";
    const FORMAT: u32 = 1;
    type Definition = Definition;

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn is_finished(&self) -> bool {
        self.next().is_none()
    }
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
        std::fs::create_dir(&folder).unwrap();
        let mut campaign = Campaign::new(definition(1));
        campaign.rounds.push(round(1));
        campaign.write(&folder).unwrap();
        assert_eq!(Campaign::unfinished(out.path(), &definition(1)), Some(folder.clone()));
        assert_eq!(Campaign::unfinished(out.path(), &definition(2)), None);
        let mut read = Campaign::read(&folder).unwrap();
        assert_eq!((&read, read.next()), (&campaign, Some(2)));
        read.rounds.push(round(2));
        read.write(&folder).unwrap();
        assert_eq!(read.next(), None);
        assert_eq!(Campaign::unfinished(out.path(), &definition(1)), None);
    }
}

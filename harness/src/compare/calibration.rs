//! How far runs of one and the same build lie apart on a machine: what an A/A comparison found,
//! kept as a file beside the runs, by the circumstances under which it holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metric::Metric;
use super::statistics::{ALPHA, student};
use super::verdict::{Comparison, Verdict};

/// Version of the file that this build writes and reads.
pub const CALIBRATION_FORMAT: u32 = 1;

/// What an A/A comparison found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// [`CALIBRATION_FORMAT`] of the writer.
    pub format: u32,
    /// See [`super::circumstances`].
    pub circumstances: String,
    /// Folder of the comparison.
    pub folder: String,
    /// How many blocks.
    pub blocks: usize,
    /// Metrics that it took for different although nothing was.
    pub alarms: Vec<String>,
    /// By metric.
    pub spreads: Vec<Spread>,
}

/// How far apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Of what.
    pub metric: Metric,
    /// Root of the mean square difference of two runs: of logarithms, or in the unit.
    pub pair: f64,
    /// Over how many pairs of runs.
    pub pairs: usize,
    /// The smallest effect that so many blocks see in four of five cases; `None` of a single one.
    pub detectable: Option<f64>,
}

impl Spread {
    /// Differences of two single runs that chance alone exceeds in 5 % of cases.
    #[must_use]
    pub fn usual(&self) -> f64 {
        student(self.pairs, 1.0 - ALPHA / 2.0) * self.pair
    }
}

impl Calibration {
    /// What is said in place of what is usual when alarms were raised.
    #[must_use]
    pub fn alarm(&self) -> String {
        let (blocks, folder, alarms) = (self.blocks, &self.folder, self.alarms.join(", "));
        format!(
            "an A/A of {blocks} blocks in {folder} took {alarms} for different although nothing \
             was: nothing is called usual until one finds nothing"
        )
    }

    /// From an A/A comparison of two pairs of runs a block.
    #[must_use]
    pub fn of(comparison: &Comparison, circumstances: String, folder: String) -> Self {
        let alarms = comparison.rows.iter().filter(|row| {
            let verdict = row.finding.as_ref().map(|found| found.verdict);
            matches!(verdict, Some(Verdict::Better | Verdict::Worse))
        });
        let spread = |row: &super::Row| {
            Some(Spread {
                metric: row.wanted.metric.clone(),
                pair: row.pair_spread?,
                pairs: row.effect?.blocks * 2,
                detectable: row.detectable,
            })
        };
        Self {
            format: CALIBRATION_FORMAT,
            circumstances,
            folder,
            blocks: comparison.blocks,
            alarms: alarms.map(|row| row.wanted.metric.to_string()).collect(),
            spreads: comparison.rows.iter().filter_map(spread).collect(),
        }
    }

    /// Writes it into a folder; the one before of the same circumstances is replaced.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = folder.join(file(&self.circumstances));
        let text = serde_json::to_string_pretty(self)?;
        let fresh = folder.join(format!(".{}", file(&self.circumstances)));
        fs::write(&fresh, text + "\n").and_then(|()| fs::rename(&fresh, &path))?;
        Ok(path)
    }

    /// Reads that of these circumstances from a folder; `None` if there is none. What another
    /// version wrote is none.
    ///
    /// # Errors
    /// When it is there and cannot be understood.
    pub fn read(folder: &Path, circumstances: &str) -> io::Result<Option<Self>> {
        let path = folder.join(file(circumstances));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let broken = |error| io::Error::other(format!("{}: {error}", path.display()));
        let value: serde_json::Value = serde_json::from_str(&text).map_err(broken)?;
        if value.get("format").and_then(serde_json::Value::as_u64)
            != Some(u64::from(CALIBRATION_FORMAT))
        {
            return Ok(None);
        }
        serde_json::from_value(value).map(Some).map_err(broken)
    }

    /// The spread of a metric.
    #[must_use]
    pub fn spread(&self, metric: &Metric) -> Option<&Spread> {
        self.spreads.iter().find(|spread| spread.metric == *metric)
    }
}

fn file(circumstances: &str) -> String {
    format!("calibration-{circumstances}.json")
}

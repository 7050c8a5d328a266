//! Two builds, or two settings, run in turns: what is compared, which run comes next, which are
//! done. The file `ab.json` in its folder names every run, so that one that was killed goes on
//! where it was. May not run anything, nor compare.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::compare::{self, Block, CompareError, Run};
use crate::resume::Resumable;

/// Attempts at a run that the harness fails to do, or whose figures the host spoils.
const TRIES: usize = 3;
/// Runs of a block.
pub const RUNS: usize = 4;

/// One of the two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// The one that it is compared with.
    A,
    /// The one that something is said of.
    B,
}

/// What a side runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// The server's program, or its image, as it was named.
    pub program: String,
    /// SHA-256 of the programs, or of the images, by name.
    pub programs: Vec<(String, String)>,
    /// `path=value` of what this side alone has.
    pub set: Vec<String>,
}

/// What is compared: two with the same definition are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Name of the workload.
    pub name: String,
    /// Version of the program that began it.
    pub harness: String,
    /// That of the first pair of runs; each pair has the next one.
    pub seed: u64,
    /// How many blocks.
    pub blocks: u32,
    /// The stage of all runs.
    pub stage: String,
    /// Options and values that say where and with which programs it runs.
    pub options: Vec<(String, String)>,
    /// What it is compared with.
    pub a: Arm,
    /// What something is said of.
    pub b: Arm,
    /// SHA-256 of all plans.
    pub plans: String,
}

impl Definition {
    /// True if both sides are the same: then every difference is chance.
    #[must_use]
    pub fn is_calibration(&self) -> bool {
        (&self.a.programs, &self.a.set) == (&self.b.programs, &self.b.set)
    }
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Which one.
    pub turn: Turn,
    /// Its folder, beside `ab.json`.
    pub folder: String,
    /// What keeps its figures out of the comparison; empty for a good run.
    pub remark: String,
    /// True if a checker found what was not expected.
    pub violated: bool,
    /// True if another moment may give good figures: the host withheld CPU time.
    pub spoilt: bool,
    /// True if the harness failed, so that the run says nothing about the servers.
    pub failed: bool,
}

/// A run in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Which block, from 0.
    pub block: u32,
    /// Which pair of the block, from 0: both of its runs have one seed.
    pub pair: u32,
    /// Which of the pair.
    pub side: Side,
}

impl Turn {
    /// Which pair of all, from 0: what is added to the seed.
    #[must_use]
    pub fn seed_offset(self) -> u32 {
        self.block * 2 + self.pair
    }
}

/// Every run in order: A B B A, then B A A B, and so on. What drifts evenly over a block meets both
/// sides alike, and neither side is always the first.
#[must_use]
pub fn turns(blocks: u32) -> Vec<Turn> {
    let block = |block: u32| {
        let (first, second) =
            if block.is_multiple_of(2) { (Side::A, Side::B) } else { (Side::B, Side::A) };
        let order = [(0, first), (0, second), (1, second), (1, first)];
        order.map(|(pair, side)| Turn { block, pair, side })
    };
    (0..blocks).flat_map(block).collect()
}

/// What is compared and which of the runs are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ab {
    /// Version of the file.
    format: u32,
    /// True once no run is wanted any more.
    pub finished: bool,
    /// What it is.
    pub definition: Definition,
    /// In the order in which they ended.
    pub runs: Vec<Done>,
}

impl Resumable for Ab {
    const FILE: &'static str = "ab.json";
    const FORMAT: u32 = 1;
    type Definition = Definition;

    fn definition(&self) -> &Definition {
        &self.definition
    }

    fn is_finished(&self) -> bool {
        self.finished
    }
}

impl Ab {
    /// A comparison of which nothing has been run.
    #[must_use]
    pub fn new(definition: Definition) -> Self {
        Self { format: Self::FORMAT, finished: false, definition, runs: Vec::new() }
    }

    /// True if the run is not done, and was not attempted often enough. Where the figures of a
    /// block cannot be used any more, its other runs are not wanted.
    #[must_use]
    pub fn is_wanted(&self, turn: Turn) -> bool {
        let of = |other: Turn| self.runs.iter().filter(move |run| run.turn == other);
        let is_lost = |other: Turn| {
            let another = |run: &Done| run.spoilt || run.failed;
            of(other).any(|run| !run.remark.is_empty() && !another(run))
                || (of(other).count() >= TRIES && of(other).all(|run| !run.remark.is_empty()))
        };
        let in_block = self.runs.iter().map(|run| run.turn).filter(|of| of.block == turn.block);
        let is_done = of(turn).any(|run| run.remark.is_empty());
        !is_done && !in_block.into_iter().any(is_lost)
    }

    /// True of a run that the harness failed to do and that another attempt did.
    #[must_use]
    pub fn is_made_good(&self, failed: &Done) -> bool {
        let of = |run: &&Done| run.turn == failed.turn && !run.failed;
        self.runs.iter().find(of).is_some()
    }

    /// The runs of the blocks all of whose runs are good.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn blocks(&self, folder: &Path) -> Result<Vec<[Vec<Run>; 2]>, CompareError> {
        let mut blocks = Vec::new();
        for block in 0..self.definition.blocks {
            let side = |side: Side| {
                let of = |run: &&Done| run.turn.block == block && run.turn.side == side;
                let mut good: Vec<&Done> =
                    self.runs.iter().filter(of).filter(|run| run.remark.is_empty()).collect();
                good.sort_by_key(|run| run.turn.pair);
                good
            };
            let (a, b) = (side(Side::A), side(Side::B));
            if a.len() + b.len() < RUNS {
                continue;
            }
            let read = |runs: Vec<&Done>| -> Result<Vec<Run>, CompareError> {
                runs.into_iter().map(|run| compare::run(&folder.join(&run.folder))).collect()
            };
            blocks.push([read(a)?, read(b)?]);
        }
        Ok(blocks)
    }
}

/// The figures of blocks of runs.
#[must_use]
pub fn figures(blocks: &[[Vec<Run>; 2]]) -> Vec<Block> {
    let of = |runs: &[Run]| runs.iter().map(|run| run.figures.clone()).collect();
    blocks.iter().map(|[a, b]| Block { a: of(a), b: of(b) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ab(blocks: u32) -> Ab {
        let arm = Arm {
            program: "node".to_owned(),
            programs: vec![("node".to_owned(), "1".to_owned())],
            set: Vec::new(),
        };
        Ab::new(Definition {
            name: "x".to_owned(),
            harness: "test".to_owned(),
            seed: 1,
            blocks,
            stage: "sim".to_owned(),
            options: Vec::new(),
            a: arm.clone(),
            b: arm,
            plans: String::new(),
        })
    }

    fn done(turn: Turn) -> Done {
        Done {
            turn,
            folder: "run".to_owned(),
            remark: String::new(),
            violated: false,
            spoilt: false,
            failed: false,
        }
    }

    /// FEATURES: H9
    #[test]
    fn sides_take_turns_and_pairs_share_seeds() {
        let turns = turns(2);
        let order: String = turns.iter().map(|turn| format!("{:?}", turn.side)).collect();
        assert_eq!(order, "ABBABAAB");
        for pair in turns.chunks(2) {
            assert_eq!(pair[0].seed_offset(), pair[1].seed_offset());
            assert_ne!(pair[0].side, pair[1].side);
        }
        let offsets: Vec<u32> = turns.iter().step_by(2).map(|turn| turn.seed_offset()).collect();
        assert_eq!(offsets, [0, 1, 2, 3]);
    }

    /// FEATURES: H9
    #[test]
    fn a_run_is_tried_again_where_that_may_help_and_its_block_given_up_where_not() {
        let mut ab = ab(2);
        let turns = turns(2);
        assert!(turns.iter().all(|turn| ab.is_wanted(*turn)));
        let late = Done { remark: "late".to_owned(), spoilt: true, ..done(turns[0]) };
        ab.runs.push(late.clone());
        assert!(ab.is_wanted(turns[0]), "another moment may be better");
        ab.runs.push(done(turns[0]));
        assert!(!ab.is_wanted(turns[0]) && ab.is_wanted(turns[1]));
        ab.runs = vec![late; TRIES];
        assert!(!ab.is_wanted(turns[0]) && !ab.is_wanted(turns[1]), "often enough");
        assert!(ab.is_wanted(turns[4]), "the next block");
        let unsound = Done { remark: "saturated".to_owned(), ..done(turns[5]) };
        ab.runs.push(unsound);
        assert!(!ab.is_wanted(turns[4]) && !ab.is_wanted(turns[7]));
        let failed = Done { remark: "no disk".to_owned(), failed: true, ..done(turns[1]) };
        assert!(!ab.is_made_good(&failed));
        ab.runs.push(done(turns[1]));
        assert!(ab.is_made_good(&failed));
    }

    #[test]
    fn equal_programs_and_settings_are_a_calibration() {
        let mut definition = ab(1).definition;
        assert!(definition.is_calibration());
        definition.a.program = "elsewhere/node".to_owned();
        assert!(definition.is_calibration(), "the same program at another place");
        definition.b.set = vec!["load.rate=5".to_owned()];
        assert!(!definition.is_calibration());
    }
}

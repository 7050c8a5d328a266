//! Made-up runs to compare: copies of one whose operations take longer by a known factor, alone or
//! as the blocks of an A/B.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2Serializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use quorate::ab::{Ab, Arm, Definition, Done, turns};
use quorate::folder::RunFolder;
use quorate::report;
use quorate::resume::Resumable as _;
use quorate_check::history::{Outcome, Phase};
use tempfile::TempDir;

use crate::report_support::Synthetic;

/// A run with its report, drawn once: that is what takes long.
fn made() -> &'static RunFolder {
    static MADE: OnceLock<(TempDir, RunFolder)> = OnceLock::new();
    let (_, folder) = MADE.get_or_init(|| {
        let place = tempfile::tempdir().unwrap();
        let made = Synthetic { rate: 200, seconds: 10, tail: true, ..Synthetic::default() };
        let folder = made.write(&place.path().join("made"));
        report::write(&folder).unwrap();
        (place, folder)
    });
    folder
}

/// Writes a run whose operations take `slower` times as long as they would.
pub(crate) fn run(root: &Path, slower: f64) {
    fs::create_dir_all(root).unwrap();
    for entry in fs::read_dir(made().root()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), root.join(entry.file_name())).unwrap();
        }
    }
    write_intervals(&RunFolder::new(root), slower);
}

/// The log that a driver would have written beside the history.
fn write_intervals(folder: &RunFolder, slower: f64) {
    let history = quorate_check::format::read_path(folder.history()).unwrap().history;
    let mut seconds: BTreeMap<u64, Histogram<u64>> = BTreeMap::new();
    let ok = |op: &&quorate_check::history::Operation| op.outcome == Outcome::Ok;
    for op in history.operations.iter().filter(|op| op.phase == Phase::Measure).filter(ok) {
        let done = op.done.unwrap();
        let empty = || Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        let micros = (done - op.intended) as f64 / 1e3 * slower;
        seconds.entry(done / 1_000_000_000).or_insert_with(empty).record(micros as u64).unwrap();
    }
    let mut file = File::create(folder.intervals()).unwrap();
    let mut serializer = V2Serializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .with_start_time(SystemTime::UNIX_EPOCH)
        .begin_log_with(&mut file, &mut serializer)
        .unwrap();
    for (second, histogram) in seconds {
        let (from, length) = (Duration::from_secs(second), Duration::from_secs(1));
        log.write_histogram(&histogram, from, length, Tag::new("update.ok")).unwrap();
    }
}

/// Blocks of `quorate ab` in which B takes `slower` times as long.
pub(crate) fn blocks(root: &Path, slower: f64, finished: bool) {
    let arm = |hash: &str| Arm {
        program: "quorate-node".to_owned(),
        programs: vec![("node".to_owned(), hash.to_owned())],
        set: Vec::new(),
    };
    let mut ab = Ab::new(Definition {
        name: "made-up".to_owned(),
        harness: "test".to_owned(),
        seed: 7,
        blocks: 3,
        stage: "process".to_owned(),
        options: Vec::new(),
        a: arm("one"),
        b: arm("two"),
        plans: String::new(),
    });
    for (at, turn) in turns(3).into_iter().enumerate() {
        let folder = format!("run-{at}");
        // Runs lie a little apart, those of one block less.
        let moment = 1.0 + 0.01 * f64::from(turn.block) + 0.002 * f64::from(turn.pair);
        let is_b = turn.side == quorate::ab::Side::B;
        run(&root.join(&folder), moment * if is_b { slower } else { 1.0 });
        ab.runs.push(Done {
            turn,
            folder,
            remark: String::new(),
            violated: false,
            spoilt: false,
            failed: false,
        });
    }
    ab.finished = finished;
    ab.write(root).unwrap();
}

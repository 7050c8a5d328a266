//! Interval logs in the public text format, version 1.3. Many readers of it know no tags and pass
//! over lines that have one, so every class and outcome has a file of its own.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

use super::{ExportError, Interval, broken};

/// What a value of the column of maxima counts in the histogram, as other writers do: milliseconds
/// of microseconds.
const MICROS_PER_MILLI: f64 = 1e3;

/// Histograms of one log by begin and length, in nanoseconds.
type Log = BTreeMap<(u64, u64), Histogram<u64>>;

/// Name and text of each log.
pub(super) fn logs(intervals: &[Interval]) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
    let mut logs: BTreeMap<String, Log> = BTreeMap::new();
    for of in intervals {
        let at = [of.from_s, of.length_s].map(|seconds| (seconds * 1e9).round() as u64);
        for class in [of.class.as_str(), "all"] {
            let log = logs.entry(format!("{class}.{}.hlog", of.outcome)).or_default();
            let into =
                log.entry((at[0], at[1])).or_insert_with(|| Histogram::new_from(&of.response));
            into.add(&of.response).map_err(|error| broken(error.to_string()))?;
        }
    }
    let text = |(name, log): (String, Log)| text(&log).map(|text| (name, text));
    logs.into_iter().map(text).collect()
}

fn text(log: &Log) -> Result<Vec<u8>, ExportError> {
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let failed = |error: std::io::Error| broken(error.to_string());
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("response times in microseconds from the intended start, measure phase only")
        .add_comment("seconds are those of the run's own clock")
        .with_base_time(SystemTime::UNIX_EPOCH)
        .with_max_value_divisor(MICROS_PER_MILLI)
        .begin_log_with(&mut text, &mut serializer)
        .map_err(failed)?;
    for ((from, length), histogram) in log {
        let (from, length) = (Duration::from_nanos(*from), Duration::from_nanos(*length));
        writer
            .write_histogram(histogram, from, length, None)
            .map_err(|error| broken(error.to_string()))?;
    }
    Ok(text)
}

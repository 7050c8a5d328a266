//! Round trips through a delayed entry, and whether they are spread as they were asked to be:
//! quantiles side by side, and the distance of the two distributions. May not set delays.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout_at;

use super::extension::Delay;
use crate::plan::DelayDistribution;

/// A variation from here on is looked for in what was measured; less is not told from that of a
/// busy machine.
const SPREAD_MIN_US: u64 = 1_000;
/// Connections at once: a second is short for round trips of a long delay.
const AT_ONCE: usize = 24;
/// Round trips on each.
const EACH: usize = 10;
/// Fewer say nothing about a distribution.
const FEWEST: usize = 20;
/// Round trips of nothing but the delays asked for, to compare with.
const ASKED: usize = 4_096;
/// Of the distance that is exceeded once in a hundred times by chance (Kolmogorov and Smirnov).
const ONE_PERCENT: f64 = 1.63;
/// What the machine may add to it: it is late now and then, and never early.
const MACHINE: f64 = 0.15;

/// What was measured.
#[derive(Debug)]
pub(crate) struct Trips {
    /// Whether they show the delay.
    pub(crate) as_asked: bool,
    /// Measured against asked, for people.
    pub(crate) told: String,
}

/// Round trips to the echo at `address` through an entry under this delay; `None` if too few ended
/// before the deadline, or if they were shorter than any can be.
pub(crate) async fn of_delay(
    address: SocketAddr,
    delay: Delay,
    deadline: Instant,
) -> io::Result<Option<Trips>> {
    let Delay { latency_us, jitter_us, distribution } = delay;
    let asked = distribution.round_trips(latency_us, jitter_us, ASKED);
    let varies = jitter_us >= SPREAD_MIN_US;
    let (connections, each) = if varies { (AT_ONCE, EACH) } else { (1, 5) };
    // None is begun that may not end: those that do would be the short ones.
    let longest = Duration::from_secs_f64(quantile(&asked, 0.999) / 1e6);
    let begin_until = deadline.checked_sub(longest).unwrap_or(deadline);
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(on_one(address, each, begin_until, deadline));
    }
    let mut took = Vec::new();
    for of_one in tasks.join_all().await {
        took.extend(of_one?);
    }
    let mut micros: Vec<f64> = took.iter().map(|took| took.as_secs_f64() * 1e6).collect();
    micros.sort_unstable_by(f64::total_cmp);
    let least = least(delay);
    if micros.is_empty() || quantile(&micros, 0.5) < least {
        return Ok(None);
    }
    if varies && micros.len() >= FEWEST {
        return Ok(Some(compare(&asked, &micros)));
    }
    let median = quantile(&micros, 0.5) / 1e3;
    let told = format!(
        "{} round trips under the same rule, median {median:.2} ms, asked {:.2} ms at least",
        micros.len(),
        least / 1e3
    );
    Ok(Some(Trips { as_asked: true, told }))
}

/// What the median of round trips is never below, in microseconds.
fn least(delay: Delay) -> f64 {
    let below = match delay.distribution {
        DelayDistribution::Uniform | DelayDistribution::Normal => delay.jitter_us,
        DelayDistribution::Pareto => 0,
    };
    2.0 * Duration::from_micros(delay.latency_us.saturating_sub(below)).as_secs_f64() * 1e6
}

/// One round trip after the other on a connection; the first is begun however late it is.
async fn on_one(
    address: SocketAddr,
    most: usize,
    begin_until: Instant,
    deadline: Instant,
) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    while times.len() < most && (times.is_empty() || Instant::now() < begin_until) {
        let begun = Instant::now();
        let round = async {
            stream.write_all(b"?").await?;
            stream.read_exact(&mut [0]).await
        };
        match timeout_at(deadline.into(), round).await {
            Ok(result) => drop(result?),
            Err(_) => break,
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Holds what was measured against what was asked; both ascending, in microseconds.
fn compare(asked: &[f64], measured: &[f64]) -> Trips {
    // What the machine adds to every one is no matter of the shape.
    let added = (quantile(measured, 0.5) - quantile(asked, 0.5)).max(0.0);
    let shifted: Vec<f64> = measured.iter().map(|took| took - added).collect();
    let found = distance(asked, &shifted);
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let (n, m) = (asked.len() as f64, measured.len() as f64);
    let most = ONE_PERCENT * ((n + m) / (n * m)).sqrt() + MACHINE;
    let drowned = added > (quantile(asked, 0.75) - quantile(asked, 0.25)) / 2.0;
    let quantiles = [("p10", 0.1), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99)].map(|(name, q)| {
        let (took, wanted) = (quantile(measured, q) / 1e3, quantile(asked, q) / 1e3);
        format!("{name} {took:.2} ms (asked {wanted:.2})")
    });
    let told = format!(
        "{} round trips under the same rule: {}; KS distance {found:.3} of {most:.3} at most, less \
         {:.2} ms that the machine added{}",
        measured.len(),
        quantiles.join(", "),
        added / 1e3,
        if drowned { ", too much of it to tell the spread" } else { "" }
    );
    Trips { as_asked: drowned || found <= most, told }
}

/// The largest difference of the two empirical distributions.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a few thousand")]
    let share = |of: &[f64], up_to: f64| {
        of.partition_point(|value| *value <= up_to) as f64 / of.len().max(1) as f64
    };
    let gaps = a.iter().chain(b).map(|at| (share(a, *at) - share(b, *at)).abs());
    gaps.fold(0.0, f64::max)
}

/// The value below which a share of them lie; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a few thousand"
    )]
    let index = (sorted.len() as f64 * share) as usize;
    sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every so many of them, each later by so many microseconds.
    fn measured(distribution: DelayDistribution, jitter_us: u64, late: f64) -> Vec<f64> {
        let trips = distribution.round_trips(20_000, jitter_us, 20_000);
        trips.iter().step_by(100).map(|took| took + late).collect()
    }

    #[test]
    fn a_distribution_is_known_again_although_the_machine_is_late() {
        for distribution in
            [DelayDistribution::Uniform, DelayDistribution::Normal, DelayDistribution::Pareto]
        {
            let asked = distribution.round_trips(20_000, 5_000, ASKED);
            let trips = compare(&asked, &measured(distribution, 5_000, 900.0));
            assert!(trips.as_asked, "{}", trips.told);
            let told = trips.told.contains("KS distance 0.0") && trips.told.contains("p99");
            assert!(told, "{}", trips.told);
        }
    }

    #[test]
    fn another_spread_is_not_taken_for_it() {
        let asked = DelayDistribution::Pareto.round_trips(20_000, 5_000, ASKED);
        for (distribution, jitter_us) in [
            (DelayDistribution::Pareto, 500),
            (DelayDistribution::Normal, 15_000),
            (DelayDistribution::Uniform, 1),
        ] {
            let trips = compare(&asked, &measured(distribution, jitter_us, 0.0));
            assert!(!trips.as_asked, "{distribution:?} {jitter_us}: {}", trips.told);
        }
    }

    #[test]
    fn a_machine_later_than_the_spread_is_wide_tells_of_the_delay_alone() {
        let asked = DelayDistribution::Normal.round_trips(20_000, 1_000, ASKED);
        let trips = compare(&asked, &measured(DelayDistribution::Normal, 6_000, 3_000.0));
        assert!(trips.as_asked && trips.told.contains("too much"), "{}", trips.told);
    }

    #[test]
    fn distances_are_of_the_distributions() {
        assert!(distance(&[1.0, 2.0], &[1.0, 2.0]).abs() < 1e-9);
        assert!((distance(&[1.0, 2.0], &[3.0, 4.0]) - 1.0).abs() < 1e-9);
        assert!((distance(&[1.0, 3.0], &[2.0, 4.0]) - 0.5).abs() < 1e-9);
    }
}

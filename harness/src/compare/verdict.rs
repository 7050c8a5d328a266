//! What blocks of runs say about each metric of a gate: better, worse, the same within a margin,
//! or that they cannot tell. A run is the unit; the two sides of a block share seeds and moment, so
//! that each block gives one effect. May not read files.

use serde::{Deserialize, Serialize};

use super::bootstrap::{self, Merged, Pair};
use super::metric::{Kind, Metric, Scale};
use super::read::Figures;
use super::statistics::{ALPHA, Effect, holm, median};
use super::survival::{self, Curve, Wait, log_rank};

/// Fewer blocks than this say nothing, whatever is in them.
pub const BLOCKS_MIN: usize = 3;

/// Runs of both sides that belong together.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Runs of A, in the order of their seeds.
    pub a: Vec<Figures>,
    /// Runs of B, with the same seeds.
    pub b: Vec<Figures>,
}

/// A metric of a gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Which.
    pub metric: Metric,
    /// Within which a difference is none: a share of a ratio, else in the metric's unit.
    pub margin: f64,
    /// True where more is better.
    pub is_more_better: bool,
}

impl From<Metric> for Wanted {
    fn from(metric: Metric) -> Self {
        let (margin, is_more_better) = (metric.kind.margin(), metric.kind.is_more_better());
        Self { metric, margin, is_more_better }
    }
}

/// The gate where nobody names one. Few metrics, or chance alone would find something.
#[must_use]
pub fn usual() -> Vec<Wanted> {
    let kinds = [Kind::Throughput, Kind::P50, Kind::P99, Kind::Refused, Kind::Unavailable];
    kinds.into_iter().chain([Kind::Recovery]).map(|kind| Metric::from(kind).into()).collect()
}

/// What is said of B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is better by more than the margin.
    Better,
    /// It is worse by more than the margin.
    Worse,
    /// It differs by less than the margin.
    Same,
    /// The blocks do not say.
    CannotTell,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "same",
            Self::CannotTell => "cannot tell",
        })
    }
}

/// A verdict with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What is said of B.
    pub verdict: Verdict,
    /// How many further blocks would tell, where that is known.
    pub more: Option<usize>,
    /// Why it cannot be told, or what is to be known beside it; may be empty.
    pub remark: String,
}

/// Waits after faults, all blocks together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// Medians of A and B in seconds; `None` where half of them was not seen to end.
    pub medians: (Option<f64>, Option<f64>),
    /// How many waits, and how many of them were not seen to end, of A and of B.
    pub counts: [(usize, usize); 2],
    /// Seconds at which restricted means are cut off.
    pub limit_s: f64,
    /// Probability of such curves if both were of one kind, by the log-rank test. Faults of one run
    /// are taken as independent, which flatters it: the verdict rests on blocks.
    pub log_rank: Option<f64>,
}

/// What blocks say of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Which, and within which margin.
    pub wanted: Wanted,
    /// Medians over the runs of A and of B, in the metric's unit.
    pub medians: (Option<f64>, Option<f64>),
    /// Effects of the blocks, logarithms of ratios or differences; `None` without any.
    pub effect: Option<Effect>,
    /// For quantiles: the ratio of those of merged histograms.
    pub merged: Option<Merged>,
    /// For recovery.
    pub waits: Option<Waits>,
    /// The smallest effect that so many blocks see in four of five cases.
    pub detectable: Option<f64>,
    /// Root of the mean square of the differences within pairs of runs of one seed.
    pub pair_spread: Option<f64>,
    /// `None` of a metric that is no part of the gate.
    pub finding: Option<Finding>,
}

/// What blocks say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// How many blocks.
    pub blocks: usize,
    /// The gate's metrics first, then all others that the runs have.
    pub rows: Vec<Row>,
    /// Worse if any metric of the gate is; else undecided if any is; else better if any is.
    pub overall: Verdict,
}

/// Compares B with A over `blocks`. `seed` is that of what is drawn again. A metric of the `gate`
/// that no run has is left out if `is_optional`.
#[must_use]
pub fn compare(blocks: &[Block], gate: &[Wanted], is_optional: bool, seed: u64) -> Comparison {
    let runs = || blocks.iter().flat_map(|block| block.a.iter().chain(&block.b));
    let has = |metric: &Metric| {
        let waits = |run: &Figures| metric.kind == Kind::Recovery && !run.recoveries.is_empty();
        runs().any(|run| waits(run) || run.values.contains_key(metric))
    };
    let wanted = gate.iter().filter(|wanted| !is_optional || has(&wanted.metric));
    let mut rows: Vec<Row> = wanted.map(|wanted| row(blocks, wanted.clone(), seed)).collect();
    judge(&mut rows, blocks);
    let mut others: Vec<Metric> = runs().flat_map(|run| run.values.keys().cloned()).collect();
    others.extend(runs().filter(|run| !run.recoveries.is_empty()).map(|_| Kind::Recovery.into()));
    others.sort();
    others.dedup();
    others.retain(|metric| gate.iter().all(|wanted| wanted.metric != *metric));
    let overall = overall(&rows);
    rows.extend(others.into_iter().map(|metric| row(blocks, metric.into(), seed)));
    Comparison { blocks: blocks.len(), rows, overall }
}

fn overall(rows: &[Row]) -> Verdict {
    let any = |verdict| {
        rows.iter().filter_map(|row| row.finding.as_ref()).any(|found| found.verdict == verdict)
    };
    if any(Verdict::Worse) {
        Verdict::Worse
    } else if any(Verdict::CannotTell) || rows.is_empty() {
        Verdict::CannotTell
    } else if any(Verdict::Better) {
        Verdict::Better
    } else {
        Verdict::Same
    }
}

/// Effects and figures of a metric, not judged.
fn row(blocks: &[Block], wanted: Wanted, seed: u64) -> Row {
    let metric = &wanted.metric;
    let scale = metric.kind.scale();
    let (effects, waits) = if metric.kind == Kind::Recovery {
        recoveries(blocks)
    } else {
        (blocks.iter().filter_map(|block| effect(block, metric, scale)).collect(), None)
    };
    let medians = match &waits {
        Some(waits) => waits.medians,
        None => {
            (middle(blocks, |block| &block.a, metric), middle(blocks, |block| &block.b, metric))
        }
    };
    let effect = Effect::of(&effects);
    Row {
        medians,
        merged: metric.kind.quantile().and_then(|q| merged(blocks, metric, q, seed)),
        waits,
        detectable: effect.and_then(|effect| effect.detectable()),
        pair_spread: pair_spread(blocks, metric, scale),
        effect,
        finding: None,
        wanted,
    }
}

/// The places of a metric of runs on its scale; `None` where one of them has none.
fn places(runs: &[Figures], metric: &Metric, scale: Scale) -> Option<Vec<f64>> {
    let of = |run: &Figures| scale.place(run.values.get(metric)?.value);
    runs.iter().map(of).collect::<Option<Vec<_>>>().filter(|places| !places.is_empty())
}

/// The effect of a block: the mean of B's runs less that of A's.
fn effect(block: &Block, metric: &Metric, scale: Scale) -> Option<f64> {
    let mean = |runs| {
        let places = places(runs, metric, scale)?;
        Some(places.iter().sum::<f64>() / places.len() as f64)
    };
    Some(mean(&block.b)? - mean(&block.a)?)
}

fn pair_spread(blocks: &[Block], metric: &Metric, scale: Scale) -> Option<f64> {
    let of = |block: &Block| {
        let (a, b) = (places(&block.a, metric, scale)?, places(&block.b, metric, scale)?);
        Some(a.into_iter().zip(b).map(|(a, b)| (b - a).powi(2)).collect::<Vec<_>>())
    };
    let squares: Vec<f64> = blocks.iter().filter_map(of).flatten().collect();
    let pairs = squares.len();
    (pairs > 0).then(|| (squares.into_iter().sum::<f64>() / pairs as f64).sqrt())
}

fn middle(blocks: &[Block], side: fn(&Block) -> &Vec<Figures>, metric: &Metric) -> Option<f64> {
    let runs = blocks.iter().flat_map(side);
    median(runs.filter_map(|run| Some(run.values.get(metric)?.value)).collect())
}

fn merged(blocks: &[Block], metric: &Metric, q: f64, seed: u64) -> Option<Merged> {
    let of = |runs: &[Figures]| -> Option<Vec<_>> {
        runs.iter().map(|run| run.latencies.get(&metric.class).cloned()).collect()
    };
    let pair = |block: &Block| Some(Pair { a: of(&block.a)?, b: of(&block.b)? });
    let pairs: Option<Vec<Pair>> = blocks.iter().map(pair).collect();
    bootstrap::ratio(&pairs?, q, seed)
}

/// Differences of restricted means, one a block, and all waits together.
fn recoveries(blocks: &[Block]) -> (Vec<f64>, Option<Waits>) {
    let of = |runs: &[Figures]| -> Vec<Wait> {
        runs.iter().flat_map(|run| run.recoveries.iter().copied()).collect()
    };
    let sides: Vec<(Vec<Wait>, Vec<Wait>)> =
        blocks.iter().map(|block| (of(&block.a), of(&block.b))).collect();
    let limit_s = survival::limit(sides.iter().flat_map(|(a, b)| [a.as_slice(), b.as_slice()]));
    let both = sides.iter().filter(|(a, b)| !a.is_empty() && !b.is_empty());
    let mean = |waits: &[Wait]| Curve::of(waits).mean_until(limit_s);
    let effects = both.map(|(a, b)| mean(b) - mean(a)).collect();
    let a: Vec<Wait> = sides.iter().flat_map(|(a, _)| a.iter().copied()).collect();
    let b: Vec<Wait> = sides.iter().flat_map(|(_, b)| b.iter().copied()).collect();
    let count = |of: &[Wait]| (of.len(), of.iter().filter(|wait| wait.censored).count());
    let waits = (!a.is_empty() || !b.is_empty()).then(|| Waits {
        medians: (Curve::of(&a).median(), Curve::of(&b).median()),
        counts: [count(&a), count(&b)],
        limit_s,
        log_rank: log_rank(&a, &b),
    });
    (effects, waits)
}

/// Two claims about a metric, as chances of being wrong.
struct Claims {
    /// That it is beyond the margin, on the side where it is.
    beyond: f64,
    /// That it is within.
    within: f64,
    /// True if that side is the bad one.
    is_bad: bool,
}

/// Judges the rows of a gate. Each claim's chances are corrected over all rows: those that
/// something differs, and those that it does not.
fn judge(rows: &mut [Row], blocks: &[Block]) {
    let claims: Vec<Claims> = rows.iter().map(claims).collect();
    let beyond = holm(&claims.iter().map(|of| of.beyond).collect::<Vec<_>>());
    let within = holm(&claims.iter().map(|of| of.within).collect::<Vec<_>>());
    for (at, row) in rows.iter_mut().enumerate() {
        let is_bad = claims[at].is_bad;
        let verdict = match (beyond[at] < ALPHA, within[at] < ALPHA) {
            (true, _) if is_bad => Verdict::Worse,
            (true, _) => Verdict::Better,
            (false, true) => Verdict::Same,
            (false, false) => Verdict::CannotTell,
        };
        row.finding = Some(finding(row, verdict, blocks));
    }
}

fn claims(row: &Row) -> Claims {
    let Some(effect) = row.effect.filter(|effect| effect.blocks >= BLOCKS_MIN) else {
        return Claims { beyond: 1.0, within: 1.0, is_bad: false };
    };
    let margin = row.wanted.metric.kind.scale().margin(row.wanted.margin);
    let (high, low) = (effect.chance_above(margin), effect.chance_below(-margin));
    // Both sides are looked at: the interval of 95 % and these claims say the same.
    let outside = effect.chance_below(margin).max(effect.chance_above(-margin));
    Claims {
        beyond: (2.0 * high.min(low)).min(1.0),
        within: (2.0 * outside).min(1.0),
        is_bad: (high < low) != row.wanted.is_more_better,
    }
}

/// The verdict as far as it holds where figures are lower bounds.
fn finding(row: &Row, verdict: Verdict, blocks: &[Block]) -> Finding {
    let cannot = |more, remark: &str| Finding {
        verdict: Verdict::CannotTell,
        more,
        remark: remark.to_owned(),
    };
    let Some(effect) = row.effect else {
        return cannot(None, "no block has a figure on both sides");
    };
    if effect.blocks < BLOCKS_MIN {
        return cannot(Some(BLOCKS_MIN - effect.blocks), "too few blocks");
    }
    let bounded = |side: fn(&Block) -> &Vec<Figures>| {
        let of = |run: &Figures| run.values.get(&row.wanted.metric).is_some_and(|of| of.at_least);
        blocks.iter().flat_map(side).any(of)
    };
    let (a, b) = (bounded(|block| &block.a), bounded(|block| &block.b));
    // What is at least this much can only be more: that leaves one claim standing, if any.
    let holds = match verdict {
        Verdict::Worse => !a,
        Verdict::Better => !b,
        Verdict::Same => !a && !b,
        Verdict::CannotTell => true,
    };
    if !holds {
        return cannot(
            None,
            "figures are lower bounds: clients gave up; a longer time-out would tell",
        );
    }
    let partial = effect.blocks < blocks.len();
    let remark =
        if partial { format!("{} blocks have figures", effect.blocks) } else { String::new() };
    if verdict == Verdict::CannotTell {
        let margin = row.wanted.metric.kind.scale().margin(row.wanted.margin);
        let more = effect.more(margin);
        let near = "the effect is too near to the margin to name a number of blocks";
        return cannot(more, if more.is_none() { near } else { &remark });
    }
    Finding { verdict, more: None, remark }
}

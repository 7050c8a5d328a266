//! Draws the faults of a round: which, when, whom; purely from the seed and the round's number.
//! Never hurts more than a minority at once, nor two things at the same time. What comes out is a
//! scenario as a person would write it.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::plan::{Topology, stream};

/// Before the first fault, and between the heal of one and the next.
const CALM_MS: (u64, u64) = (1_500, 4_000);
/// How long a fault lasts.
const LASTS_MS: (u64, u64) = (1_500, 5_000);
/// The fewest MASTERs of which a minority is anybody.
pub const MASTERS_MIN: usize = 3;
/// The shortest round: the longest calm, the longest fault, and time to recover.
pub const ROUND_MS_MIN: u64 = 15_000;

/// What may be done to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hurt {
    /// Killed and started again.
    Kill,
    /// Stopped in order and started again.
    Restart,
    /// Frozen.
    Pause,
    /// Cut off, in one of the shapes that leave a majority together.
    Partition,
    /// Slow links.
    Latency,
    /// Slow syncs.
    SlowDisk,
    /// No room.
    FullDisk,
    /// Killed, and what was not synced is lost.
    PowerCut,
}

impl Hurt {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::Kill,
        Self::Restart,
        Self::Pause,
        Self::Partition,
        Self::Latency,
        Self::SlowDisk,
        Self::FullDisk,
        Self::PowerCut,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::Latency => "latency",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::PowerCut => "power-cut",
        }
    }

    /// One such fault alone, as a scenario: to ask whether it can be done.
    #[must_use]
    pub fn probe(self, topology: &Topology) -> String {
        let mut rng = stream::rng(0, "chaos/probe");
        let what = self.what(topology, &mut rng);
        scenario("probe", &[format!("{{ {what}, at: 1ms, for: 1500ms }}")])
    }

    /// What it does to whom, as keys and values of a scenario.
    fn what(self, topology: &Topology, rng: &mut ChaCha8Rng) -> String {
        let minority = topology.masters.len().saturating_sub(1) / 2;
        let target = if minority > 1 && below(rng, 2) == 0 { "minority" } else { "one" };
        match self {
            Self::Kill | Self::Restart | Self::Pause => {
                format!("fault: {}, target: {target}", self.word())
            }
            Self::Partition => partition(target, topology, rng),
            Self::Latency => {
                let delay = 5 + below(rng, 96);
                let jitter = below(rng, delay / 2 + 1);
                format!("fault: latency, delay: {delay}ms, jitter: {jitter}ms, target: {target}")
            }
            Self::SlowDisk => {
                let delay = 10 + below(rng, 91);
                format!("fault: disk, disk: slow, delay: {delay}ms, target: {target}")
            }
            Self::FullDisk => format!("fault: disk, disk: full, target: {target}"),
            Self::PowerCut => {
                let survives = ["nothing", "prefix", "sectors"][index(rng, 3)];
                format!("fault: disk, disk: power-cut, survives: {survives}, target: {target}")
            }
        }
    }
}

/// How often each is drawn, against the others.
pub type Weights = BTreeMap<Hurt, u32>;

/// Those where nobody says otherwise.
#[must_use]
pub fn usual_weights() -> Weights {
    // Partitions have many shapes.
    let weight = |hurt| if hurt == Hurt::Partition { 4 } else { 1 };
    Hurt::ALL.into_iter().map(|hurt| (hurt, weight(hurt))).collect()
}

/// Reads weights such as `kill=3,pause=1`: what is not named is never drawn.
///
/// # Errors
/// What is wrong and what is legal.
pub fn weights(text: &str) -> Result<Weights, String> {
    let mut weights = Weights::new();
    for part in text.split(',').map(str::trim) {
        let (word, weight) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` must be name=number, as in kill=3,pause=1"))?;
        let Some(hurt) = Hurt::ALL.into_iter().find(|hurt| hurt.word() == word) else {
            let words = Hurt::ALL.map(Hurt::word).join(", ");
            return Err(format!("there is no `{word}`; legal: {words}"));
        };
        let number = weight.parse().ok().filter(|number| (1..=1_000).contains(number));
        let number = number.ok_or_else(|| format!("`{part}`: legal: a number from 1 to 1000"))?;
        if weights.insert(hurt, number).is_some() {
            return Err(format!("`{word}` is named twice"));
        }
    }
    Ok(weights)
}

/// The seed of a round's run.
#[must_use]
pub fn seed_of(seed: u64, round: u32) -> u64 {
    // Short enough to be typed.
    stream::at(seed, "chaos/seeds", u64::from(round)) & u64::from(u32::MAX)
}

/// The scenario of a round that measures for `measure_ms`, as YAML.
#[must_use]
pub fn round(
    (seed, round): (u64, u32),
    weights: &Weights,
    topology: &Topology,
    measure_ms: u64,
) -> String {
    let mut rng = stream::rng(seed, &format!("chaos/round/{round}"));
    let mut lines = Vec::new();
    let mut at = between(&mut rng, CALM_MS);
    loop {
        let (hurt, lasts) = (pick(&mut rng, weights), between(&mut rng, LASTS_MS));
        // The end stays calm, so that the last fault's recovery is seen.
        if at + lasts + CALM_MS.1 > measure_ms {
            return scenario(&format!("round-{round}"), &lines);
        }
        let (number, word) = (lines.len() + 1, hurt.word());
        let what = hurt.what(topology, &mut rng);
        lines.push(format!("{{ name: f{number}-{word}, {what}, at: {at}ms, for: {lasts}ms }}"));
        at += lasts + between(&mut rng, CALM_MS);
    }
}

fn scenario(name: &str, faults: &[String]) -> String {
    let description = "Faults drawn at random, never more than a minority at once";
    let faults: String = faults.iter().map(|fault| format!("  - {fault}\n")).collect();
    format!("name: {name}\ndescription: {description}\nfaults:\n{faults}")
}

/// One of the shapes in which a majority of the MASTERs still has each other.
fn partition(target: &str, topology: &Topology, rng: &mut ChaCha8Rng) -> String {
    let masters = topology.masters.len();
    let mut shapes = vec!["sides", "isolate", "one-way-in", "one-way-out", "bridge"];
    // Halves of an even number have no majority, and REPLICAs would be counted.
    if topology.replicas.is_empty() && masters % 2 == 1 {
        shapes.push("halves");
    }
    if topology.replicas.is_empty() && masters > 3 {
        shapes.push("ring");
    }
    let shape = shapes[index(rng, shapes.len())];
    let closed = !shape.starts_with("one-way") && below(rng, 2) == 0;
    let cut = if closed { "closed" } else { "silent" };
    let flapping = if below(rng, 4) == 0 { ", flapping: 1s" } else { "" };
    let target = match shape {
        "halves" | "ring" => String::new(),
        "bridge" => ", target: one".to_owned(),
        _ => format!(", target: {target}"),
    };
    format!("fault: partition, shape: {shape}, cut: {cut}{flapping}{target}")
}

fn pick(rng: &mut ChaCha8Rng, weights: &Weights) -> Hurt {
    let sum = weights.values().map(|weight| u64::from(*weight)).sum();
    let mut left = below(rng, sum);
    for (hurt, weight) in weights {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return *hurt,
        }
    }
    Hurt::Kill
}

fn between(rng: &mut ChaCha8Rng, (from, to): (u64, u64)) -> u64 {
    from + below(rng, to - from + 1)
}

/// A number below `of`; 0 of nothing. The modulo's bias is below 2^-40 for what is drawn here.
fn below(rng: &mut ChaCha8Rng, of: u64) -> u64 {
    rng.next_u64().checked_rem(of).unwrap_or(0)
}

fn index(rng: &mut ChaCha8Rng, of: usize) -> usize {
    usize::try_from(below(rng, u64::try_from(of).unwrap_or(u64::MAX))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::plan::{FaultKind, build, shape};
    use crate::spec::{Overrides, Spec, workload};

    const ROUND_MS: u64 = 120_000;

    fn spec(masters: usize, scenario: &str) -> Spec {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.yaml");
        let (_, faults) = scenario.split_once("faults:").unwrap();
        let head = format!("name: w\ntopology: {{ masters: {masters} }}\n");
        let phases = format!("phases: {{ measure: {ROUND_MS}ms }}\n");
        std::fs::write(&file, format!("{head}{phases}faults:{faults}")).unwrap();
        workload(&file, &Overrides::default()).unwrap()
    }

    fn topology(masters: usize) -> Topology {
        spec(masters, "faults: []").topology
    }

    /// Servers that do not exchange words both ways with a majority, themselves included.
    fn lonely(unheard: &[(String, String)], servers: &[String]) -> usize {
        let talks = |a: &String, b: &String| {
            a == b || !unheard.iter().any(|(x, y)| (x, y) == (a, b) || (x, y) == (b, a))
        };
        let company = |a: &&String| servers.iter().filter(|b| talks(a, b)).count();
        servers.iter().filter(|server| company(server) * 2 <= servers.len()).count()
    }

    #[test]
    fn every_round_is_a_legal_scenario_that_leaves_a_majority_together() {
        let mut kinds = BTreeSet::new();
        for (masters, seed) in (3..=7).flat_map(|masters| (0..40).map(move |seed| (masters, seed)))
        {
            let topology = topology(masters);
            let text = round((seed, 1), &usual_weights(), &topology, ROUND_MS);
            let plan = build(&spec(masters, &text), seed).unwrap();
            assert!(plan.faults.len() > 5, "{text}");
            for (earlier, later) in plan.faults.iter().zip(&plan.faults[1..]) {
                assert!(earlier.at_ms + earlier.for_ms < later.at_ms, "{text}");
            }
            for fault in &plan.faults {
                let hit = shape::hit(fault, &plan.topology, plan.seed);
                kinds.insert(crate::fault::describe(&fault.kind));
                let alone = if let FaultKind::Partition { shape, .. } = &fault.kind {
                    lonely(&shape.unheard(&topology.masters, &hit), &topology.masters)
                } else {
                    hit.len()
                };
                assert!(alone * 2 < masters, "{alone} of {masters}: {text}");
            }
        }
        for wanted in ["partition closed ring", "partition silent halves", "power cut minority"] {
            assert!(kinds.iter().any(|kind| kind.starts_with(wanted)), "{wanted}: {kinds:?}");
        }
    }

    #[test]
    fn same_seed_same_round_and_another_seed_or_round_another() {
        let topology = topology(5);
        let drawn = |seed, number| {
            let text = round((seed, number), &usual_weights(), &topology, ROUND_MS);
            text.split_once("faults:").unwrap().1.to_owned()
        };
        assert_eq!(drawn(1, 1), drawn(1, 1));
        assert_ne!(drawn(1, 1), drawn(2, 1));
        assert_ne!(drawn(1, 1), drawn(1, 2));
        assert_ne!(seed_of(1, 1), seed_of(1, 2));
    }

    #[test]
    fn weights_decide_what_is_drawn() {
        let text = round((1, 1), &weights("pause=2").unwrap(), &topology(3), ROUND_MS);
        let lines: Vec<_> = text.lines().filter(|line| line.contains("fault:")).collect();
        assert!(lines.len() > 5 && lines.iter().all(|line| line.contains("fault: pause")));
        for (text, wrong) in [
            ("kil=1", "there is no `kil`; legal: kill, restart"),
            ("kill", "must be name=number"),
            ("kill=0", "1 to 1000"),
            ("kill=1,kill=2", "named twice"),
            ("", "name=number"),
        ] {
            let error = weights(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }

    #[test]
    fn every_hurt_can_be_asked_about_alone() {
        for hurt in Hurt::ALL {
            let spec = spec(3, &hurt.probe(&topology(3)));
            assert_eq!(build(&spec, 1).unwrap().faults.len(), 1, "{}", hurt.word());
        }
    }
}

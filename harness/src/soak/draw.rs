//! Draws the faults of a round: which, when, whom; purely from the seed and the round's number.
//! Never hurts more than a minority at once, nor two things at the same time: each fault waits for
//! the proven heal of the one before. What comes out is a scenario as a person would write it.

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
    /// Connections reset.
    Reset,
    /// Narrow links.
    Bandwidth,
    /// Small pieces.
    Slice,
    /// Slow syncs.
    SlowDisk,
    /// No room.
    FullDisk,
    /// Killed, and what was not synced is lost.
    PowerCut,
}

impl Hurt {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::Restart,
        Self::Pause,
        Self::Partition,
        Self::Latency,
        Self::Reset,
        Self::Bandwidth,
        Self::Slice,
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
            Self::Reset => "reset",
            Self::Bandwidth => "bandwidth",
            Self::Slice => "slice",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::PowerCut => "power-cut",
        }
    }

    /// Every form that it may take, as keys and values of a scenario: all that decides whether it
    /// can be done.
    #[must_use]
    pub fn forms(self, topology: &Topology) -> Vec<String> {
        let minority = topology.masters.len().saturating_sub(1) / 2;
        let targets = if minority > 1 { &["one", "minority"][..] } else { &["one"] };
        let on_each = |what: &str| -> Vec<String> {
            targets.iter().map(|target| format!("{what}, target: {target}")).collect()
        };
        match self {
            Self::Kill
            | Self::Restart
            | Self::Pause
            | Self::Reset
            | Self::Bandwidth
            | Self::Slice => on_each(&format!("fault: {}", self.word())),
            Self::Latency => {
                let distributions = ["uniform", "normal", "pareto"].into_iter();
                let what = |how| format!("fault: latency, distribution: {how}");
                distributions.flat_map(|how| on_each(&what(how))).collect()
            }
            Self::Partition => partitions(targets, topology),
            Self::SlowDisk => on_each("fault: disk, disk: slow"),
            Self::FullDisk => on_each("fault: disk, disk: full"),
            Self::PowerCut => {
                let survives = ["nothing", "prefix", "sectors"].into_iter();
                let what = |left| format!("fault: disk, disk: power-cut, survives: {left}");
                survives.flat_map(|left| on_each(&what(left))).collect()
            }
        }
    }

    /// How strong it is, as further keys and values.
    fn strength(self, rng: &mut ChaCha8Rng) -> String {
        match self {
            Self::Latency => {
                let delay = 5 + below(rng, 96);
                // A quarter of the delay is legal in every distribution.
                let jitter = 1 + below(rng, delay / 4);
                format!(", delay: {delay}ms, jitter: {jitter}ms")
            }
            Self::Reset => format!(", delay: {}ms", below(rng, 101)),
            Self::Bandwidth => format!(", rate: {}", 20 + below(rng, 481)),
            Self::Slice => {
                format!(", size: {}, delay: {}ms", 50 + below(rng, 951), 1 + below(rng, 3))
            }
            Self::SlowDisk => format!(", delay: {}ms", 10 + below(rng, 91)),
            Self::Partition if below(rng, 4) == 0 => ", flapping: 1s".to_owned(),
            // The shortest fault has room for two times.
            Self::Kill | Self::Restart if below(rng, 4) == 0 => {
                let (every, down) = (800 + below(rng, 301), 100 + below(rng, 101));
                format!(", storm: {{ every: {every}ms, down: {down}ms }}")
            }
            Self::Partition
            | Self::Kill
            | Self::Restart
            | Self::Pause
            | Self::FullDisk
            | Self::PowerCut => String::new(),
        }
    }

    /// One such fault alone in this form, as a scenario: to ask whether it can be done.
    #[must_use]
    pub fn probe(self, form: &str) -> String {
        let strength = self.strength(&mut stream::rng(0, "chaos/probe"));
        scenario("probe", &[format!("{{ {form}{strength}, at: 1ms, for: 1500ms }}")])
    }
}

/// What may be drawn: how often each against the others, and in which forms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deck {
    cards: BTreeMap<Hurt, (u32, Vec<String>)>,
}

impl Deck {
    /// Adds what is drawn so often in one of these forms; nothing without any.
    pub fn add(&mut self, hurt: Hurt, weight: u32, forms: Vec<String>) {
        if !forms.is_empty() && weight > 0 {
            self.cards.insert(hurt, (weight, forms));
        }
    }

    /// True if nothing can be drawn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cards.is_empty()
    }

    /// `name weight: forms` of everything in it, by which two decks are told apart.
    #[must_use]
    pub fn told(&self) -> Vec<(String, u32)> {
        let told = self.cards.iter().map(|(hurt, (weight, forms))| {
            let forms = forms.join("; ");
            (format!("{}: {forms}", hurt.word()), *weight)
        });
        told.collect()
    }

    /// One fault: its name, and what it is as keys and values of a scenario.
    fn draw(&self, rng: &mut ChaCha8Rng) -> Option<(Hurt, String)> {
        let sum = self.cards.values().map(|(weight, _)| u64::from(*weight)).sum();
        let mut left = below(rng, sum);
        let (hurt, (_, forms)) = self.cards.iter().find(|(_, (weight, _))| {
            let rest = left.checked_sub(u64::from(*weight));
            left = rest.unwrap_or(left);
            rest.is_none()
        })?;
        let form = forms.get(index(rng, forms.len()))?;
        Some((*hurt, format!("{form}{}", hurt.strength(rng))))
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

/// The scenario of a round that measures for `measure_ms`, as YAML. Its last faults may lapse, if
/// heals take longer than nothing.
#[must_use]
pub fn round((seed, round): (u64, u32), deck: &Deck, measure_ms: u64) -> String {
    let mut rng = stream::rng(seed, &format!("chaos/round/{round}"));
    let mut lines = Vec::new();
    let mut before: Option<String> = None;
    let mut ended = 0;
    loop {
        let (calm, lasts) = (between(&mut rng, CALM_MS), between(&mut rng, LASTS_MS));
        ended += calm + lasts;
        // The end stays calm, so that the last fault's recovery is seen.
        let fits = ended + CALM_MS.1 <= measure_ms;
        let Some((hurt, what)) = deck.draw(&mut rng).filter(|_| fits) else {
            return scenario(&format!("round-{round}"), &lines);
        };
        let name = format!("f{}-{}", lines.len() + 1, hurt.word());
        let waits = before.map(|last| format!("after: {last}, may_lapse: true, "));
        let waits = waits.unwrap_or_default();
        lines.push(format!("{{ name: {name}, {what}, {waits}at: {calm}ms, for: {lasts}ms }}"));
        before = Some(name);
    }
}

fn scenario(name: &str, faults: &[String]) -> String {
    let description = "Faults drawn at random, never more than a minority at once";
    let faults: String = faults.iter().map(|fault| format!("  - {fault}\n")).collect();
    format!("name: {name}\ndescription: {description}\nfaults:\n{faults}")
}

/// The partitions in which a majority of the MASTERs still has each other.
fn partitions(targets: &[&str], topology: &Topology) -> Vec<String> {
    let masters = topology.masters.len();
    let mut shapes = vec!["sides", "isolate", "one-way-in", "one-way-out", "bridge"];
    // Halves of an even number have no majority, and REPLICAs would be counted.
    if topology.replicas.is_empty() && masters % 2 == 1 {
        shapes.push("halves");
    }
    if topology.replicas.is_empty() && masters > 3 {
        shapes.push("ring");
    }
    let mut forms = Vec::new();
    for shape in shapes {
        let other = if shape.starts_with("one-way") { "half_open" } else { "closed" };
        let cuts = ["silent", other];
        for cut in cuts {
            let form = format!("fault: partition, shape: {shape}, cut: {cut}");
            match shape {
                "halves" | "ring" => forms.push(form),
                "bridge" => forms.push(format!("{form}, target: one")),
                _ => forms.extend(targets.iter().map(|to| format!("{form}, target: {to}"))),
            }
        }
    }
    forms
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
    use crate::plan::{FaultKind, Order, build, shape};
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

    /// Everything that can be drawn with so many MASTERs.
    fn deck(weights: &Weights, masters: usize) -> Deck {
        let mut deck = Deck::default();
        for (hurt, weight) in weights {
            deck.add(*hurt, *weight, hurt.forms(&topology(masters)));
        }
        deck
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
        let (mut kinds, mut storms) = (BTreeSet::new(), 0);
        let decks: Vec<_> =
            (3..=7).map(|masters| (masters, deck(&usual_weights(), masters))).collect();
        let all =
            decks.iter().flat_map(|(masters, deck)| (0..40).map(move |s| (*masters, deck, s)));
        for (masters, deck, seed) in all {
            let text = round((seed, 1), deck, ROUND_MS);
            storms += text.matches("storm:").count();
            let plan = build(&spec(masters, &text), seed).unwrap();
            assert!(plan.faults.len() > 5, "{text}");
            let order = Order::of(&plan.faults);
            for (earlier, later) in plan.faults.iter().zip(&plan.faults[1..]) {
                assert!(!order.can_meet(earlier, later, 1), "{text}");
            }
            for fault in &plan.faults {
                let hit = shape::hit(fault, &plan.topology, plan.seed);
                kinds.insert(crate::fault::describe(&fault.kind));
                let alone = if let FaultKind::Partition { shape, .. } = &fault.kind {
                    lonely(&shape.unheard(&plan.topology.masters, &hit), &plan.topology.masters)
                } else {
                    hit.len()
                };
                assert!(alone * 2 < masters, "{alone} of {masters}: {text}");
            }
        }
        for wanted in [
            "partition closed ring",
            "partition silent halves",
            "partition half-open one-way-in minority",
            "power cut minority",
        ] {
            assert!(kinds.iter().any(|kind| kind.starts_with(wanted)), "{wanted}: {kinds:?}");
        }
        assert!(storms > 10, "{storms}");
    }

    #[test]
    fn same_seed_same_round_and_another_seed_or_round_another() {
        let deck = deck(&usual_weights(), 5);
        let drawn = |seed, number| {
            let text = round((seed, number), &deck, ROUND_MS);
            text.split_once("faults:").unwrap().1.to_owned()
        };
        assert_eq!(drawn(1, 1), drawn(1, 1));
        assert_ne!(drawn(1, 1), drawn(2, 1));
        assert_ne!(drawn(1, 1), drawn(1, 2));
        assert_ne!(seed_of(1, 1), seed_of(1, 2));
    }

    #[test]
    fn weights_decide_what_is_drawn() {
        let text = round((1, 1), &deck(&weights("pause=2").unwrap(), 3), ROUND_MS);
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
    fn every_form_can_be_asked_about_alone() {
        for (hurt, masters) in Hurt::ALL.into_iter().flat_map(|hurt| [(hurt, 3), (hurt, 5)]) {
            let forms = hurt.forms(&topology(masters));
            assert_eq!(forms.iter().collect::<BTreeSet<_>>().len(), forms.len(), "{forms:?}");
            for form in &forms {
                let spec = spec(masters, &hurt.probe(form));
                assert_eq!(build(&spec, 1).unwrap().faults.len(), 1, "{form}");
            }
        }
        let of_five = Hurt::Partition.forms(&topology(5));
        assert!(of_five.iter().any(|form| form.contains("shape: ring, cut: closed")));
    }

    #[test]
    fn what_cannot_be_done_is_not_drawn() {
        let mut deck = Deck::default();
        let forms = Hurt::Partition.forms(&topology(3)).into_iter();
        let closed = forms.filter(|form| form.contains("cut: closed")).collect();
        deck.add(Hurt::Partition, 4, closed);
        deck.add(Hurt::Kill, 1, Vec::new());
        for seed in 0..20 {
            let text = round((seed, 1), &deck, ROUND_MS);
            assert!(text.contains("cut: closed"), "{text}");
            assert!(!text.contains("silent") && !text.contains("fault: kill"), "{text}");
        }
        assert!(Deck::default().is_empty());
    }
}

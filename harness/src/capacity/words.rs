//! What a search found, in words: the same on the command line and on its page.

use std::fmt;

use super::{Objective, Outcome, Said, Search, Step, surely};

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p99_ms, refused } = self;
        write!(f, "p99 at most {p99_ms} ms, at most {:.3} % refused or unanswered", refused * 100.0)
    }
}

impl Said {
    /// For people, of the objective.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Nothing => "cannot be used",
        }
    }
}

impl Search {
    /// What was found, and how sure that is.
    #[must_use]
    pub fn told(&self) -> String {
        let kept = |rate: u64| {
            let (runs, met) = self.tally(rate);
            let share = surely(met, runs) * 100.0;
            format!(
                "{met} of {runs} runs of it met the objective, so with 95 % confidence at least \
                 {share:.0} % of such runs do"
            )
        };
        match self.next() {
            Step::Run { .. } => "did not get to its end; the same command goes on".to_owned(),
            Step::Done(Outcome::Found { rate, missed }) => {
                format!("{rate}/s; {}; {missed}/s is too much", kept(rate))
            }
            Step::Done(Outcome::AtLeast { rate, unusable: None }) => {
                format!("at least {rate}/s, the most that was looked for; {}", kept(rate))
            }
            Step::Done(Outcome::AtLeast { rate, unusable: Some(unusable) }) => format!(
                "at least {rate}/s; {}; at {unusable}/s the figures cannot be used, so what \
                 servers can do is not known",
                kept(rate)
            ),
            Step::Done(Outcome::Never { tried }) => {
                format!("the objective was met at no rate, not even at {tried}/s")
            }
            Step::Done(Outcome::Unusable { tried }) => format!(
                "nothing was measured: not even at {tried}/s can the figures be used; the remarks \
                 say why"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bounds;
    use super::super::tests::{definition, probe};
    use super::*;

    /// What is told of these runs between 1/s and 100/s, to the half, two of what is named.
    fn told(runs: &[(u64, Said)]) -> String {
        let mut search = Search::new(definition(1));
        search.definition.bounds = Bounds { from: 100, most: 100, within: 1.0, repeats: 2 };
        search.runs = runs.iter().map(|(rate, said)| probe(*rate, *said)).collect();
        search.told()
    }

    #[test]
    fn an_answer_says_how_sure_it_is_and_what_ended_it() {
        use Said::{Met, Missed, Nothing};
        for (runs, wanted) in [
            (&[(100, Met)][..], "did not get to its end"),
            (&[(100, Met), (100, Met)], "at least 100/s, the most that was looked for; 2 of 2"),
            (&[(100, Met), (100, Met)], "95 % confidence at least 22 % of such runs do"),
            (
                &[(100, Missed), (100, Missed), (50, Met), (50, Met)],
                "50/s; 2 of 2 runs of it met the objective, so with 95 % confidence at least 22 % \
                 of such runs do; 100/s is too much",
            ),
            (
                &[(100, Nothing), (100, Nothing), (100, Nothing), (50, Met), (50, Met)],
                "at 100/s the figures cannot be used, so what servers can do is not known",
            ),
        ] {
            assert!(told(runs).contains(wanted), "{}", told(runs));
        }
        let at_all = |said| [100, 50, 25, 12, 6, 3, 1].map(|rate| [(rate, said); 3]).concat();
        assert!(told(&at_all(Missed)).contains("met at no rate, not even at 1/s"));
        assert!(told(&at_all(Nothing)).contains("nothing was measured: not even at 1/s"));
    }
}

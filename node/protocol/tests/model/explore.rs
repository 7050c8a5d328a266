//! Runs a model: shows a space clean to its end, or finds the counterexample that must be there. May
//! not know what is modelled.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

/// What can be explored.
pub(crate) trait Space:
    Model<
        State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
        Action: Clone + Debug + PartialEq,
    > + Send
    + Sync
    + 'static
{
}

impl<M> Space for M where
    M: Model<
            State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
            Action: Clone + Debug + PartialEq,
        > + Send
        + Sync
        + 'static
{
}

/// What an exploration came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every reachable state was seen.
    Exhausted,
    /// The time was up before.
    OutOfTime,
}

/// `QUORATE_MODEL=full` explores the large spaces too.
pub(crate) fn full() -> bool {
    std::env::var_os("QUORATE_MODEL").is_some_and(|wanted| wanted == "full")
}

/// Explores the whole space depth first, which keeps few states in memory: no property may fail.
pub(crate) fn holds(name: &str, model: impl Space) {
    let end = holds_for(name, model, Duration::from_secs(900));
    assert_eq!(end, End::Exhausted, "{name}");
}

/// Explores as much as time allows: no property may fail.
#[expect(clippy::disallowed_methods, reason = "how long it took is for the reader")]
pub(crate) fn holds_for(name: &str, model: impl Space, limit: Duration) -> End {
    let started = Instant::now();
    let builder = model.checker().finish_when(HasDiscoveries::AnyFailures).timeout(limit);
    let checker = builder.spawn_dfs().join();
    let took = started.elapsed();
    for (property, path) in checker.discoveries() {
        panic!("{name}: not so: {property}\n{}", listing(&path.into_actions()));
    }
    let end = if took < limit { End::Exhausted } else { End::OutOfTime };
    eprintln!(
        "{name}: {} states, {} steps, depth {}, {:.1} s, {end:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth() - 1,
        took.as_secs_f64(),
    );
    end
}

/// Finds a shortest way to break the only property that the model checks; prints it.
pub(crate) fn refuted(name: &str, model: impl Space) {
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    let found = checker.discoveries().into_iter().next();
    let (property, path) = found.unwrap_or_else(|| panic!("{name}: nothing in {states} states"));
    let actions = path.into_actions();
    let (depth, listing) = (actions.len(), listing(&actions));
    eprintln!("{name}: refuted at depth {depth} after {states} states: {property}\n{listing}");
}

fn listing<A: Debug>(actions: &[A]) -> String {
    actions.iter().map(|action| format!("    {action:?}\n")).collect()
}

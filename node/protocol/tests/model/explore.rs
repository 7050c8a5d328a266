//! Runs a model: shows a space clean to its end, or finds the counterexample that must be there.
//! May not know what is modelled.

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

/// Beyond this something is wrong with the space: the largest takes minutes.
const LIMIT: Duration = Duration::from_secs(3600);

/// Explores the whole space depth first, which keeps few states in memory: no property may fail.
#[expect(clippy::disallowed_methods, reason = "how long it took is for the reader")]
pub(crate) fn holds(name: &str, model: impl Space) {
    let started = Instant::now();
    let builder = model.checker().finish_when(HasDiscoveries::AnyFailures).timeout(LIMIT);
    let checker = builder.spawn_dfs().join();
    let took = started.elapsed();
    if let Some((property, path)) = checker.discoveries().into_iter().next() {
        panic!("{name}: not so: {property}\n{}", listing(&path.into_actions()));
    }
    assert!(took < LIMIT, "{name}: not explored to the end in {LIMIT:?}");
    eprintln!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth() - 1,
        took.as_secs_f64(),
    );
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

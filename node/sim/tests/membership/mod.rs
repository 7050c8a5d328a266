//! Planted bugs of joins, removals, lost disks and positions: part of the table of `planted.rs`.
//! May not run them: that is done there.

use quorate_protocol::planted::Bug;
use quorate_sim::plant::{ControlBug, Plant, ShellBug};

use super::{Row, Swarm, machine, shell};

/// What shows that a server has not all that it should have.
const DEPLOYED: [&str; 9] = [
    "all-or-nothing",
    "bank-total",
    "converges-after-heal",
    "edges-symmetric",
    "exact-bases",
    "linearizable",
    "one-commit-per-base",
    "one-generation",
    "unique-key",
];

/// Bugs that show where servers come and go.
pub(crate) fn rows() -> Vec<Row> {
    let granted_twice = Plant { control: Some(ControlBug::GrantsForgotten), ..Plant::NONE };
    let rows = vec![
        machine(
            "removed MASTERs go on voting",
            "3.9.2, E1, A2",
            |c| c.planted = Some(Bug::OldSetNotSealed),
            &["one-generation", "one-commit-per-base"],
        ),
        machine(
            "joined MASTERs enter without transfer",
            "3.9.4, E3",
            |c| c.planted = Some(Bug::EnterWithoutTransfer),
            &["one-generation", "one-commit-per-base", "linearizable"],
        ),
        machine(
            "a joined MASTER votes before it is synced",
            "3.9.5",
            |c| c.planted = Some(Bug::VoterBeforeSynced),
            &["one-generation"],
        ),
        machine(
            "forgotten past a server that lags",
            "3.9, A18, A5",
            |c| c.planted = Some(Bug::ForgetPastLagging),
            &["tombstone-kept", "converges-after-heal", "no-corruption", "exact-bases"],
        ),
        machine(
            "a server is deployed from one other's view",
            "3.6.5, A3",
            |c| c.planted = Some(Bug::AlignWithOne),
            &DEPLOYED,
        ),
        shell(
            "a lost disk comes back under its identity",
            "3.9, A3",
            ShellBug::WipedComesBack,
            &DEPLOYED,
        ),
        shell(
            "a removed server is not turned away",
            "3.9",
            ShellBug::RemovedIsHeard,
            &["nothing-in-doubt"],
        ),
        shell(
            "a server that joins serves before it aligned",
            "3.6.5, 3.9",
            ShellBug::JoinsWithoutAligning,
            &DEPLOYED,
        ),
        shell(
            "a block goes on after a restart",
            "3.9, A20",
            ShellBug::BlockContinued,
            &["position-once"],
        ),
        Row {
            swarm: Swarm::Membership,
            name: "a block of positions is granted twice",
            rule: "3.9, A20",
            plant: granted_twice,
            caught_by: &["position-once"],
        },
    ];
    rows.into_iter().map(|row| Row { swarm: Swarm::Membership, ..row }).collect()
}

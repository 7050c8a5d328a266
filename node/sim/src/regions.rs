//! Places far apart, and how long a message takes between them and back. May not know servers.
//!
//! Source: IBM Cloud VPC documentation, "Inter-region latency", monthly averages in milliseconds of
//! 27 July to 25 August 2024 (ibm-cloud-docs/vpc, network-latency.md). Of the two directions, which
//! differ by a few milliseconds, the one that the table's first rows give.

use quorate_protocol::io::Tick;

/// Names, in the order of the table.
pub const NAMES: [&str; 7] =
    ["washington", "dallas", "frankfurt", "london", "tokyo", "sydney", "sao-paulo"];

/// Milliseconds there and back, to the ones further down the list.
const ROUND_TRIPS: [&[Tick]; 6] = [
    &[31, 91, 75, 164, 214, 118],
    &[123, 113, 143, 186, 146],
    &[13, 233, 250, 198],
    &[243, 261, 188],
    &[115, 284],
    &[328],
];

/// Microseconds from one place to another and back; nothing within one.
///
/// # Panics
/// When there is no such place.
#[must_use]
pub fn round_trip(one: usize, other: usize) -> Tick {
    let (first, last) = (one.min(other), one.max(other));
    assert!(last < NAMES.len(), "no region {last}");
    if first == last { 0 } else { ROUND_TRIPS[first][last - first - 1] * 1_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_its_time_whichever_way_it_is_asked_for() {
        let place = |name| NAMES.iter().position(|other| *other == name).unwrap();
        for (one, other, ms) in [
            ("frankfurt", "london", 13),
            ("tokyo", "sydney", 115),
            ("sao-paulo", "sydney", 328),
            ("sao-paulo", "washington", 118),
            ("dallas", "dallas", 0),
        ] {
            assert_eq!(round_trip(place(one), place(other)), ms * 1_000, "{one} {other}");
            assert_eq!(round_trip(place(other), place(one)), ms * 1_000, "{other} {one}");
        }
        for one in 0..NAMES.len() {
            assert!((0..one).all(|other| round_trip(one, other) > 10_000), "{one}");
        }
    }
}

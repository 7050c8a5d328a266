//! Figures as people read them: three digits and a unit.

use quorate_check::history::Nanos;

use crate::figures::Bound;

/// What stands where there is no figure.
pub(super) const NONE: &str = "–";

/// A thin space that does not break lines, between groups of digits.
const THIN: char = '\u{202f}';

/// Seconds: `1.40 s`, `12.5 ms`, `340 µs`.
pub(super) fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds.abs() {
        size if size >= 0.9995 || size == 0.0 => (seconds, "s"),
        size if size >= 0.000_999_5 => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    format!("{}\u{a0}{unit}", digits(value)).replace('-', "−")
}

/// Nanoseconds, as [`seconds`].
pub(super) fn nanos(nanos: Nanos) -> String {
    seconds(crate::figures::seconds(nanos))
}

/// A latency, `≥ 1.00 s` if it is a lower bound.
pub(super) fn bound(bound: Bound) -> String {
    let sign = if bound.at_least { "≥\u{a0}" } else { "" };
    format!("{sign}{}", seconds(bound.micros / 1e6))
}

/// A latency, or a dash.
pub(super) fn bound_or_none(figure: Option<Bound>) -> String {
    figure.map_or_else(|| NONE.to_owned(), bound)
}

/// Three significant digits, whole above that.
fn digits(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        size if value < 0.0 => format!("-{}", count(size.round() as u64)),
        size => count(size.round() as u64),
    }
}

/// A rate per second.
pub(super) fn rate(per_second: f64) -> String {
    format!("{}/s", digits(per_second))
}

/// A count in groups of three digits.
pub(super) fn count(count: u64) -> String {
    let plain = count.to_string();
    let mut text = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            text.push(THIN);
        }
        text.push(digit);
    }
    text
}

/// A share in per cent, never rounded up to 100.
pub(super) fn share(part: u64, of: u64) -> String {
    if of == 0 {
        return NONE.to_owned();
    }
    let percent = part as f64 / of as f64 * 100.0;
    if part < of && percent >= 99.995 {
        return "99.99\u{a0}%".to_owned();
    }
    format!("{percent:.2}\u{a0}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!(seconds(1.4), "1.40\u{a0}s");
        assert_eq!(seconds(0.9999), "1.00\u{a0}s");
        assert_eq!(seconds(0.0123), "12.3\u{a0}ms");
        assert_eq!(seconds(0.000_25), "250\u{a0}µs");
        assert_eq!(seconds(0.0), "0\u{a0}s");
        assert_eq!(seconds(-0.5), "−500\u{a0}ms");
        assert_eq!(nanos(61_000_000_000), "61.0\u{a0}s");
        assert_eq!(bound(Bound { micros: 1e6, at_least: true }), "≥\u{a0}1.00\u{a0}s");
        assert_eq!(rate(1999.6), "2\u{202f}000/s");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(7), "7");
        assert_eq!(count(1234), "1\u{202f}234");
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn almost_all_is_not_all() {
        assert_eq!(share(999_999, 1_000_000), "99.99\u{a0}%");
        assert_eq!(share(5, 5), "100.00\u{a0}%");
        assert_eq!(share(0, 0), NONE);
    }
}

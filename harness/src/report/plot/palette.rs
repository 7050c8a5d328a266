//! Colours: one meaning each, the same in every plot, told apart by colour-blind readers too.
//! Each has a twin for dark pages; the page's style sheet swaps them, plot files stay light.

use plotters::style::RGBColor;

/// A colour with its twin on a dark page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Colour {
    pub(crate) light: (u8, u8, u8),
    dark: (u8, u8, u8),
}

const fn colour(light: u32, dark: u32) -> Colour {
    Colour { light: rgb(light), dark: rgb(dark) }
}

const fn rgb(hex: u32) -> (u8, u8, u8) {
    ((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

pub(crate) const PAPER: Colour = colour(0xFFFFFF, 0x14181F);
pub(crate) const INK: Colour = colour(0x1B2430, 0xE8EDF4);
pub(crate) const FAINT: Colour = colour(0x5A6675, 0x9FACBC);
pub(crate) const GRID: Colour = colour(0xE3E7EC, 0x2A323D);
pub(crate) const FAULT: Colour = colour(0xA0522D, 0xD98A62);
pub(crate) const OK: Colour = colour(0x0072B2, 0x3D9BD8);
pub(crate) const FAILED: Colour = colour(0xE69F00, 0xF0B429);
pub(crate) const UNKNOWN: Colour = colour(0xC8371B, 0xF0694A);
pub(crate) const P50: Colour = colour(0x008F68, 0x2FC59B);
pub(crate) const P99: Colour = colour(0x6A3D9A, 0xB48AE0);
pub(crate) const MAX: Colour = colour(0x8A939E, 0x77828F);
pub(crate) const NOTHING: Colour = colour(0xEEF1F4, 0x222A34);
pub(crate) const MET: Colour = colour(0x0B5FA5, 0x6CB2F2);
pub(crate) const MISSED: Colour = colour(0xB3261E, 0xFF8F84);

/// Operation classes, in the order of [`class`].
const CLASSES: [(&str, Colour); 7] = [
    ("read (majority)", colour(0x332288, 0x8E80E8)),
    ("read (local)", colour(0x2B9C8C, 0x44C4B0)),
    ("read", colour(0x5588BB, 0x77AADD)),
    ("update", colour(0x87871F, 0xC2C24A)),
    ("create", colour(0x117733, 0x3FAE63)),
    ("delete", colour(0xAA4499, 0xD673C6)),
    ("transaction", colour(0x882255, 0xCC5C92)),
];

/// Servers and whatever else has no meaning of its own, by position.
const SERIES: [Colour; 7] = [
    colour(0x4477AA, 0x6FA3D6),
    colour(0xCC6611, 0xE8914A),
    colour(0x228834, 0x4DB85F),
    colour(0x9A3377, 0xD066AB),
    colour(0x1F9DB8, 0x66CCEE),
    colour(0xA89A2A, 0xCCBB44),
    colour(0x555555, 0xBBBBBB),
];

/// Sides of a comparison, by position: A, B, and so on.
const SIDES: [Colour; 6] = [
    colour(0x1F5FBF, 0x5E9BEA),
    colour(0xC65A00, 0xF08F3C),
    colour(0x2A7F3E, 0x55B96B),
    colour(0x8E2F8A, 0xC873C4),
    colour(0x6B5B1E, 0xB8A35A),
    colour(0x3C4A57, 0xA3B1BE),
];

/// Codes of failures; those of an unknown outcome share the family of [`UNKNOWN`].
const CODES: [(&str, Colour); 10] = [
    ("no_quorum", colour(0xE69F01, 0xF0B42A)),
    ("version_conflict", colour(0x7A8B99, 0x93A5B4)),
    ("busy", colour(0xB9C4CE, 0x5E6B78)),
    ("not_found", colour(0x9FB3A0, 0x6F8A72)),
    ("overload", colour(0x8C510A, 0xC98A3F)),
    ("unresolved_intent", colour(0xF2CF63, 0xF7DD8A)),
    ("client_timeout", colour(0xC8371C, 0xF0694B)),
    ("deadline", colour(0xE88E7B, 0xF5A594)),
    ("connection_lost", colour(0x7D1F0E, 0xB5442E)),
    ("connect_refused", colour(0x5B3A29, 0x9C6B52)),
];

impl Colour {
    /// For drawing.
    pub(crate) fn rgb(self) -> RGBColor {
        let (red, green, blue) = self.light;
        RGBColor(red, green, blue)
    }

    /// `#RRGGBB` as the SVG backend writes it.
    pub(crate) fn hex(self) -> String {
        hex(self.light)
    }
}

fn hex((red, green, blue): (u8, u8, u8)) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The colour of an operation class.
pub(crate) fn class(name: &str) -> Colour {
    CLASSES.iter().find(|(class, _)| *class == name).map_or(INK, |(_, colour)| *colour)
}

/// The colour of the `index`-th server.
pub(crate) fn series(index: usize) -> Colour {
    SERIES[index % SERIES.len()]
}

/// The colour of the `index`-th side of a comparison.
pub(crate) fn side(index: usize) -> Colour {
    SIDES[index % SIDES.len()]
}

/// The colour of a failure code; codes that have none of their own share by `index`.
pub(crate) fn code(name: &str, index: usize) -> Colour {
    let own = CODES.iter().find(|(code, _)| *code == name);
    own.map_or(SERIES[index % SERIES.len()], |(_, colour)| *colour)
}

/// Every colour, for the style sheet and its test.
fn all() -> impl Iterator<Item = Colour> {
    let plain =
        [PAPER, INK, FAINT, GRID, FAULT, OK, FAILED, UNKNOWN, P50, P99, MAX, NOTHING, MET, MISSED];
    plain
        .into_iter()
        .chain(CLASSES.into_iter().map(|(_, colour)| colour))
        .chain(SERIES)
        .chain(SIDES)
        .chain(CODES.into_iter().map(|(_, colour)| colour))
}

/// Style rules that turn plots inside an element `.plot` dark.
pub(crate) fn dark_rules() -> String {
    let rule = |colour: Colour| {
        let (light, dark) = (colour.hex(), hex(colour.dark));
        format!(
            ".plot [fill=\"{light}\"]{{fill:{dark}}}.plot [stroke=\"{light}\"]{{stroke:{dark}}}\n"
        )
    };
    all().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance((red, green, blue): (u8, u8, u8)) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.03928 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(a: (u8, u8, u8), b: (u8, u8, u8)) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn one_colour_one_meaning() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(all().all(|colour| seen.insert(colour.light)), "a colour is used twice");
    }

    #[test]
    fn text_can_be_read_in_both_schemes() {
        for text in [INK, FAINT, FAULT] {
            assert!(contrast(text.light, PAPER.light) >= 4.5, "{text:?}");
            assert!(contrast(text.dark, PAPER.dark) >= 4.5, "{text:?}");
        }
    }

    #[test]
    fn lines_can_be_seen_in_both_schemes() {
        for line in [OK, UNKNOWN, P50, P99, MAX, MET, MISSED].into_iter().chain(SERIES).chain(SIDES)
        {
            assert!(contrast(line.light, PAPER.light) >= 2.7, "{line:?}");
            assert!(contrast(line.dark, PAPER.dark) >= 3.0, "{line:?}");
        }
    }
}

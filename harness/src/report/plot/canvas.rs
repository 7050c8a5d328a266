//! Drawing primitives over any plotters backend, in CSS pixels, and the two outputs: SVG and PNG.
//! The same calls make both. No axes (those are in `axes.rs`), no data.

use std::sync::OnceLock;

use plotters::backend::{BitMapBackend, SVGBackend};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::prelude::DrawingBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, ShapeStyle, TextStyle, register_font};

use super::palette::{Colour, INK, PAPER};

/// Backends count in whole pixels; drawing this much larger gives lines and text finer places.
const SCALE: f64 = 2.0;

/// Plotters' font sizes are line heights; this many of them make one em.
const EM: f64 = 1.24;

/// Name of the bundled font, in plot files and in the page's style sheet.
pub(crate) const FONT: &str = "Inter";

/// What else may stand in for the font where it is neither embedded nor installed.
const FONT_FALLBACK: &str = "Inter, 'DejaVu Sans', 'Liberation Sans', Arial, sans-serif";

static REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular.ttf");
static SEMI_BOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold.ttf");

/// Why a plot could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// The bundled font was not accepted.
    #[error("the bundled font is broken")]
    Font,
    /// A backend refused to draw.
    #[error("drawing failed: {0}")]
    Draw(String),
}

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self::Draw(error.to_string())
    }
}

/// Where text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    /// The point is at the left.
    Start,
    /// The point is in the middle.
    Middle,
    /// The point is at the right.
    End,
}

/// Something that can be drawn at any width.
pub(crate) trait Plot {
    /// Height in CSS pixels for a width.
    fn height(&self, width: f64) -> f64;
    /// Draws it.
    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError>;
}

/// A surface of one plot. Coordinates are CSS pixels from the upper left corner.
pub(crate) struct Canvas<DB: DrawingBackend> {
    area: DrawingArea<DB, Shift>,
    /// Width in CSS pixels.
    pub(crate) width: f64,
    /// Height in CSS pixels.
    pub(crate) height: f64,
}

impl<DB: DrawingBackend> Canvas<DB> {
    fn point(x: f64, y: f64) -> (i32, i32) {
        ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
    }

    /// A line through `points`; `width` in CSS pixels.
    pub(crate) fn line(
        &self,
        points: impl IntoIterator<Item = (f64, f64)>,
        colour: Colour,
        width: f64,
    ) -> Result<(), PlotError> {
        let points: Vec<_> = points.into_iter().map(|(x, y)| Self::point(x, y)).collect();
        let style = ShapeStyle::from(&colour.rgb()).stroke_width((width * SCALE).round() as u32);
        Ok(self.area.draw(&PathElement::new(points, style))?)
    }

    /// A dashed straight line.
    pub(crate) fn dashes(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        colour: Colour,
    ) -> Result<(), PlotError> {
        const DASH: f64 = 4.0;
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |part: f64| {
            let part = (part / length).min(1.0);
            (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)
        };
        for dash in 0..(length / (2.0 * DASH)).ceil() as u32 {
            let start = f64::from(dash) * 2.0 * DASH;
            self.line([at(start), at(start + DASH)], colour, 1.0)?;
        }
        Ok(())
    }

    /// A filled rectangle; `opacity` from 0 to 1.
    pub(crate) fn fill(
        &self,
        (x0, y0): (f64, f64),
        (x1, y1): (f64, f64),
        colour: Colour,
        opacity: f64,
    ) -> Result<(), PlotError> {
        let corners = [Self::point(x0, y0), Self::point(x1, y1)];
        let style = colour.rgb().mix(opacity).filled();
        Ok(self.area.draw(&Rectangle::new(corners, style))?)
    }

    /// A filled polygon.
    pub(crate) fn polygon(
        &self,
        points: impl IntoIterator<Item = (f64, f64)>,
        colour: Colour,
        opacity: f64,
    ) -> Result<(), PlotError> {
        let points: Vec<_> = points.into_iter().map(|(x, y)| Self::point(x, y)).collect();
        Ok(self.area.draw(&Polygon::new(points, colour.rgb().mix(opacity).filled()))?)
    }

    /// Text of `size` CSS pixels, vertically centred on `y`.
    pub(crate) fn text(
        &self,
        text: &str,
        (x, y): (f64, f64),
        anchor: Anchor,
        look: Look,
    ) -> Result<(), PlotError> {
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let style = look.style().pos(Pos::new(horizontal, VPos::Center));
        Ok(self.area.draw(&Text::new(text.to_owned(), Self::point(x, y), style))?)
    }

    /// Width of text in CSS pixels.
    pub(crate) fn text_width(&self, text: &str, look: Look) -> Result<f64, PlotError> {
        let (width, _) = self.area.estimate_text_size(text, &look.style())?;
        // Plotters scales by line height, the SVG backend by em; the wider is safe.
        Ok(f64::from(width) / SCALE)
    }

    /// `text`, shortened with an ellipsis so that it fits into `width`; empty if nothing fits.
    pub(crate) fn fitted(&self, text: &str, width: f64, look: Look) -> Result<String, PlotError> {
        if self.text_width(text, look)? <= width {
            return Ok(text.to_owned());
        }
        let mut kept: Vec<char> = text.chars().collect();
        while kept.pop().is_some() && !kept.is_empty() {
            let short: String = kept.iter().chain(&['…']).collect();
            if self.text_width(&short, look)? <= width {
                return Ok(if kept.len() < 2 { String::new() } else { short });
            }
        }
        Ok(String::new())
    }
}

/// Size, colour and weight of text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    size: f64,
    colour: Colour,
    bold: bool,
}

impl Look {
    /// Text of `size` CSS pixels.
    pub(crate) const fn new(size: f64, colour: Colour) -> Self {
        Self { size, colour, bold: false }
    }

    /// The same in semi-bold.
    pub(crate) const fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    fn style(self) -> TextStyle<'static> {
        let weight = if self.bold { FontStyle::Bold } else { FontStyle::Normal };
        (FONT, self.size * EM * SCALE, weight).into_font().color(&self.colour.rgb())
    }
}

/// Titles inside plots.
pub(crate) const TITLE: Look = Look::new(12.5, INK).bold();

/// A plot as the text of an SVG file.
pub(crate) fn svg(plot: &impl Plot, width: f64) -> Result<String, PlotError> {
    register_fonts()?;
    let height = plot.height(width);
    let size = pixels(width, height);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(plot, area, width, height)?;
    }
    // The backend knows no scale, and quotes a single family name.
    let written = format!("width=\"{}\" height=\"{}\"", size.0, size.1);
    let wanted = format!("width=\"{width}\" height=\"{height}\"");
    let text = text.replacen(&written, &wanted, 1);
    Ok(text
        .replace(&format!("font-family=\"{FONT}\""), &format!("font-family=\"{FONT_FALLBACK}\"")))
}

/// A plot as pixels: width, height, and three bytes (red, green, blue) each.
pub(crate) fn bitmap(plot: &impl Plot, width: f64) -> Result<(u32, u32, Vec<u8>), PlotError> {
    register_fonts()?;
    let height = plot.height(width);
    let size = pixels(width, height);
    let mut bytes = vec![0; size.0 as usize * size.1 as usize * 3];
    {
        let area = BitMapBackend::with_buffer(&mut bytes, size).into_drawing_area();
        draw(plot, area, width, height)?;
    }
    Ok((size.0, size.1, bytes))
}

fn pixels(width: f64, height: f64) -> (u32, u32) {
    ((width * SCALE).round() as u32, (height * SCALE).round() as u32)
}

fn draw<DB: DrawingBackend>(
    plot: &impl Plot,
    area: DrawingArea<DB, Shift>,
    width: f64,
    height: f64,
) -> Result<(), PlotError> {
    area.fill(&PAPER.rgb())?;
    let canvas = Canvas { area, width, height };
    plot.draw(&canvas)?;
    Ok(canvas.area.present()?)
}

/// Plotters keeps fonts in a table of its own, filled once.
fn register_fonts() -> Result<(), PlotError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let ok = *REGISTERED.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, REGULAR).is_ok()
            && register_font(FONT, FontStyle::Bold, SEMI_BOLD).is_ok()
    });
    if ok { Ok(()) } else { Err(PlotError::Font) }
}

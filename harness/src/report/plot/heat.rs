//! A sweep over two axes as a map: a cell a point, the deeper the more was acknowledged.

use plotters::prelude::DrawingBackend;

use super::axes::{Frame, TICK, nothing};
use super::canvas::{Anchor, Canvas, Look, Plot, PlotError, TITLE};
use super::palette::{INK, NOTHING, OK};

const ROW: f64 = 54.0;
const BIG: Look = Look::new(14.0, INK).bold();
/// Opacity of the greatest figure: the text on it is still to be read.
const DEEPEST: f64 = 0.55;

/// A point of the sweep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeatCell {
    /// Its figure, as text; empty without a good run.
    pub(crate) figure: String,
    /// Below it.
    pub(crate) below: String,
    /// The figure as a share of the greatest of all.
    pub(crate) share: f64,
}

/// All points.
pub(crate) struct Heat {
    /// What the cells show.
    pub(crate) title: String,
    /// Name of what differs downwards, and its labels.
    pub(crate) rows: (String, Vec<String>),
    /// The same across.
    pub(crate) columns: (String, Vec<String>),
    /// Row by row.
    pub(crate) cells: Vec<HeatCell>,
}

impl Plot for Heat {
    fn height(&self, _width: f64) -> f64 {
        56.0 + ROW * self.rows.1.len().max(1) as f64 + 8.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let title = canvas.fitted(&self.title, canvas.width - 2.0, TITLE)?;
        canvas.text(&title, (2.0, 10.0), Anchor::Start, TITLE)?;
        let ((down, rows), (across, columns)) = (&self.rows, &self.columns);
        let bottom = self.height(canvas.width) - 8.0;
        let frame = Frame { left: 100.0, top: 50.0, right: canvas.width - 2.0, bottom };
        if self.cells.is_empty() {
            return nothing(canvas, frame, "no points");
        }
        let width = (frame.right - frame.left) / columns.len() as f64;
        for (column, label) in columns.iter().enumerate() {
            let x = frame.left + (column as f64 + 0.5) * width;
            let text = canvas.fitted(&format!("{across}: {label}"), width - 4.0, TICK)?;
            canvas.text(&text, (x, 38.0), Anchor::Middle, TICK)?;
        }
        for (row, label) in rows.iter().enumerate() {
            let y = frame.top + (row as f64 + 0.5) * ROW;
            let text = canvas.fitted(&format!("{down}: {label}"), frame.left - 10.0, TICK)?;
            canvas.text(&text, (frame.left - 8.0, y), Anchor::End, TICK)?;
        }
        for (index, cell) in self.cells.iter().enumerate() {
            let (row, column) = (index / columns.len(), index % columns.len());
            let left = frame.left + column as f64 * width + 1.0;
            let top = frame.top + row as f64 * ROW + 1.0;
            let place = Frame { left, top, right: left + width - 2.0, bottom: top + ROW - 2.0 };
            draw_cell(canvas, place, cell)?;
        }
        Ok(())
    }
}

fn draw_cell<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    place: Frame,
    cell: &HeatCell,
) -> Result<(), PlotError> {
    let (middle, width) = ((place.left + place.right) / 2.0, place.right - place.left - 4.0);
    let corners = ((place.left, place.top), (place.right, place.bottom));
    canvas.fill(corners.0, corners.1, NOTHING, 1.0)?;
    if cell.share > 0.0 {
        canvas.fill(corners.0, corners.1, OK, DEEPEST * cell.share)?;
    }
    let big = canvas.fitted(&cell.figure, width, BIG)?;
    canvas.text(&big, (middle, place.top + 17.0), Anchor::Middle, BIG)?;
    let below = canvas.fitted(&cell.below, width, TICK)?;
    canvas.text(&below, (middle, place.top + 37.0), Anchor::Middle, TICK)
}

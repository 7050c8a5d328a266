//! A matrix of runs, MASTERs across and write quorum down: throughput and p99 in each cell.

use plotters::prelude::DrawingBackend;

use super::axes::{Frame, TICK, nothing};
use super::canvas::{Anchor, Canvas, Look, Plot, PlotError, TITLE};
use super::palette::{FAINT, GRID, INK, NOTHING, OK};

const ROW: f64 = 54.0;
const BIG: Look = Look::new(14.0, INK).bold();

/// One run in the matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cell {
    /// Number of MASTERs.
    pub(crate) masters: usize,
    /// Write quorum as configured.
    pub(crate) quorum: String,
    /// Acknowledged operations per second.
    pub(crate) rate: f64,
    /// `p99 1.2 ms`, or why there is none.
    pub(crate) latency: String,
    /// True if the figures can't be trusted.
    pub(crate) unsound: bool,
}

/// All runs that differ in these two.
pub(crate) struct Matrix {
    pub(crate) cells: Vec<Cell>,
}

impl Matrix {
    /// Numbers of MASTERs, ascending.
    pub(crate) fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> = self.cells.iter().map(|cell| cell.masters).collect();
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Write quorums: integers ascending, then the named ones.
    pub(crate) fn rows(&self) -> Vec<String> {
        let mut rows: Vec<String> = self.cells.iter().map(|cell| cell.quorum.clone()).collect();
        rows.sort_by_key(|quorum| (quorum.parse().unwrap_or(u32::MAX), quorum.clone()));
        rows.dedup();
        rows
    }

    /// The runs of a cell. There should be at most one: no figure stands for several.
    pub(crate) fn runs(&self, masters: usize, quorum: &str) -> Vec<&Cell> {
        let here = |cell: &&Cell| cell.masters == masters && cell.quorum == quorum;
        self.cells.iter().filter(here).collect()
    }
}

impl Plot for Matrix {
    fn height(&self, _width: f64) -> f64 {
        56.0 + ROW * self.rows().len().max(1) as f64 + 8.0
    }

    fn draw<DB: DrawingBackend>(&self, canvas: &Canvas<DB>) -> Result<(), PlotError> {
        let (rows, columns) = (self.rows(), self.columns());
        let title = "acknowledged per second, and p99";
        let title = canvas.fitted(title, canvas.width - 2.0, TITLE)?;
        canvas.text(&title, (2.0, 10.0), Anchor::Start, TITLE)?;
        let frame =
            Frame { left: 84.0, top: 50.0, right: canvas.width - 2.0, bottom: canvas.height - 8.0 };
        if rows.is_empty() {
            return nothing(canvas, frame, "no runs");
        }
        let width = (frame.right - frame.left) / columns.len() as f64;
        let most = self.cells.iter().map(|cell| cell.rate).fold(0.0, f64::max);
        for (column, masters) in columns.iter().enumerate() {
            let x = frame.left + (column as f64 + 0.5) * width;
            canvas.text(&format!("{masters} MASTERs"), (x, 38.0), Anchor::Middle, TICK)?;
            for (row, quorum) in rows.iter().enumerate() {
                let left = frame.left + column as f64 * width + 1.0;
                let top = frame.top + row as f64 * ROW + 1.0;
                let place = Frame { left, top, right: left + width - 2.0, bottom: top + ROW - 2.0 };
                draw_cell(canvas, place, &self.runs(*masters, quorum), most)?;
            }
        }
        for (row, quorum) in rows.iter().enumerate() {
            let y = frame.top + (row as f64 + 0.5) * ROW;
            canvas.text(&format!("W = {quorum}"), (frame.left - 8.0, y), Anchor::End, TICK)?;
        }
        Ok(())
    }
}

fn draw_cell<DB: DrawingBackend>(
    canvas: &Canvas<DB>,
    place: Frame,
    runs: &[&Cell],
    most: f64,
) -> Result<(), PlotError> {
    let middle = (place.left + place.right) / 2.0;
    canvas.fill((place.left, place.top), (place.right, place.bottom), NOTHING, 1.0)?;
    let [cell] = runs else {
        let word = match runs.len() {
            0 => "not run".to_owned(),
            count => format!("{count} runs"),
        };
        return canvas.text(&word, (middle, place.top + ROW / 2.0), Anchor::Middle, TICK);
    };
    if most > 0.0 {
        let reach = place.left + (place.right - place.left) * cell.rate / most;
        canvas.fill((place.left, place.bottom - 5.0), (place.right, place.bottom), GRID, 1.0)?;
        canvas.fill((place.left, place.bottom - 5.0), (reach, place.bottom), OK, 1.0)?;
    }
    let rate = format!("{:.0}/s", cell.rate);
    let width = place.right - place.left - 4.0;
    canvas.text(
        &canvas.fitted(&rate, width, BIG)?,
        (middle, place.top + 15.0),
        Anchor::Middle,
        BIG,
    )?;
    let latency = canvas.fitted(&cell.latency, width, TICK)?;
    canvas.text(&latency, (middle, place.top + 34.0), Anchor::Middle, TICK)?;
    if cell.unsound {
        let half = canvas.text_width(&rate, BIG)? / 2.0;
        let y = place.top + 15.0;
        canvas.line([(middle - half, y), (middle + half, y)], FAINT, 1.5)?;
    }
    Ok(())
}

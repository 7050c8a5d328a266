//! Writing to stdout: lines, tables, JSON. A closed pipe is an error value, never a panic.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Stdout of the command.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Output;

impl Output {
    /// One line, or several.
    pub(super) fn line(self, text: impl std::fmt::Display) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}")?;
        stdout.flush()
    }

    /// A table without borders; nothing when there are no rows.
    pub(super) fn table(self, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !header.is_empty() {
            table.set_header(header);
        }
        table.add_rows(rows);
        self.line(table.trim_fmt())
    }

    /// Indented JSON.
    pub(super) fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string_pretty(value)?)?)
    }
}

/// True when `error` says that the reader of stdout is gone.
pub(super) fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

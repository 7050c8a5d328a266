//! The command line front end: arguments, tables, exit codes. The only module that writes to
//! stdout. May not know how anything is done; each subcommand is a file that calls the library.

mod ab;
mod arguments;
mod capacity;
mod chaos;
mod clean;
mod compare;
mod compared;
mod doctor;
mod exit;
mod explain;
mod export;
mod init;
mod list;
mod offline;
mod output;
mod plan;
mod progress;
mod prune;
mod render;
mod resume;
mod run;
mod schema;
mod screen;
mod suite;
mod sweep;
mod trend;
mod verdict;

use clap::Parser;

use self::arguments::{Arguments, Command};
pub use self::exit::Exit;
use self::output::Output;
use crate::compare::CompareError;
use crate::export::ExportError;
use crate::render::RenderError;
use crate::report::ReportError;
use crate::run::choice::Refused;
use crate::spec::SpecError;

/// Version and commit of this build.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("QUORATE_COMMIT"), ")");

/// Runs the command line of this process.
#[must_use]
pub fn main() -> Exit {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come here too; they are no mistake.
            let exit = if error.use_stderr() { Exit::BadSpec } else { Exit::Good };
            return error.print().map_or(Exit::Harness, |()| exit);
        }
    };
    match dispatch(arguments.command) {
        Ok(exit) => exit,
        Err(error) => failed(&error),
    }
}

fn dispatch(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Plan(arguments) => plan::plan(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Suite(arguments) => suite::suite(&arguments),
        Command::Sweep(arguments) => sweep::sweep(&arguments),
        Command::Capacity(arguments) => capacity::capacity(&arguments),
        Command::Chaos(arguments) => chaos::chaos(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Ab(arguments) => ab::ab(&arguments),
        Command::Trend(arguments) => trend::trend(&arguments),
        Command::Check(arguments) => offline::check(&arguments),
        Command::Report(arguments) => offline::report(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Prune(arguments) => prune::prune(&arguments),
        Command::Explain(arguments) => explain::explain(&arguments),
        Command::Init(arguments) => init::init(&arguments),
        Command::Doctor(arguments) => doctor::doctor(&arguments),
        Command::Render(arguments) => render::render(&arguments),
        Command::Schema(arguments) => schema::schema(&arguments),
        Command::List(arguments) => list::list(&arguments),
        Command::Clean(arguments) => clean::clean(&arguments),
    }
}

/// Says why there is no result, and whose fault it is.
fn failed(error: &anyhow::Error) -> Exit {
    if let Some(problems) = error.downcast_ref::<SpecError>() {
        eprintln!("{problems}");
        return Exit::BadSpec;
    }
    if let Some(refused) = error.downcast_ref::<Refused>() {
        eprintln!("{refused}");
        return Exit::BadSpec;
    }
    if let Some(refused @ (RenderError::Simulated | RenderError::Option { .. })) =
        error.downcast_ref::<RenderError>()
    {
        eprintln!("{refused}");
        return Exit::BadSpec;
    }
    if let Some(error @ (ReportError::NoRuns { .. } | ReportError::NoSummary { .. })) =
        error.downcast_ref::<ReportError>()
    {
        eprintln!("error: {error}");
        return Exit::BadSpec;
    }
    if let Some(error) = error.downcast_ref::<CompareError>() {
        eprintln!("error: {error}");
        return Exit::BadSpec;
    }
    if let Some(error @ ExportError::Missing { .. }) = error.downcast_ref::<ExportError>() {
        eprintln!("error: {error}");
        return Exit::BadSpec;
    }
    if output::is_closed(error) {
        // The reader of a pipe has seen enough.
        return Exit::Good;
    }
    eprintln!("error: {}", with_causes(error));
    Exit::Harness
}

/// The error and its causes. Most errors of the harness tell their cause themselves, those of
/// libraries often do not: what was said already is not said again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunError;

    #[test]
    fn a_cause_is_told_once() {
        let source = serde_json::from_str::<u8>("").unwrap_err();
        let cause = source.to_string();
        let error = RunError::Json { path: "plan.json".into(), source };
        assert_eq!(with_causes(&error.into()), format!("plan.json: {cause}"));
        let hidden = anyhow::anyhow!("refused").context("cannot connect");
        assert_eq!(with_causes(&hidden), "cannot connect: refused");
    }
}

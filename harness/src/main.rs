//! The `quorate` command. Everything it does lives in the library; this picks the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate::cli::main().into()
}

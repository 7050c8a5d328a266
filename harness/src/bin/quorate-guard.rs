//! `quorate-guard watch`: kills what a dead harness leaves behind. `quorate-guard exec PARENT
//! PROGRAM …`: becomes PROGRAM, to be killed with its parent. Argument parsing alone lives here.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, bail};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quorate-guard: {error:#}");
            // The harness itself failed.
            ExitCode::from(4)
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_deref().and_then(|verb| verb.to_str()) {
        Some("watch") => Ok(quorate::guard::watch::run()?),
        Some("exec") => {
            let parent = arguments.next().and_then(|pid| pid.into_string().ok());
            let parent = parent.context("no parent")?.parse().context("parent is a pid")?;
            let program = arguments.next().context("no program")?;
            let rest: Vec<OsString> = arguments.collect();
            match quorate::guard::exec::run(parent, &program, &rest)
                .with_context(|| format!("cannot execute {}", program.display()))? {}
        }
        _ => bail!("usage: quorate-guard watch | exec PARENT PROGRAM [ARGUMENT]..."),
    }
}

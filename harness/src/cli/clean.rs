//! `quorate clean`: removes what killed harnesses left running, and nothing of those that live.

use serde::Serialize;

use super::arguments::CleanArguments;
use super::run::blocking;
use super::{Exit, Output};
use crate::engine::{Engine, Left, leftovers, remove_run};
use crate::guard::strays::strays;
use crate::owner::Owner;

/// One thing of some harness.
#[derive(Debug, Serialize)]
struct Found {
    what: &'static str,
    name: String,
    harness: String,
    done: String,
}

impl Found {
    fn new(what: &'static str, name: String, owner: Option<Owner>, done: String) -> Self {
        let harness = owner.map_or_else(|| "unknown".to_owned(), |owner| owner.pid().to_string());
        Self { what, name, harness, done }
    }
}

/// What is done with things of this harness.
fn is_left(owner: Option<Owner>) -> bool {
    owner.is_none_or(|owner| !owner.is_alive())
}

const LEFT_ALONE: &str = "left alone, its harness runs";

pub(super) fn clean(arguments: &CleanArguments) -> anyhow::Result<Exit> {
    let mut found = processes()?;
    let (at_engine, unseen) = blocking(async {
        match Engine::connect().await {
            Ok(engine) => Ok((containers(&engine).await?, None)),
            Err(error) => Ok((Vec::new(), Some(error.to_string()))),
        }
    })?;
    found.extend(at_engine);
    let failed = found.iter().any(|found| found.done.starts_with("failed"));
    if arguments.json {
        Output.json(&found)?;
    } else {
        if let Some(reason) = unseen {
            Output.line(format!("containers were not looked for: {reason}"))?;
        }
        if found.is_empty() {
            Output.line("nothing of any harness is here")?;
        }
        let rows = found.into_iter().map(|found| {
            vec![
                found.what.to_owned(),
                found.name,
                format!("harness {}", found.harness),
                found.done,
            ]
        });
        Output.table(&[], rows.collect())?;
    }
    Ok(if failed { Exit::Harness } else { Exit::Good })
}

fn processes() -> anyhow::Result<Vec<Found>> {
    let found = strays()?.into_iter().map(|stray| {
        let done = if is_left(Some(stray.owner)) {
            done(stray.kill().map_err(|error| error.to_string()), "killed")
        } else {
            LEFT_ALONE.to_owned()
        };
        let name = format!("{} {}", stray.pid, stray.command);
        Found::new("process", name, Some(stray.owner), done)
    });
    Ok(found.collect())
}

async fn containers(engine: &Engine) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    let all = leftovers(engine).await?;
    let mut runs: Vec<&str> = all.iter().map(|left| left.run.as_str()).collect();
    runs.sort_unstable();
    runs.dedup();
    for run in runs {
        let of_run: Vec<&Left> = all.iter().filter(|left| left.run == run).collect();
        let done = if of_run.iter().all(|left| is_left(left.owner)) {
            let removed = remove_run(engine, run).await.map(drop);
            done(removed.map_err(|error| error.to_string()), "removed")
        } else {
            LEFT_ALONE.to_owned()
        };
        let of_run = of_run.into_iter();
        found.extend(
            of_run.map(|left| Found::new(left.what, left.name.clone(), left.owner, done.clone())),
        );
    }
    Ok(found)
}

fn done(result: Result<(), String>, word: &str) -> String {
    match result {
        Ok(()) => word.to_owned(),
        Err(error) => format!("failed: {error}"),
    }
}

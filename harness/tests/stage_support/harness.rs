//! A harness that starts a stage, of containers when its second argument says so, tells which
//! processes it started and the name of its run, and waits to be killed.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]
#![allow(clippy::print_stdout, reason = "its parent reads the process ids")]

#[path = "mod.rs"]
mod support;

use quorate::folder::RunFolder;
use quorate::run::parts::Clock;
use quorate::stage::{DockerStage, ProcessStage};

#[tokio::main]
async fn main() {
    let folder = RunFolder::new(std::env::args().nth(1).unwrap());
    let (plan, clock) = (support::plan(Vec::new()), Clock::start());
    let stage = if std::env::args().nth(2).as_deref() == Some("docker") {
        DockerStage::start_with(&plan, &folder, clock, support::container_options()).await.unwrap()
    } else {
        ProcessStage::start_with(&plan, &folder, clock, support::options()).await.unwrap()
    };
    let mut words: Vec<String> = stage.pids().iter().map(ToString::to_string).collect();
    words.extend(stage.run_at_engine().map(str::to_string));
    println!("{}", words.join(" "));
    std::future::pending::<()>().await;
}

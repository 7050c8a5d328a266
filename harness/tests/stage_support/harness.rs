//! A harness that starts a stage, says which processes it started, and waits to be killed.
#![allow(clippy::unwrap_used, reason = "a failed expectation of a test ends it")]
#![allow(clippy::print_stdout, reason = "its parent reads the process ids")]

#[path = "mod.rs"]
mod support;

use quorate::folder::RunFolder;
use quorate::run::parts::Clock;
use quorate::stage::ProcessStage;

#[tokio::main]
async fn main() {
    let folder = RunFolder::new(std::env::args().nth(1).unwrap());
    let (plan, options) = (support::plan(Vec::new()), support::options());
    let stage = ProcessStage::start_with(&plan, &folder, Clock::start(), options).await.unwrap();
    let pids: Vec<String> = stage.pids().iter().map(ToString::to_string).collect();
    println!("{}", pids.join(" "));
    std::future::pending::<()>().await;
}

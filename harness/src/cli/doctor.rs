//! `quorate doctor`: what this machine lacks for a run, each with its fix. Changes nothing.

mod finding;
mod system;

use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use self::finding::{Finding, State};
use self::system::System;
use super::arguments::DoctorArguments;
use super::{Exit, Output};
use crate::plan::build;
use crate::run::choice::Offer;
use crate::run::{disk, machine};
use crate::spec::{Overrides, SpecError, workload};
use crate::stage::{Program, StageOptions, disks_unavailable, files_needed};

/// Memory that three servers, their proxy and the driver need to be comfortable.
const MEMORY_MIN: u64 = 1 << 30;
/// Descriptors that the largest shipped workload needs.
const FILES_MIN: u64 = 4096;

pub(super) fn doctor(arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let programs = &arguments.programs;
    let mut findings = vec![
        program("server", Program::Node, programs.node_bin.clone()),
        program("fault proxy", Program::Proxy, programs.proxy_bin.clone()),
        program("guard", Program::Guard, None),
        open_files(files_of(arguments.file.as_deref())?),
        disk_of(&arguments.out),
        memory(),
        failing_disks(),
        engine(&StageOptions { node: programs.node_bin.clone(), ..StageOptions::from_env() })?,
        browser(),
    ];
    findings.extend(System::new(Path::new("/")).findings());
    let works = findings.iter().all(|finding| finding.state != State::Missing);
    if arguments.json {
        Output.json(&findings)?;
    } else {
        let word = |state| match state {
            State::Ok => "ok",
            State::Optional => "optional",
            State::Doubtful => "doubtful",
            State::Missing => "MISSING",
        };
        let rows = findings.into_iter();
        let rows = rows.map(|f| vec![f.what, word(f.state).to_owned(), f.found, f.fix]).collect();
        Output.table(&["what", "", "found", "fix"], rows)?;
    }
    Ok(if works { Exit::Good } else { Exit::Harness })
}

fn program(what: &str, program: Program, given: Option<PathBuf>) -> Finding {
    match program.find(given) {
        Ok(path) => Finding::new(what, State::Ok, path.display().to_string(), ""),
        Err(_) => {
            let fix = format!("make build, or set {} to its path", program.variable());
            let found = format!("no {} beside quorate", program.file_name());
            Finding::new(what, State::Missing, found, fix)
        }
    }
}

/// Descriptors that a workload needs, or the largest one that is shipped.
fn files_of(file: Option<&Path>) -> anyhow::Result<u64> {
    let Some(file) = file else { return Ok(FILES_MIN) };
    let spec = workload(file, &Overrides::default())?;
    Ok(files_needed(&build(&spec, spec.seed).map_err(SpecError::Invalid)?))
}

/// Runs raise the limit by themselves, as far as they may.
fn open_files(needed: u64) -> Finding {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Finding::new("open files", State::Doubtful, "unknown", "ulimit -n 65536");
    };
    let state = if hard < needed { State::Doubtful } else { State::Ok };
    let fix = "raise the hard limit (limits.conf, systemd LimitNOFILE, docker --ulimit nofile)";
    Finding::new("open files", state, format!("at most {hard}; {needed} are needed"), fix)
}

fn disk_of(out: &Path) -> Finding {
    let folder = out.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let kind = disk::file_system(folder).unwrap_or_else(|| "unknown file system".to_owned());
    match disk::sync_cost(folder) {
        Ok(cost) => {
            let lies = cost.p50 < disk::SYNC_P50_MIN || kind == "tmpfs";
            let state = if lies { State::Doubtful } else { State::Ok };
            let sign = if lies { ": a sign that nothing reaches a disk" } else { "" };
            let found = format!("{kind}, fdatasync p50 {:?}, p99 {:?}{sign}", cost.p50, cost.p99);
            Finding::new("disk", state, found, "--out on a disk that syncs, not tmpfs")
        }
        Err(error) => {
            let found = format!("{}: {error}", folder.display());
            Finding::new("disk", State::Missing, found, "--out with a folder that can be written")
        }
    }
}

fn memory() -> Finding {
    let Some(bytes) = machine::memory_available() else {
        return Finding::new("memory", State::Doubtful, "unknown", "needs /proc/meminfo");
    };
    let state = if bytes < MEMORY_MIN { State::Doubtful } else { State::Ok };
    let found = format!("{} MiB available", bytes >> 20);
    Finding::new("memory", state, found, "stop other programs, or use fewer MASTERs")
}

fn failing_disks() -> Finding {
    match disks_unavailable() {
        None => Finding::new("disks that fail", State::Ok, "can be mounted", ""),
        Some(reason) => {
            let fix = "run as root where /dev/fuse is, or leave faults of disks out";
            Finding::new("disks that fail", State::Optional, reason, fix)
        }
    }
}

fn engine(options: &StageOptions) -> std::io::Result<Finding> {
    let what = "container engine";
    Ok(match Offer::ask("docker", options)?.lacks() {
        None => Finding::new(what, State::Ok, "answers and has the images", ""),
        Some(lack) => {
            let fix = "start an engine and run make image, or use --stage process";
            Finding::new(what, State::Optional, lack, fix)
        }
    })
}

fn browser() -> Finding {
    let names = ["xdg-open", "firefox", "chromium", "google-chrome", "open"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names
        .iter()
        .find(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    match found {
        Some(name) => Finding::new("browser", State::Ok, *name, ""),
        None => {
            let fix = "copy report.html to a machine with a browser; it is one file";
            Finding::new("browser", State::Optional, "none", fix)
        }
    }
}

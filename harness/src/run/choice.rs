//! Which stage runs a plan, and why. Decided before anything is started.
//! May not start anything.

use std::fmt;

use super::manifest::version;
use crate::engine::{Engine, Image};
use crate::plan::Plan;
use crate::stage::{Program, StageOptions, can_do, containers_can_do, simulator_can_do};

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// Child processes on this machine.
    Process,
    /// Containers at an engine of this machine.
    Docker,
    /// The simulator, in virtual time.
    Sim,
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Docker => "docker",
            Self::Sim => "sim",
        })
    }
}

/// A stage and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The stage.
    pub stage: StageName,
    /// The reason, for people.
    pub reason: String,
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stage: {} ({})", self.stage, self.reason)
    }
}

/// No such stage, or it cannot do what the plan wants. Exit code 3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such stage.
    #[error("--stage {asked}: there is no such stage; {hint}")]
    Unknown {
        /// The word given.
        asked: String,
        /// What there is.
        hint: String,
    },
    /// The stage is there and cannot do it.
    #[error("--stage {stage}: {why}")]
    Cannot {
        /// The stage.
        stage: StageName,
        /// What it cannot do, and what can.
        why: String,
    },
}

/// What the container engine has to offer, asked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Why containers cannot be had at all.
    missing: Option<String>,
    /// What is wrong with the images all the same.
    stale: Option<String>,
}

impl Offer {
    /// Asks the engine, if it matters for the stage asked for. Blocks the thread.
    ///
    /// # Errors
    /// When there is no runtime to be had.
    pub fn ask(asked: &str, options: &StageOptions) -> std::io::Result<Self> {
        if !matches!(asked, "auto" | "docker") {
            let missing = Some("not asked".to_owned());
            return Ok(Self { missing, stale: None });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let node = runtime.block_on(async {
            let engine = Engine::connect().await?;
            engine.image(&options.proxy_image).await?;
            engine.image(&options.node_image).await
        });
        Ok(match node {
            Ok(image) => Self { missing: None, stale: stale(&image, options) },
            Err(error) => Self { missing: Some(error.to_string()), stale: None },
        })
    }

    /// Why containers cannot be had, or should not be without being asked for.
    #[must_use]
    pub fn lacks(&self) -> Option<&str> {
        self.missing.as_deref().or(self.stale.as_deref())
    }
}

/// An image is stale beside a program of another version.
fn stale(image: &Image, options: &StageOptions) -> Option<String> {
    let program = Program::Node.find(options.node.clone()).ok()?;
    let built = version(&program).ok()?;
    let inside = image.version.as_deref().unwrap_or("of an unknown version");
    let name = &image.name;
    (inside != built).then(|| format!("the image {name} is {inside}, built here is {built}"))
}

/// The stage for `plan`, where `asked` is `auto` or a name.
///
/// # Errors
/// A stage that cannot run the plan; the message names one that can.
pub fn choose(
    asked: &str,
    plan: &Plan,
    options: &StageOptions,
    offer: &Offer,
) -> Result<Choice, Refused> {
    let refused = |stage, why: String| Err(Refused::Cannot { stage, why });
    let process = |reason: String| {
        let stage = StageName::Process;
        match can_do(plan, options) {
            Ok(()) => Ok(Choice { stage, reason }),
            Err(error) => refused(stage, error.to_string()),
        }
    };
    let stage = StageName::Docker;
    let lacks = offer.lacks().map(str::to_owned);
    let feasible = containers_can_do(plan, options).map_err(|error| error.to_string());
    match asked {
        "auto" => match (lacks, feasible) {
            (Some(reason), _) | (None, Err(reason)) => process(format!("not docker: {reason}")),
            (None, Ok(())) => {
                let reason = "an engine answers and has the images".to_owned();
                Ok(Choice { stage, reason })
            }
        },
        "process" => process("asked for".to_owned()),
        "docker" => match (&offer.missing, feasible) {
            (_, Err(why)) => refused(stage, why),
            (Some(missing), Ok(())) => refused(stage, missing.clone()),
            (None, Ok(())) => {
                let stale = offer.stale.as_ref().map(|stale| format!("; {stale}"));
                let reason = format!("asked for{}", stale.unwrap_or_default());
                Ok(Choice { stage, reason })
            }
        },
        "sim" => {
            let stage = StageName::Sim;
            match simulator_can_do(plan, options) {
                Ok(()) => Ok(Choice { stage, reason: "asked for".to_owned() }),
                Err(error) => refused(stage, error.to_string()),
            }
        }
        other => {
            let hint = crate::spec::hint(other, &["auto", "process", "docker", "sim"]);
            Err(Refused::Unknown { asked: other.to_owned(), hint })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{DiskFault, FaultKind, PlannedFault, Target, build};
    use crate::spec::{Overrides, workload};

    fn plan(fault: Option<FaultKind>) -> Plan {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../workloads/baseline.yaml");
        let spec = workload(path.as_ref(), &Overrides::default()).unwrap();
        let mut plan = build(&spec, 1).unwrap();
        let name = "f".to_owned();
        plan.faults.extend(fault.map(|kind| PlannedFault {
            name,
            at_ms: 0,
            for_ms: 1,
            kind,
            drawn_as: None,
            trigger: None,
        }));
        plan
    }

    fn chosen(asked: &str, plan: &Plan, offer: &Offer) -> Result<Choice, Refused> {
        choose(asked, plan, &StageOptions::default(), offer)
    }

    #[test]
    fn auto_takes_docker_when_all_is_there_and_says_why_not_otherwise() {
        let plan = plan(None);
        let all = Offer { missing: None, stale: None };
        assert_eq!(chosen("auto", &plan, &all).unwrap().stage, StageName::Docker);
        let none = Offer { missing: Some("no engine".to_owned()), stale: None };
        let choice = chosen("auto", &plan, &none).unwrap();
        assert_eq!(choice.to_string(), "stage: process (not docker: no engine)");
        assert!(chosen("docker", &plan, &none).unwrap_err().to_string().contains("no engine"));
        let stale = Offer { missing: None, stale: Some("old".to_owned()) };
        assert_eq!(chosen("auto", &plan, &stale).unwrap().stage, StageName::Process);
        let choice = chosen("docker", &plan, &stale).unwrap();
        assert_eq!(choice.to_string(), "stage: docker (asked for; old)");
    }

    #[test]
    fn a_fault_that_containers_cannot_do_is_refused_with_a_stage_that_can() {
        let kind = FaultKind::Disk { target: Target::One, disk: DiskFault::Full };
        let plan = plan(Some(kind));
        let all = Offer { missing: None, stale: None };
        let text = chosen("docker", &plan, &all).unwrap_err().to_string();
        assert!(text.contains("full disk one") && text.contains("--stage process"), "{text}");
    }
}

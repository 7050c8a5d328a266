//! Which stage runs a plan, and why. Decided before anything is started.
//! May not start anything; whether an engine answers is asked by the stage concerned.

use std::fmt;

use crate::plan::Plan;
use crate::stage::{StageOptions, can_do};

/// A stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageName {
    /// Child processes on this machine.
    Process,
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
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
    /// The stage is not part of this build.
    #[error(
        "--stage {asked}: `{plan}` cannot run there, this build has no {asked} stage; \
         --stage process can run it"
    )]
    NotBuilt {
        /// The stage asked for.
        asked: String,
        /// Name of the plan.
        plan: String,
    },
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

/// The stage for `plan`, where `asked` is `auto` or a name.
///
/// # Errors
/// A stage that cannot run the plan; the message names one that can.
pub fn choose(asked: &str, plan: &Plan, options: &StageOptions) -> Result<Choice, Refused> {
    let process = |reason: &str| {
        let stage = StageName::Process;
        match can_do(plan, options) {
            Ok(()) => Ok(Choice { stage, reason: reason.to_owned() }),
            Err(error) => Err(Refused::Cannot { stage, why: error.to_string() }),
        }
    };
    match asked {
        "auto" => process("the only stage of this build; needs nothing installed"),
        "process" => process("asked for"),
        "docker" | "sim" => {
            Err(Refused::NotBuilt { asked: asked.to_owned(), plan: plan.name.clone() })
        }
        other => {
            let hint = crate::spec::hint(other, &["auto", "process", "docker", "sim"]);
            Err(Refused::Unknown { asked: other.to_owned(), hint })
        }
    }
}

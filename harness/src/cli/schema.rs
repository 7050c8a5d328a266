//! `quorate schema`: JSON Schemas for editors and other tools.

use super::arguments::{SchemaArguments, SchemaKind};
use super::{Exit, Output};
use crate::spec::schema::FileKind;

pub(super) fn schema(arguments: &SchemaArguments) -> anyhow::Result<Exit> {
    let kind = match arguments.kind {
        SchemaKind::Workload => FileKind::Workload,
        SchemaKind::Scenario => FileKind::Scenario,
        SchemaKind::Suite => FileKind::Suite,
        SchemaKind::Gate => FileKind::Gate,
    };
    Output.json(&kind.schema())?;
    Ok(Exit::Good)
}

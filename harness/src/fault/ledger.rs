//! What is injected and not yet healed, what was recorded, and what came out unproven.
//! The one place that every exit path asks what there is to heal.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::describe;
use crate::folder::{FaultAction, FaultRecord, SoundnessFinding};
use crate::plan::PlannedFault;
use crate::stage::StageError;

/// Shared by the schedule, the final heal and the end of the stage.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    active: BTreeMap<String, (PlannedFault, Vec<String>)>,
    records: Vec<FaultRecord>,
    findings: Vec<SoundnessFinding>,
}

impl Ledger {
    /// A ledger that appends its records to the file at `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, inner: Mutex::default() }
    }

    /// Notes a fault before anything of it is done, so that it will be healed whatever happens.
    pub(crate) fn open(&self, fault: &PlannedFault, servers: &[String]) {
        let entry = (fault.clone(), servers.to_vec());
        self.lock().active.insert(fault.name.clone(), entry);
    }

    /// Strikes a healed fault; false when it was healed already.
    pub(crate) fn close(&self, name: &str) -> bool {
        self.lock().active.remove(name).is_some()
    }

    /// True while a fault is noted.
    pub(crate) fn is_open(&self, name: &str) -> bool {
        self.lock().active.contains_key(name)
    }

    /// Everything injected and not healed, with the servers hit.
    pub(crate) fn active(&self) -> Vec<(PlannedFault, Vec<String>)> {
        self.lock().active.values().cloned().collect()
    }

    /// Keeps a record, in memory and at once in the file.
    pub(crate) fn record(&self, record: FaultRecord) -> Result<(), StageError> {
        let mut inner = self.lock();
        if record.proven.is_none() {
            inner.findings.push(unproven(&record));
        }
        let failed = |source| StageError::File { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(&record).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        inner.records.push(record);
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(&line)).map_err(failed)
    }

    /// Notes a fault that never begins. Unless the plan can do without it, what the run was to
    /// show was not shown.
    pub(crate) fn left_out(&self, fault: &PlannedFault, why: &str) {
        let fatal = !fault.trigger.as_ref().is_some_and(|trigger| trigger.may_lapse);
        let (name, requested) = (&fault.name, describe(&fault.kind));
        let detail = format!("{name} ({requested}) was not begun: {why}");
        let code = "fault_not_begun".to_string();
        self.lock().findings.push(SoundnessFinding { code, fatal, detail });
    }

    /// Every record so far, in order of effect.
    #[must_use]
    pub fn records(&self) -> Vec<FaultRecord> {
        let mut records = self.lock().records.clone();
        records.sort_by_key(|record| record.acknowledged);
        records
    }

    /// Findings about faults without effect.
    #[must_use]
    pub fn findings(&self) -> Vec<SoundnessFinding> {
        self.lock().findings.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unproven(record: &FaultRecord) -> SoundnessFinding {
    let what = match record.action {
        FaultAction::Inject => "was not seen to bite",
        FaultAction::Heal => "was not seen to heal",
    };
    SoundnessFinding {
        code: "fault_without_effect".to_string(),
        fatal: true,
        detail: format!("{} ({}) {what}: {}", record.name, record.requested, record.evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(proven: Option<u64>, acknowledged: u64) -> FaultRecord {
        FaultRecord {
            name: "cut".to_string(),
            action: FaultAction::Inject,
            requested: "partition silent one".to_string(),
            resolved: vec!["n1".to_string()],
            planned: 1,
            begun: 2,
            acknowledged,
            proven,
            evidence: "no byte was held".to_string(),
        }
    }

    #[test]
    fn an_unproven_fault_is_fatal_and_recorded_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faults.jsonl");
        let ledger = Ledger::new(path.clone());
        ledger.record(record(Some(9), 5)).unwrap();
        ledger.record(record(None, 3)).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let read: Vec<FaultRecord> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read.len(), 2);
        let order: Vec<u64> = ledger.records().iter().map(|record| record.acknowledged).collect();
        assert_eq!(order, [3, 5]);
        let findings = ledger.findings();
        assert_eq!(findings.len(), 1);
        assert!(findings[0].fatal && findings[0].code == "fault_without_effect");
    }
}

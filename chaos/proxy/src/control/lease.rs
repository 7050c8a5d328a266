//! The lease: who sets faults must keep saying so, or they fall. For proxies that outlive the
//! harness that drives them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::commit::Effect;
use super::{Control, Registry};
use crate::model::{DURATION_MS_MAX, Refusal, check_name};

/// What falls when a lease runs out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Covers {
    /// Everything set through the extension, whoever set it.
    #[default]
    Rules,
    /// Also standard toxics and disabling: what `POST /reset` heals.
    All,
}

/// Taking or renewing the lease.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseRequest {
    /// Who holds it.
    holder: String,
    /// How long it lasts without being renewed, milliseconds.
    ttl_ms: u64,
    #[serde(default)]
    covers: Covers,
}

/// The lease in force. There is one for the whole process: a proxy serves one harness run.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    holder: String,
    ttl: Duration,
    covers: Covers,
    deadline: Instant,
}

/// The lease as the API shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LeaseView {
    holder: Option<String>,
    ttl_ms: u64,
    left_ms: u64,
    covers: Option<Covers>,
    /// Leases that ran out and healed what they covered, since the process started.
    expired: u64,
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Registry {
    /// # Errors
    /// `Invalid` for a bad request, `LeaseHeld` when it is somebody else's.
    pub(super) fn check_lease(&self, request: &LeaseRequest) -> Result<(), Refusal> {
        check_name("holder", &request.holder)?;
        if !(1..=DURATION_MS_MAX).contains(&request.ttl_ms) {
            return Err(Refusal::Invalid("ttl_ms must be from 1 ms to a day".to_owned()));
        }
        match &self.lease {
            Some(lease) if lease.holder != request.holder => {
                Err(Refusal::LeaseHeld(lease.holder.clone()))
            }
            _ => Ok(()),
        }
    }

    fn lease_view(&self) -> LeaseView {
        let now = Instant::now();
        let lease = self.lease.as_ref();
        LeaseView {
            holder: lease.map(|lease| lease.holder.clone()),
            ttl_ms: lease.map_or(0, |lease| millis(lease.ttl)),
            left_ms: lease.map_or(0, |l| millis(l.deadline.saturating_duration_since(now))),
            covers: lease.map(|lease| lease.covers),
            expired: self.leases_expired,
        }
    }
}

impl Control {
    /// The lease in force.
    pub(crate) async fn lease(&self) -> LeaseView {
        self.registry.lock().await.lease_view()
    }

    /// Takes or renews the lease.
    pub(crate) async fn renew(&self, request: LeaseRequest) -> Result<LeaseView, Refusal> {
        let mut registry = self.registry.lock().await;
        registry.check_lease(&request)?;
        self.take_lease(&mut registry, request);
        Ok(registry.lease_view())
    }

    /// Puts a checked lease in force; its time counts from now.
    pub(super) fn take_lease(&self, registry: &mut Registry, request: LeaseRequest) {
        let LeaseRequest { holder, ttl_ms, covers } = request;
        let ttl = Duration::from_millis(ttl_ms);
        registry.lease = Some(Lease { holder, ttl, covers, deadline: Instant::now() + ttl });
        self.lease_changed.notify_one();
    }

    /// Gives the lease up and heals what it covers.
    pub(crate) async fn release(&self) -> Result<Effect, Refusal> {
        let mut registry = self.registry.lock().await;
        let lease = registry.lease.clone().ok_or(Refusal::NoLease)?;
        let effect = self.heal_all(&mut registry, lease.covers == Covers::All).await?;
        registry.lease = None;
        Ok(effect)
    }

    /// Heals when the lease runs out, for as long as the process lives.
    pub(crate) async fn keep_lease(self: Arc<Self>) {
        loop {
            let deadline = self.registry.lock().await.lease.as_ref().map(|l| l.deadline);
            tokio::select! {
                () = self.lease_changed.notified() => {}
                () = until(deadline) => self.expire().await,
            }
        }
    }

    async fn expire(&self) {
        let mut registry = self.registry.lock().await;
        // It may have been renewed while the lock was waited for.
        let Some(lease) = registry.lease.clone().filter(|l| l.deadline <= Instant::now()) else {
            return;
        };
        tracing::warn!(holder = %lease.holder, "lease ran out, healing");
        match self.heal_all(&mut registry, lease.covers == Covers::All).await {
            Ok(_) => {
                registry.lease = None;
                registry.leases_expired += 1;
            }
            Err(refusal) => {
                tracing::error!(%refusal, "healing failed, trying again");
                if let Some(lease) = &mut registry.lease {
                    lease.deadline = Instant::now() + RETRY;
                }
            }
        }
    }
}

/// Pause between attempts to heal when a port cannot be listened on.
const RETRY: Duration = Duration::from_millis(500);

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

//! What the HTTP layer counts itself, and its Prometheus text. May not count anything but requests,
//! their attempts, and connections: the rest is the runtime's.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_api::{ErrorCode, Outcome};

/// All codes, for counters by code.
const CODES: [ErrorCode; 30] = [
    ErrorCode::NoQuorum,
    ErrorCode::QuorumFailed,
    ErrorCode::VersionConflict,
    ErrorCode::Busy,
    ErrorCode::GenerationChanged,
    ErrorCode::NotFound,
    ErrorCode::UnknownDatabase,
    ErrorCode::UnknownClass,
    ErrorCode::UnknownCluster,
    ErrorCode::DatabaseExists,
    ErrorCode::ClassExists,
    ErrorCode::UnknownIndex,
    ErrorCode::IndexExists,
    ErrorCode::DuplicateKey,
    ErrorCode::SchemaChanged,
    ErrorCode::TokenExpired,
    ErrorCode::NotOwner,
    ErrorCode::NotMaster,
    ErrorCode::Deadline,
    ErrorCode::UnresolvedIntent,
    ErrorCode::ReadTimeout,
    ErrorCode::SessionBehind,
    ErrorCode::Overload,
    ErrorCode::NotReady,
    ErrorCode::BadRequest,
    ErrorCode::Unsupported,
    ErrorCode::TooLarge,
    ErrorCode::Unauthorized,
    ErrorCode::UnknownRoute,
    ErrorCode::Storage,
];

/// What the HTTP layer counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    errors: [AtomicU64; CODES.len()],
    /// Queries that an index answered.
    pub(super) index_lookups: AtomicU64,
    /// Times that a request was begun again by itself.
    pub(super) restarts: AtomicU64,
    /// Attempts that another version stood in the way of, whoever found it.
    pub(super) conflicts: AtomicU64,
    /// Requests answered with what an earlier attempt under their token had earned.
    pub(super) token_answers: AtomicU64,
    /// Transactions answered before their outcome, and what became of them since.
    accepted: AtomicU64,
    decided_later: [AtomicU64; 3],
    session_waits: AtomicU64,
    session_wait_us: AtomicU64,
    /// Open connections; the server tells others of them.
    pub(super) connections: Arc<AtomicU64>,
    /// Running requests; the server does not stop before them.
    pub(super) running: Arc<AtomicU64>,
    /// Connections refused because there were too many.
    pub(super) refused: AtomicU64,
}

impl Counters {
    /// Nothing counted so far; connections and running requests are counted where somebody else
    /// looks, too.
    pub(super) fn new(connections: Arc<AtomicU64>, running: Arc<AtomicU64>) -> Self {
        Self { connections, running, ..Self::default() }
    }

    /// Counts an answered request; `error` is its refusal's code, if it was one.
    pub(super) fn count(&self, error: Option<ErrorCode>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(index) = CODES.iter().position(|code| Some(*code) == error) {
            self.errors[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a wait until this server had caught up with a session.
    pub(super) fn waited(&self, time: Duration) {
        self.session_waits.fetch_add(1, Ordering::Relaxed);
        self.session_wait_us.fetch_add(crate::clock::micros(time), Ordering::Relaxed);
    }

    /// Counts a transaction whose client was answered before the outcome.
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the outcome of one of them.
    pub(super) fn decided_later(&self, outcome: Outcome) {
        let index = match outcome {
            Outcome::Ok => 0,
            Outcome::Failed => 1,
            Outcome::Unknown => 2,
        };
        self.decided_later[index].fetch_add(1, Ordering::Relaxed);
    }

    /// As Prometheus text; `held` is what requests may hold, do hold, and how often one was refused
    /// for it.
    pub(super) fn render(&self, held: (usize, usize, u64)) -> String {
        let mut out = Text(String::with_capacity(2048));
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        out.head("quorate_http_requests_total", "counter", "HTTP requests answered.");
        out.line(format_args!("quorate_http_requests_total {}", number(&self.requests)));
        out.head("quorate_http_errors_total", "counter", "HTTP requests refused or failed.");
        for (code, count) in CODES.iter().zip(&self.errors).filter(|(_, n)| number(n) > 0) {
            let outcome = match code.outcome() {
                Outcome::Ok => "ok",
                Outcome::Failed => "failed",
                Outcome::Unknown => "unknown",
            };
            let labels = format!("{{code=\"{code}\",outcome=\"{outcome}\"}}");
            out.line(format_args!("quorate_http_errors_total{labels} {}", number(count)));
        }
        for (name, counter, help) in [
            ("quorate_index_lookups_total", &self.index_lookups, "Queries that an index answered."),
            ("quorate_http_restarts_total", &self.restarts, "Requests begun again by themselves."),
            ("quorate_http_conflicts_total", &self.conflicts, "Attempts with a version conflict."),
            (
                "quorate_token_answers_total",
                &self.token_answers,
                "Requests answered as an earlier attempt under their token was.",
            ),
        ] {
            out.head(name, "counter", help);
            out.line(format_args!("{name} {}", number(counter)));
        }
        let early = "quorate_asynchronous_accepted_total";
        out.head(early, "counter", "Transactions answered before their outcome.");
        out.line(format_args!("{early} {}", number(&self.accepted)));
        let later = "quorate_asynchronous_outcomes_total";
        out.head(later, "counter", "What became of them.");
        for (outcome, count) in ["ok", "failed", "unknown"].iter().zip(&self.decided_later) {
            out.line(format_args!("{later}{{outcome=\"{outcome}\"}} {}", number(count)));
        }
        let waits = "quorate_session_wait_seconds";
        out.head(waits, "summary", "Waits until the server had caught up with a session.");
        let waited = Duration::from_micros(number(&self.session_wait_us)).as_secs_f64();
        out.line(format_args!("{waits}_sum {waited}"));
        out.line(format_args!("{waits}_count {}", number(&self.session_waits)));
        out.head("quorate_http_connections", "gauge", "Open HTTP connections.");
        out.line(format_args!("quorate_http_connections {}", number(&self.connections)));
        let refused = "quorate_http_connections_refused_total";
        out.head(refused, "counter", "HTTP connections refused: too many were open.");
        out.line(format_args!("{refused} {}", number(&self.refused)));
        for (name, kind, value, help) in [
            ("quorate_requests_bytes_max", "gauge", held.0 as u64, "Memory requests may have."),
            ("quorate_requests_bytes", "gauge", held.1 as u64, "Memory requests hold."),
            ("quorate_requests_refused_total", "counter", held.2, "Refused for lack of it."),
        ] {
            out.head(name, kind, help);
            out.line(format_args!("{name} {value}"));
        }
        out.0
    }
}

struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string has no way to fail.
        if self.0.write_fmt(text).is_ok() {
            self.0.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_prometheus_reads() {
        let counters = Counters::default();
        counters.count(Some(ErrorCode::Deadline));
        counters.count(None);
        counters.waited(Duration::from_millis(250));
        counters.waited(Duration::from_millis(500));
        let text = counters.render((2048, 1024, 3));
        for expected in [
            "# TYPE quorate_http_requests_total counter\nquorate_http_requests_total 2\n",
            "quorate_http_errors_total{code=\"deadline\",outcome=\"unknown\"} 1\n",
            "quorate_http_connections 0\n",
            "# TYPE quorate_requests_bytes gauge\nquorate_requests_bytes 1024\n",
            "quorate_requests_refused_total 3\n",
            "# TYPE quorate_session_wait_seconds summary\nquorate_session_wait_seconds_sum 0.75\n",
            "quorate_session_wait_seconds_count 2\n",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
        assert!(!text.contains("no_quorum"));
    }

    #[test]
    fn every_code_is_counted() {
        let counters = Counters::default();
        for code in CODES {
            counters.count(Some(code));
        }
        let counts = counters.errors.iter().map(|n| n.load(Ordering::Relaxed));
        assert!(counts.into_iter().all(|count| count == 1));
    }
}

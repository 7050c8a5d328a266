//! Counters as Prometheus text: the original's two byte counters and this proxy's own.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::control::{Control, LinkView};
use crate::path::StreamCounts;

/// A metric per link and direction: name, help, kind, how to read it.
type StreamMetric = (&'static str, &'static str, &'static str, fn(&StreamCounts) -> u64);
/// A metric per link.
type LinkMetric = (&'static str, &'static str, &'static str, fn(&LinkView) -> u64);

const STREAM_METRICS: [StreamMetric; 4] = [
    ("toxiproxy_proxy_received_bytes_total", "Bytes read from the sender.", "counter", |counts| {
        counts.received_bytes
    }),
    ("toxiproxy_proxy_sent_bytes_total", "Bytes written to the receiver.", "counter", |counts| {
        counts.delivered_bytes
    }),
    (
        "quorate_proxy_discarded_bytes_total",
        "Bytes thrown away by a toxic or an ended connection.",
        "counter",
        |counts| counts.discarded_bytes,
    ),
    ("quorate_proxy_held_bytes", "Bytes inside the proxy now.", "gauge", |counts| {
        counts.held_bytes
    }),
];

const LINK_METRICS: [LinkMetric; 7] = [
    ("quorate_proxy_connections_accepted_total", "Connections accepted.", "counter", |view| {
        view.connections.accepted
    }),
    (
        "quorate_proxy_connections_refused_total",
        "Connections reset before they reached the node.",
        "counter",
        |view| view.connections.refused,
    ),
    (
        "quorate_proxy_connections_reset_total",
        "Joined connections that ended with a reset.",
        "counter",
        |view| view.connections.reset,
    ),
    ("quorate_proxy_connections_open", "Connections that have not ended.", "gauge", |view| {
        view.connections.open
    }),
    ("quorate_proxy_connections_waiting", "Connections waiting to be dialled.", "gauge", |view| {
        view.connections.waiting
    }),
    ("quorate_proxy_connections_half_open", "Ends kept by a half-open cut.", "gauge", |view| {
        view.connections.half_open
    }),
    ("quorate_proxy_listening", "1 while the link accepts connections.", "gauge", |view| {
        u64::from(view.listening)
    }),
];

pub(super) async fn metrics(State(control): State<Arc<Control>>) -> Response {
    let links = control.links().await;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let written = render(&mut text, links.iter().map(|(name, view)| (name.as_str(), view)));
    match written {
        Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn render<'a>(
    text: &mut String,
    links: impl Iterator<Item = (&'a str, &'a LinkView)> + Clone,
) -> std::fmt::Result {
    for (metric, help, kind, read) in STREAM_METRICS {
        writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} {kind}")?;
        for (name, view) in links.clone() {
            let streams =
                [("upstream", &view.bytes.upstream), ("downstream", &view.bytes.downstream)];
            for (direction, counts) in streams {
                let labels = labels(name, view);
                let value = read(counts);
                writeln!(text, "{metric}{{direction=\"{direction}\",{labels}}} {value}")?;
            }
        }
    }
    for (metric, help, kind, read) in LINK_METRICS {
        writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} {kind}")?;
        for (name, view) in links.clone() {
            writeln!(text, "{metric}{{{}}} {}", labels(name, view), read(view))?;
        }
    }
    Ok(())
}

fn labels(name: &str, view: &LinkView) -> String {
    let (name, listen, upstream) = (escape(name), &view.listen, escape(&view.upstream));
    format!("proxy=\"{name}\",listener=\"{listen}\",upstream=\"{upstream}\"")
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

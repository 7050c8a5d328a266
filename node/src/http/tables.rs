//! The text tables of `HA STATUS`, column by column as the original has them. May not look anything
//! up: what is shown is handed in.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use comfy_table::{CellAlignment, Table, presets};
use quorate_control::data_centers;
use quorate_control::distributed::NewNodeStrategy;
use quorate_control::schema::{Cluster, Database};

use super::access::Db;
use super::members::{Bulletin, Progress, Server, Servers, Toward};

/// Shown where nothing is known.
const UNKNOWN: &str = "-";

/// `2026-11-23 01:02:03`, and its two parts.
pub(super) const DATE: std::ops::Range<usize> = 0..19;
const DAY: std::ops::Range<usize> = 0..10;
const TIME: std::ops::Range<usize> = 11..19;

/// A part of the date and time, in UTC, of a moment in milliseconds since 1970; empty for moments
/// beyond all calendars, which another server's clock may tell.
pub(super) fn date_time(ms: u64, part: std::ops::Range<usize>) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    // The formatter knows dates up to the year 9999.
    let at = at.filter(|_| ms < 253_402_300_800_000);
    let text = at.map(|at| humantime::format_rfc3339_seconds(at).to_string()).unwrap_or_default();
    text.get(part).unwrap_or_default().replace('T', " ")
}

/// One row a server, one more for each further database.
pub(super) fn servers(servers: &Servers) -> String {
    let columns = [
        "Name",
        "Status",
        "Databases",
        "Conns",
        "StartedOn",
        "Peer",
        "HTTP",
        "UsedMemory",
        "Behind",
    ];
    let mut table = table(columns.map(str::to_owned));
    for server in &servers.list {
        let told = server.bulletin.as_ref();
        let known = |show: &dyn Fn(&Bulletin) -> Option<String>| {
            told.and_then(show).unwrap_or_else(|| UNKNOWN.to_owned())
        };
        let mut databases = told.into_iter().flat_map(|told| &told.databases).map(|name| {
            let state = servers.database_state(server, name);
            format!("{name}={state} ({})", server.role.name())
        });
        table.add_row([
            marked(servers, server),
            server.state.name().to_owned(),
            databases.next().unwrap_or_default(),
            known(&|told| Some(told.connections.to_string())),
            known(&|told| Some(started_on(told.started_ms, servers.now_ms))),
            known(&|told| told.peer.map(|address| address.to_string())),
            known(&|told| told.http.map(|address| address.to_string())),
            known(&|told| Some(memory(told))),
            behind(servers, server),
        ]);
        let progress = told.and_then(|told| told.addendum.progress.as_ref());
        let found = servers.found.iter().filter(|found| found.server == server.name);
        let found = found.map(|found| format!("{} on its disk: {}", found.database, found.state()));
        let progress = progress.map(|done| progress_line(servers, done));
        for line in databases.chain(progress).chain(found) {
            table.add_row([String::new(), String::new(), line]);
        }
    }
    align(&mut table, [3, 7, 8]);
    titled("SERVERS (LEGEND: * = This one)", &table)
}

/// Decisions that a server lacks, and since when.
fn behind(servers: &Servers, server: &Server) -> String {
    let (lacks, ms) = (servers.behind(server), servers.behind_ms(server));
    if ms == 0 { lacks.to_string() } else { format!("{lacks} for {}s", hundredths(ms, 1_000)) }
}

/// What a server is getting from others.
fn progress_line(servers: &Servers, progress: &Progress) -> String {
    let mut line = progress.phase.name().to_owned();
    if let Some(database) = &progress.database {
        line = format!("{line} {database}");
    }
    if let Some(source) = progress.source {
        line = format!("{line} from {}", servers.name_of(source));
    }
    if let Some(percent) = progress.percent() {
        line = format!("{line}: {percent}%");
    }
    if progress.bytes > 0 {
        line = format!("{line} {}, {}/s", bytes(progress.bytes), bytes(progress.rate()));
    }
    line
}

/// Name with the mark of the server that is asked.
fn marked(servers: &Servers, server: &Server) -> String {
    if server.name == servers.own { format!("{}(*)", server.name) } else { server.name.clone() }
}

/// The time alone for today.
fn started_on(ms: u64, now_ms: u64) -> String {
    let is_today = date_time(ms, DAY) == date_time(now_ms, DAY);
    date_time(ms, if is_today { TIME } else { DATE })
}

fn memory(told: &Bulletin) -> String {
    let (used, max) = (told.memory, told.memory_max);
    if max == 0 {
        return bytes(used);
    }
    let percent = hundredths(used.saturating_mul(100), max);
    format!("{}/{} ({percent}%)", bytes(used), bytes(max))
}

fn bytes(count: u64) -> String {
    const UNITS: [(&str, u64); 4] =
        [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1024)];
    match UNITS.iter().find(|(_, unit)| count >= *unit) {
        Some((name, unit)) => format!("{}{name}", hundredths(count, *unit)),
        None => format!("{count}b"),
    }
}

/// A quotient with two digits behind the point, rounded.
fn hundredths(value: u64, unit: u64) -> String {
    let scaled = (u128::from(value) * 100 + u128::from(unit) / 2) / u128::from(unit);
    format!("{}.{:02}", scaled / 100, scaled % 100)
}

/// Clusters in the order in which they are shown.
pub(super) fn clusters_by_name(db: &Database) -> impl Iterator<Item = &Cluster> {
    let mut clusters: Vec<&Cluster> = db.clusters.iter().collect();
    clusters.sort_by(|a, b| a.name.cmp(&b.name));
    clusters.into_iter()
}

/// Name of the server that creates a cluster's records.
pub(super) fn owner<'a>(db: &'a Db, cluster: &Cluster) -> Option<&'a str> {
    db.schema().server_name(cluster.owner)
}

/// Who has which cluster of a database, with its quorums. The row `*` stands for clusters without
/// an owner.
pub(super) fn database(servers: &Servers, db: &Db) -> String {
    let mut header = vec![
        "CLUSTER".to_owned(),
        "id".to_owned(),
        "writeQuorum".to_owned(),
        "CFG\nROLE\nSTATUS\nreadQuorum".to_owned(),
    ];
    header.extend(servers.list.iter().map(|server| {
        let state = servers.database_state(server, &db.name);
        let role = server.role.name();
        let center = data_centers::center_of(&db.data_centers, &server.name);
        let center = center.map(|(name, _)| format!("DC({name})\n")).unwrap_or_default();
        let configured = configured(db, server);
        format!("{configured}\n{role}\n{state}\n{center}{}", marked(servers, server))
    }));
    let mut table = table(header);
    let (write, read) = (db.write_quorum.to_string(), db.read_quorum.to_string());
    let mut add = |name: &str, id: String, owner: Option<&str>| {
        let cells = servers.list.iter();
        let cells =
            cells.map(|s| if owner == Some(s.name.as_str()) { "X" } else { "o" }.to_owned());
        table.add_row([name.to_owned(), id, write.clone(), read.clone()].into_iter().chain(cells));
    };
    add("*", String::new(), None);
    for cluster in clusters_by_name(db) {
        add(&cluster.name, cluster.id.to_string(), owner(db, cluster));
    }
    align(&mut table, [1]);
    let is_reached = servers.has_write_quorum(db);
    let title = format!(
        "CLUSTER CONFIGURATION [database: {}] [wQuorum: {is_reached}] \
         (LEGEND: X = Owner, o = Copy)",
        db.name
    );
    let clusters = titled(&title, &table);
    if db.data_centers.is_empty() {
        return clusters;
    }
    format!("{clusters}\n\n{}", data_centers_of(db))
}

/// Whether a database counts with a server for good, or while it is there.
pub(super) fn configured(db: &Database, server: &Server) -> &'static str {
    let is_chosen = server.node.is_some_and(|node| db.has_chosen(node));
    let is_enlisted = db.enlists(&server.name, server.role) || is_chosen;
    if is_enlisted { NewNodeStrategy::Static } else { NewNodeStrategy::Dynamic }.name()
}

/// Where the servers of a database are, and the quorum of each place.
fn data_centers_of(db: &Database) -> String {
    let mut table = table(["NAME", "SERVERS", "writeQuorum"].map(str::to_owned));
    for (name, center) in &db.data_centers {
        let quorum = center.write_quorum.to_string();
        table.add_row([name.clone(), center.servers.join(", "), quorum]);
    }
    titled("DATA CENTER CONFIGURATION", &table)
}

/// Means of the times between each two servers: source in the row, destination in the column.
pub(super) fn latency(servers: &Servers) -> String {
    let names = servers.list.iter().map(|server| marked(servers, server));
    let mut table = table(std::iter::once("Servers".to_owned()).chain(names));
    for source in &servers.list {
        table.add_row(cells(servers, source, |toward| {
            let times = toward.latency;
            (times.entries > 0).then(|| hundredths(times.average(), 1_000))
        }));
    }
    align(&mut table, 1..=servers.list.len());
    titled("REPLICATION LATENCY AVERAGE (in milliseconds)", &table)
}

/// A server's row of what it has to do with each other one; nothing where it would meet itself.
fn cells(
    servers: &Servers,
    source: &Server,
    show: impl Fn(&Toward) -> Option<String>,
) -> Vec<String> {
    let others = servers.list.iter().map(|destination| {
        if source.name == destination.name {
            return String::new();
        }
        let toward = source.bulletin.as_ref().and_then(|told| told.toward.get(&destination.name));
        toward.and_then(&show).unwrap_or_else(|| UNKNOWN.to_owned())
    });
    std::iter::once(marked(servers, source)).chain(others).collect()
}

/// Messages between each two servers since the source started, and what came here, by kind.
pub(super) fn messages(servers: &Servers) -> String {
    const TOTAL: &str = "TOTAL";
    let names = servers.list.iter().map(|server| marked(servers, server));
    let header = std::iter::once("Servers".to_owned()).chain(names).chain([TOTAL.to_owned()]);
    let mut table = table(header);
    let sent = |from: &Server, to: &Server| {
        from.bulletin.as_ref().and_then(|b| b.toward.get(&to.name)).map_or(0, |t| t.messages)
    };
    for source in &servers.list {
        let mut row = cells(servers, source, |toward| Some(toward.messages.to_string()));
        row.push(servers.list.iter().map(|to| sent(source, to)).sum::<u64>().to_string());
        table.add_row(row);
    }
    let columns = servers.list.iter();
    let columns = columns.map(|to| servers.list.iter().map(|from| sent(from, to)).sum());
    let columns: Vec<u64> = columns.collect();
    let totals =
        columns.iter().chain([&columns.iter().sum()]).map(u64::to_string).collect::<Vec<_>>();
    table.add_row(std::iter::once(TOTAL.to_owned()).chain(totals));
    align(&mut table, 1..=servers.list.len() + 1);
    let title = "REPLICATION MESSAGE COUNTERS (servers: source on the row and destination on the \
        column)";
    format!("{}\n\n{}", titled(title, &table), received(servers))
}

fn received(servers: &Servers) -> String {
    let kinds: BTreeSet<&str> =
        servers.list.iter().flat_map(|s| s.received.keys().copied()).collect();
    let header = std::iter::once("Servers").chain(kinds.iter().copied()).map(str::to_owned);
    let mut table = table(header);
    for server in servers.list.iter().filter(|server| server.name != servers.own) {
        let counts = kinds.iter().map(|kind| server.received.get(kind).copied().unwrap_or(0));
        let row = std::iter::once(server.name.clone()).chain(counts.map(|n| n.to_string()));
        table.add_row(row);
    }
    align(&mut table, 1..=kinds.len());
    titled("REPLICATION MESSAGE CURRENT NODE STATS", &table)
}

fn table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_FULL_CONDENSED).set_header(header.into_iter());
    table
}

/// Numbers stand to the right.
fn align(table: &mut Table, columns: impl IntoIterator<Item = usize>) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn titled(title: &str, table: &Table) -> String {
    format!("{title}\n{table}")
}

//! The printed form of what servers say and hold: short, and without what scripts never vary.

use quorate_api::{
    Boot, ClusterKey, Committed, Image, ItemId, NodeId, OpKind, Operation, Stamp, TxId,
};
use quorate_protocol::alignment::{Answer, Ask};
use quorate_protocol::conflict::{Fate, Merging, Rival, State};
use quorate_protocol::copying::CopyNote;
use quorate_protocol::feeding::{Entry, Relay};
use quorate_protocol::io::{AlignmentWork, Failure, Note, Reply, Report};
use quorate_protocol::message::{
    Ballot, Decided, Instance, Knowledge, LogPosition, Message, No, TxRecord, Value, Vote,
    VoteReply,
};

pub(crate) fn node(node: NodeId) -> String {
    format!("n{}", node.0)
}

pub(crate) fn tx(tx: TxId) -> String {
    format!("{}.{}.{}", node(tx.node), tx.boot.0, tx.seq)
}

fn cluster(cluster: ClusterKey) -> String {
    format!("c{}", cluster.cluster)
}

fn stamp(stamp: Stamp) -> String {
    if stamp == Stamp::ABSENT {
        "absent".into()
    } else {
        format!("{}@{}", stamp.version, tx(stamp.tx))
    }
}

fn stamps(stamps: &[Stamp]) -> String {
    let each: Vec<String> = stamps.iter().map(|s| stamp(*s)).collect();
    if each.is_empty() { "none".to_owned() } else { each.join("+") }
}

/// A content beside the committed one.
pub(crate) fn rival(rival: &Rival) -> String {
    let fate = match rival.fate {
        Fate::Open => "open",
        Fate::NoWinner => "no winner",
        Fate::Lost => "lost",
    };
    let from = stamps(&rival.ancestors);
    format!("{}, from {from}: {fate}", committed(Some(&rival.committed)))
}

fn state(state: &State) -> String {
    let busy = if state.busy { ", busy" } else { "" };
    let rivals: Vec<Stamp> = state.rivals.iter().map(|(stamp, _)| *stamp).collect();
    let beside =
        if rivals.is_empty() { String::new() } else { format!(" beside {}", stamps(&rivals)) };
    let past = stamps(&state.ancestors);
    format!("{}{} from {past}{beside}{busy}", state.item, committed(state.committed.as_ref()))
}

fn merging(merging: &Merging) -> String {
    let items = |items: &[ItemId]| {
        let each: Vec<String> = items.iter().map(ToString::to_string).collect();
        each.join(" ")
    };
    match merging {
        Merging::Diverged { items: of } => format!(" {}", items(of)),
        Merging::Look { items: of, .. } => format!(" {}", items(of)),
        Merging::Seen { states, .. } => {
            let each: Vec<String> = states.iter().map(state).collect();
            format!(" {}", each.join("; "))
        }
        Merging::Settled { item, stamp: at, .. } => format!(" {item} at {}", stamp(*at)),
        Merging::Undecided { item, content } => {
            format!(" {item}:{}", committed(Some(content)))
        }
        Merging::Range { cluster: c, .. } => format!(" {}", cluster(*c)),
        Merging::Listed { cluster: c, entries, .. } => {
            let what = entries.as_ref().map_or("the same".into(), |e| format!("{} items", e.len()));
            format!(" {}: {what}", cluster(*c))
        }
    }
}

fn image(image: Option<&Image>) -> String {
    image.map_or(String::new(), |i| format!("={}", String::from_utf8_lossy(&i.0)))
}

fn operation(op: &Operation) -> String {
    let kind = match &op.kind {
        OpKind::Create => "create",
        OpKind::Update => "update",
        OpKind::Delete => "delete",
        OpKind::Check => "check",
        OpKind::Merge(merge) => {
            let live = if merge.live { "merge" } else { "merge into nothing" };
            let (of, past) = (stamps(&merge.of), stamps(&merge.past));
            let image = image(op.image.as_ref());
            return format!("{live} {}{image} of {of}, past {past}", op.item);
        }
    };
    format!("{kind} {}{} on {}", op.item, image(op.image.as_ref()), stamp(op.base))
}

fn operations(ops: &[Operation]) -> String {
    let each: Vec<String> = ops.iter().map(operation).collect();
    if each.is_empty() { String::new() } else { format!(", {}", each.join(", ")) }
}

pub(crate) fn committed(committed: Option<&Committed>) -> String {
    match committed {
        None => " absent".to_owned(),
        Some(c) if c.elsewhere.is_some() => {
            let live = if c.live { "" } else { "deleted, " };
            format!(" {live}content elsewhere, at {}", stamp(c.stamp))
        }
        Some(c) if c.live => format!("{} at {}", image(c.image.as_ref()), stamp(c.stamp)),
        Some(c) => format!(" deleted at {}", stamp(c.stamp)),
    }
}

pub(crate) fn outcome(outcome: Decided) -> &'static str {
    match outcome {
        Decided::Commit => "commit",
        Decided::Abort => "abort",
    }
}

fn value(value: Value) -> &'static str {
    match value {
        Value::Prepared => "prepared",
        Value::Aborted => "aborted",
    }
}

fn ballot(ballot: Ballot) -> String {
    format!("{}.{}.{}", ballot.round, node(ballot.node), ballot.boot.0)
}

fn no(no: &No) -> String {
    let reason = format!("{:?}", no.reason).to_lowercase();
    let item = no.item.as_ref().map_or(String::new(), |item| format!(" {item}"));
    let current = if no.current == Stamp::ABSENT {
        String::new()
    } else {
        format!(" at {}", stamp(no.current))
    };
    let holder = no.holder.map_or(String::new(), |holder| format!(" held by {}", tx(holder)));
    format!("no({reason}{item}{current}{holder})")
}

fn vote(vote: &Vote) -> String {
    match vote {
        Vote::Yes => "yes".to_owned(),
        Vote::No(why) => no(why),
    }
}

fn accepted(accepted: Option<(Ballot, Value)>) -> String {
    accepted.map_or("nothing".to_owned(), |(b, v)| format!("{} in {}", value(v), ballot(b)))
}

fn knowledge(knowledge: &Knowledge) -> String {
    match knowledge {
        Knowledge::Decided(decided) => outcome(*decided).to_owned(),
        Knowledge::Working => "working".to_owned(),
        Knowledge::Undecided { .. } => "undecided".to_owned(),
        Knowledge::Nothing => "nothing".to_owned(),
        Knowledge::Finished => "finished".to_owned(),
    }
}

fn question(ask: &Ask) -> String {
    match ask {
        Ask::Begin | Ask::Known { .. } | Ask::End => String::new(),
        Ask::Children { cluster: c, .. } | Ask::List { cluster: c, .. } => {
            format!(" {}", cluster(*c))
        }
        Ask::Copy { cluster: c, .. } => format!(" {}", cluster(*c)),
        Ask::Get { items } => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            format!(" {}", items.join(" "))
        }
        Ask::Follow { from, round, .. } => format!(" {from} round {round}"),
    }
}

fn answer(answer: &Answer) -> String {
    let state = |(item, c): &(ItemId, Committed)| format!("{item}{}", committed(Some(c)));
    match answer {
        Answer::Begun { .. } | Answer::Unknown => String::new(),
        Answer::Known { decided, .. } => decided
            .iter()
            .map(|known| format!(" {} {}", tx(known.tx), outcome(known.outcome)))
            .collect(),
        Answer::Children { children, .. } => format!(" {} nodes", children.len()),
        Answer::Listed { entries, .. } => format!(" {} items", entries.len()),
        Answer::Copied(chunk) => format!(" {} items", chunk.items.len()),
        Answer::Got { items, .. } => {
            format!(" {}", items.iter().map(state).collect::<Vec<_>>().join("; "))
        }
        Answer::Followed { from, round, decided, .. } => {
            let each = decided.iter().map(|d| {
                let (t, o) = (tx(d.known.tx), outcome(d.known.outcome));
                format!(", {t} {o}{}", operations(&d.ops))
            });
            format!(" {from} round {round}{}", each.collect::<String>())
        }
    }
}

fn position(at: LogPosition) -> String {
    format!("{}:{}", at.boot.0, at.index)
}

fn relay(message: &Relay) -> String {
    let name = message.name();
    match message {
        Relay::Follow { whole, logs, members } => {
            let whole = if *whole { " whole" } else { "" };
            let logs = logs.iter().map(|l| format!(" {}={}", node(l.origin), position(l.applied)));
            let below: Vec<String> = members.iter().map(|member| node(member.node)).collect();
            let below =
                if below.is_empty() { String::new() } else { format!(" of {}", below.join(",")) };
            format!("{name}{whole}{}{below}", logs.collect::<String>())
        }
        Relay::Unfollow => name.to_owned(),
        Relay::Feeding { hops, lacks, .. } => {
            let hops = hops.map_or("nobody".to_owned(), |hops| hops.to_string());
            let lacks =
                lacks.iter().map(|(o, at)| format!(", lacks {} {}", node(*o), position(*at)));
            format!("{name} {hops}{}", lacks.collect::<String>())
        }
        Relay::Entry { origin, entry: Entry { at, tx: t, outcome: decided, ops, .. } } => {
            let (origin, at, t) = (node(*origin), position(*at), tx(*t));
            format!("{name} {origin} {at} {t} {}{}", outcome(*decided), operations(ops))
        }
        Relay::Carry { from, to, .. } => format!("{name} {}>{}", node(*from), node(*to)),
        Relay::Below { members } => {
            let each = members.iter().map(|(n, at)| format!(" {}={}", node(*n), position(*at)));
            format!("{name}{}", each.collect::<String>())
        }
    }
}

fn vote_reply(reply: &VoteReply) -> String {
    match reply {
        VoteReply::Vote(cast) => vote(cast),
        VoteReply::Decided(decided) => format!("decided {}", outcome(*decided)),
        VoteReply::Refused(promised) => format!("refused, promised {}", ballot(*promised)),
        VoteReply::Finished => "finished".to_owned(),
    }
}

pub(crate) fn message(message: &Message) -> String {
    let name = message.name();
    match message {
        Message::Prepare { tx: t, ops, .. } => format!("{name} {}{}", tx(*t), operations(ops)),
        Message::Vote { tx: t, reply } => format!("{name} {} {}", tx(*t), vote_reply(reply)),
        Message::Accept { tx: t, cluster: c, ballot: b, value: v, ops, .. } => {
            let (t, c, b, v) = (tx(*t), cluster(*c), ballot(*b), value(*v));
            format!("{name} {t} {c} ballot {b} {v}{}", operations(ops))
        }
        Message::Accepted { tx: t, cluster: c, ballot: b } => {
            format!("{name} {} {} ballot {}", tx(*t), cluster(*c), ballot(*b))
        }
        Message::Rejected { tx: t, cluster: c, promised } => {
            format!("{name} {} {} promised {}", tx(*t), cluster(*c), ballot(*promised))
        }
        Message::Recover { tx: t, cluster: c, ballot: b, .. } => {
            format!("{name} {} {} ballot {}", tx(*t), cluster(*c), ballot(*b))
        }
        Message::Promise { tx: t, cluster: c, ballot: b, promise } => {
            let cast = promise.vote.as_ref().map_or("none".to_owned(), vote);
            let accepted = accepted(promise.accepted);
            let (t, c, b) = (tx(*t), cluster(*c), ballot(*b));
            format!("{name} {t} {c} ballot {b}, vote {cast}, accepted {accepted}")
        }
        Message::Decide(Entry { at, tx: t, outcome: decided, ops, .. }) => {
            let (t, decided) = (tx(*t), outcome(*decided));
            format!("{name} {}:{} {t} {decided}{}", at.boot.0, at.index, operations(ops))
        }
        Message::DecideAck { applied, .. } => {
            format!("{name} {}:{}", applied.boot.0, applied.index)
        }
        Message::Status { tx: t, .. } | Message::Fetch { tx: t } => format!("{name} {}", tx(*t)),
        Message::StatusReply { tx: t, knowledge: k } => {
            format!("{name} {} {}", tx(*t), knowledge(k))
        }
        Message::Read { items, .. } => {
            let items: Vec<String> = items.iter().map(ToString::to_string).collect();
            format!("{name} {}", items.join(" "))
        }
        Message::ReadReply { answers, .. } => {
            let each = answers.iter().map(|a| {
                let votes = a.pending.iter().map(|p| format!(", undecided {}", tx(p.tx)));
                let votes: String = votes.collect();
                format!("{}{}{votes}", a.item, committed(a.committed.as_ref()))
            });
            format!("{name} {}", each.collect::<Vec<_>>().join("; "))
        }
        Message::FetchReply { tx: t, decision } => match decision {
            Some((decided, _, ops)) => {
                format!("{name} {} {}{}", tx(*t), outcome(*decided), operations(ops))
            }
            None => format!("{name} {} not known", tx(*t)),
        },
        Message::Low { seq } | Message::Everywhere { seq } => format!("{name} {seq}"),
        Message::Truncated { start } => format!("{name} {}:{}", start.boot.0, start.index),
        Message::Left => name.to_owned(),
        Message::Relay(message) => relay(message),
        Message::AskLogged { txs } | Message::Logged { txs, .. } => {
            let txs: Vec<String> = txs.iter().map(|t| tx(*t)).collect();
            format!("{name} {}", txs.join(" "))
        }
        Message::Align { ask, .. } => format!("{name}{}", question(ask)),
        Message::AlignReply { answer: told, .. } => format!("{name}{}", answer(told)),
        Message::Ended { stage, .. } => format!("{name} {stage}"),
        Message::EndedReply { stage, agreed, .. } => format!("{name} {stage} {agreed}"),
        Message::Merging(what) => format!("{name}{}", merging(what)),
    }
}

pub(crate) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Committed { tx: t, stamps, .. } => {
            let stamps: Vec<String> = stamps.iter().map(|s| stamp(*s)).collect();
            format!("ok {}, {}", tx(*t), stamps.join(", "))
        }
        Reply::Read(found) => {
            let each = found.iter().map(|(item, c)| format!("{item}{}", committed(c.as_ref())));
            format!("read {}", each.collect::<Vec<_>>().join("; "))
        }
        Reply::Session(token) => {
            let entry = |((n, boot), index): (&(NodeId, Boot), &u64)| {
                format!("{}.{}:{index}", node(*n), boot.0)
            };
            format!("session {}", token.iter().map(entry).collect::<Vec<_>>().join(" "))
        }
        Reply::Dismissed { contents, more } => format!("dismissed {contents}, more: {more}"),
        Reply::Failed(Failure { code, item, current, holder }) => {
            let known = format!("{:?}", code.outcome()).to_lowercase();
            let item = item.as_ref().map_or(String::new(), |item| format!(" {item}"));
            let current = current.map_or(String::new(), |s| format!(" at {}", stamp(s)));
            let holder = holder.map_or(String::new(), |t| format!(", see {}", tx(t)));
            format!("{known} {}{item}{current}{holder}", code.name())
        }
    }
}

pub(crate) fn note(note: &Note) -> String {
    match note {
        Note::Committed { one_round: true } => "committed in one round".to_owned(),
        Note::Committed { one_round: false } => "committed in two rounds".to_owned(),
        Note::Aborted(reason) => format!("aborted ({reason:?})").to_lowercase(),
        Note::Retried => "retried".to_owned(),
        Note::Recovering(t) => format!("recovering {}", tx(*t)),
        Note::Diverged { item, local, other } => {
            format!("{item} diverged, kept {}, not {}", stamp(*local), stamp(*other))
        }
        Note::Merged { item, by } => format!("{item} merged by {by}"),
        Note::NoWinner { item, groups } => {
            let group = |(of, nodes): &(Option<Committed>, Vec<NodeId>)| {
                let nodes: Vec<String> = nodes.iter().map(|n| node(*n)).collect();
                format!("{} in {}", committed(of.as_ref()).trim(), nodes.join(","))
            };
            let groups: Vec<String> = groups.iter().map(group).collect();
            format!("{item} has no winner: {}", groups.join("; "))
        }
        Note::LostDropped { contents, .. } => format!("dropped {contents} that had lost"),
        Note::LeftOnline => "left ONLINE".to_owned(),
        Note::BackOnline => "back ONLINE".to_owned(),
        Note::Alignment(AlignmentWork { compared, ranges, fetched, followed }) => {
            format!("{compared} compared, {ranges} ranges, {fetched} fetched, {followed} followed")
        }
        Note::Copied { part, is_last } => {
            let CopyNote { cluster: c, from, items, bytes, .. } = part;
            let (c, from) = (cluster(*c), node(*from));
            let end = if *is_last { ", the last" } else { "" };
            format!("copied {items} items of {bytes} bytes of {c} from {from}{end}")
        }
        Note::AllCopied => "all copied".to_owned(),
        Note::Damaged(server) => format!("damaged chunk from {}", node(*server)),
        Note::PassedOver(server) => format!("passed over {}", node(*server)),
        Note::Dropped { contents } => format!("dropped {contents} contents"),
        Note::Lag { node: server, entries, .. } => format!("{} lags by {entries}", node(*server)),
        Note::Purged { tombstones } => format!("dropped {tombstones} tombstones"),
        Note::Corruption { tx: t, detail } => format!("CORRUPTION {}: {detail}", tx(*t)),
    }
}

pub(crate) fn report(report: &Report) -> String {
    let of = cluster(report.cluster());
    match report {
        Report::Sealed { generation, token, .. } => {
            let entry = |((n, boot), index): (&(NodeId, Boot), &u64)| {
                format!("{}.{}:{index}", node(*n), boot.0)
            };
            let token: Vec<String> = token.iter().map(entry).collect();
            format!("{of} generation {generation} sealed up to {}", token.join(","))
        }
        Report::Synced { generation, .. } => format!("{of} synced for generation {generation}"),
        Report::Behind { generation, instead_of, .. } => {
            let instead = instead_of.map(|n| format!(", instead of {}", node(n)));
            let instead = instead.unwrap_or_default();
            format!("{of} behind for generation {generation}{instead}")
        }
        Report::Merged { generation, .. } => format!("{of} merged in generation {generation}"),
        Report::Compared { generation, digest, differs, .. } => {
            let open = if *differs { ", with something open" } else { "" };
            format!("{of} compared for generation {generation}: {:08x}{open}", digest.0 >> 96)
        }
    }
}

pub(crate) fn record(record: &TxRecord) -> String {
    let cast = record.vote.as_ref().map_or("none".to_owned(), vote);
    let mut text = format!("vote {cast}");
    for (c, Instance { promised, accepted: a }) in &record.instances {
        if promised.round > 0 {
            let promised = ballot(*promised);
            text += &format!(", {} promised {promised}, accepted {}", cluster(*c), accepted(*a));
        }
    }
    text
}

//! The model's coordinators and recoverers (`leaders.rs`) against the machine's: given the same
//! votes and the same promises, both conclude and propose the same. Acceptors need no such test,
//! they are the machine.

use std::collections::{BTreeMap, BTreeSet};

use quorate_api::{Boot, ClusterKey, Image, OpKind, Stamp};
use quorate_protocol::io::{Base, Config, Effect, Event, Note, Proposal, Recovered, Submit, Tick};
use quorate_protocol::machine::Machine;
use quorate_protocol::message::{
    Decided, Knowledge, Message, Promise, TxRecord, Value, Vote, VoteReply,
};

use super::acceptor::{Acceptor, Answer, plain_no};
use super::case::{Case, SERVERS, ballot, item, key, node};
use super::disk::Disk;
use super::rounds::Rounds;

/// What a leader did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    proposed: BTreeSet<(ClusterKey, &'static str)>,
    decided: Option<Decided>,
}

impl Done {
    fn look(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Send { message: Message::Accept { cluster, value, .. }, .. } => {
                    self.proposed.insert((*cluster, name(*value)));
                }
                Effect::Note(Note::Committed { .. }) => self.decided = Some(Decided::Commit),
                Effect::Note(Note::Aborted(_)) => self.decided = Some(Decided::Abort),
                Effect::Persist { .. }
                | Effect::Send { .. }
                | Effect::Reply { .. }
                | Effect::Copy { .. }
                | Effect::Survey { .. }
                | Effect::Report { .. }
                | Effect::Note(_) => {}
            }
        }
    }
}

const fn name(value: Value) -> &'static str {
    match value {
        Value::Prepared => "prepared",
        Value::Aborted => "aborted",
    }
}

/// A machine on server 0 that reaches all others.
fn machine(case: &Case, boot: Boot, recovered: Recovered, effects: &mut Vec<Effect>) -> Machine {
    let mut machine = Machine::new(Config::new(node(0), boot, 0), recovered);
    let disk = Disk::default();
    let placements = case.placements(false);
    machine.step(0, Event::Configure { cfg: 1, placements }, &disk, effects);
    for server in 1..case.servers() {
        let up = Event::Peer { node: node(server), boot: Boot(1), up: true };
        machine.step(0, up, &disk, effects);
    }
    machine
}

fn coordinated(case: &Case, votes: &[Option<Vote>]) -> Done {
    let (mut effects, disk) = (Vec::new(), Disk::default());
    let mut machine = machine(case, Boot(1), Recovered::default(), &mut effects);
    let touched = case.txs[0].touches.iter();
    let ops = touched.map(|cluster| Proposal {
        item: item(*cluster),
        kind: OpKind::Create,
        base: Base::Exact(Stamp::ABSENT),
        image: Some(Image([0].into())),
    });
    let submit =
        Submit { request: 1, ops: ops.collect(), deadline: 10_000_000, wall_us: 0, schema: 0 };
    machine.step(0, Event::Submit(submit), &disk, &mut effects);
    for (server, vote) in votes.iter().enumerate() {
        if let Some(vote) = vote {
            let reply = VoteReply::Vote(vote.clone());
            let message = Message::Vote { tx: case.id(0), reply };
            let event = Event::Message { from: node(server), cfg: 1, message };
            machine.step(0, event, &disk, &mut effects);
        }
    }
    let patience = Config::new(node(0), Boot(1), 0).fast_wait.1;
    machine.step(patience + 1, Event::Tick, &disk, &mut effects);
    let mut done = Done::default();
    done.look(&effects);
    done
}

/// What the model allows, with votes coming in order: a conclusion or Accept(aborted) at once,
/// Accept(prepared) when no more votes can come or it has waited for them.
fn concluded(model: &Rounds, votes: &[Option<Vote>]) -> Done {
    let touched = &model.case.txs[0].touches;
    let mut done = Done::default();
    let mut finals = BTreeMap::new();
    for came in 1..=votes.len() {
        for cluster in touched {
            let voting = !finals.contains_key(cluster)
                && done.proposed.iter().all(|(proposed, _)| *proposed != key(*cluster));
            let (value, proposals) = model.after_votes(*cluster, &votes[..came]);
            let masters = &model.case.clusters[*cluster].masters;
            let complete =
                masters.iter().all(|s| votes[..came].get(*s).is_some_and(Option::is_some));
            if let Some(value) = value.filter(|_| voting) {
                finals.insert(*cluster, value);
            } else if voting {
                let now = proposals.into_iter().filter(|v| complete || *v == Value::Aborted);
                done.proposed.extend(now.map(|value| (key(*cluster), name(value))));
            }
        }
        if finals.values().any(|value| *value == Value::Aborted) {
            done.decided = Some(Decided::Abort);
        } else if finals.len() == touched.len() {
            done.decided = Some(Decided::Commit);
        }
        if done.decided.is_some() {
            return done;
        }
    }
    for cluster in touched.iter().filter(|cluster| !finals.contains_key(cluster)) {
        let (_, proposals) = model.after_votes(*cluster, votes);
        if done.proposed.iter().all(|(proposed, _)| *proposed != key(*cluster)) {
            let proposals = proposals.into_iter().map(|value| (key(*cluster), name(value)));
            done.proposed.extend(proposals);
        }
    }
    done
}

/// Every mix of votes of a case's servers.
fn concludes_alike(case: &Case) {
    let case = case.clone().coordinated_by(0);
    let model = Rounds::new(case.clone());
    let servers = case.servers();
    for mix in 0..3_usize.pow(servers as u32) {
        let votes: Vec<Option<Vote>> = (0..servers)
            .map(|server| match mix / 3_usize.pow(server as u32) % 3 {
                0 => None,
                1 => Some(Vote::Yes),
                _ => Some(Vote::No(plain_no())),
            })
            .collect();
        let expected = concluded(&model, &votes);
        assert_eq!(coordinated(&case, &votes), expected, "{:?} {votes:?}", case.clusters);
    }
}

/// Every N up to 4, every W that is at least a majority.
#[test]
fn coordinators_conclude_what_the_machine_concludes() {
    for (n, w) in [(1, 1), (2, 2), (3, 2), (3, 3), (4, 3), (4, 4)] {
        concludes_alike(&Case::single(n, w, 0));
    }
}

/// Each cluster has its value, all of them together the outcome.
#[test]
fn coordinators_over_two_clusters_conclude_what_the_machine_concludes() {
    for (first, second) in [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2)] {
        concludes_alike(&Case::two_clusters(first, second, &[0]));
    }
    for n in 1..=3 {
        concludes_alike(&Case::two_records(n, &[0]));
    }
}

/// The first value proposed by a machine that recovers its own transaction of an earlier boot.
fn recovered(case: &Case, promises: &[(usize, Promise)]) -> Option<&'static str> {
    let (mut effects, disk) = (Vec::new(), Disk::default());
    let tx = case.id(0);
    let record = TxRecord {
        age: case.age(0),
        participants: case.participants(0),
        ops: case.ops_for(0, 0),
        ..TxRecord::default()
    };
    let recovered = Recovered { undecided: vec![(tx, record)], ..Recovered::default() };
    let mut machine = machine(case, Boot(2), recovered, &mut effects);
    let (mut handled, mut now): (usize, Tick) = (0, 0);
    let mut answered = BTreeSet::new();
    while now < 10_000_000 {
        while let Some(effect) = effects.get(handled).cloned() {
            handled += 1;
            let Effect::Send { to, message, .. } = effect else { continue };
            let reply = match message {
                Message::Accept { value, .. } => return Some(name(value)),
                Message::Status { tx, .. } => {
                    let participants = case.participants(0);
                    let knowledge = Knowledge::Undecided { yes: false, participants };
                    Some(Message::StatusReply { tx, knowledge })
                }
                Message::Recover { tx, cluster, ballot, .. } => {
                    let promise = promises.iter().find(|(server, _)| node(*server) == to);
                    promise.map(|(_, promise)| {
                        answered.insert(to);
                        Message::Promise { tx, cluster, ballot, promise: promise.clone() }
                    })
                }
                _ => None,
            };
            if let Some(message) = reply {
                let event = Event::Message { from: to, cfg: 1, message };
                machine.step(now, event, &disk, &mut effects);
            }
        }
        now += 100_000;
        machine.step(now, Event::Tick, &disk, &mut effects);
    }
    None
}

/// Every pair of promises that can exist, from two of three servers, W majority and all.
#[test]
fn recoverers_propose_what_the_machine_proposes() {
    for w in [2, 3] {
        let case = Case::single(3, w, 1).coordinated_by(0);
        let model = Rounds::new(case.clone());
        let votes = [None, Some(Vote::Yes), Some(Vote::No(plain_no()))];
        let first = ballot(&case, 0, 1);
        let accepts = [None, Some((first, Value::Prepared)), Some((first, Value::Aborted))];
        let mut some = Vec::new();
        for vote in &votes {
            for accepted in accepts {
                let (vote, ops, participants) = (vote.clone(), Vec::new(), Vec::new());
                some.push(Promise { vote, accepted, ops, participants });
            }
        }
        for one in &some {
            for other in &some {
                let values = [one, other].map(|promise| promise.accepted.map(|(_, v)| v));
                if let [Some(a), Some(b)] = values
                    && a != b
                {
                    continue;
                }
                let full = |promise: &Promise| Promise {
                    ops: case.ops_for(0, 1),
                    participants: case.participants(0),
                    ..promise.clone()
                };
                let promises = [(1, full(one)), (2, full(other))];
                let expected = model.value_of(0, [one, other].into_iter());
                let got = recovered(&case, &promises);
                assert_eq!(got, Some(name(expected)), "W={w} {promises:?}");
            }
        }
    }
}

/// What a table says, without the names of ballots' leaders: those differ with the coordinators.
fn plain(table: &Acceptor) -> Vec<Vec<String>> {
    let answer = |answer: Answer| match answer {
        Answer::Promise(number) => {
            let promise = &table.promises[usize::from(number)];
            let accepted = promise.accepted.map(|(ballot, value)| (ballot.round, value));
            format!("promise {:?} {accepted:?}", promise.vote)
        }
        Answer::Nothing | Answer::Yes | Answer::No | Answer::Accepted => format!("{answer:?}"),
    };
    let steps = table.steps.iter().map(|row| {
        row.iter().map(|step| match step {
            Some(step) => format!("{} {}", step.to, answer(step.answer)),
            None => "never".to_owned(),
        })
    });
    steps.map(Iterator::collect).collect()
}

/// Servers may be kept sorted, and transactions may have any coordinator, because no acceptor
/// looks at either.
#[test]
fn acceptors_do_not_care_who_they_are_and_who_asks() {
    let case = Case::pair(3, 2, [1, 1]).spurious();
    let reference = Acceptor::explore(&case, 0);
    let expected = plain(&reference);
    for server in 0..3 {
        for coordinator in [None, Some(0), Some(SERVERS)] {
            let other = coordinator.map_or(case.clone(), |c| case.clone().coordinated_by(c));
            let table = Acceptor::explore(&other, server);
            let got = plain(&table);
            let differs = expected.iter().zip(&got).find(|(a, b)| a != b);
            assert_eq!(differs, None, "server {server}, coordinator {coordinator:?}");
            assert_eq!(got.len(), expected.len(), "server {server}, {coordinator:?}");
            assert_eq!(table.facts, reference.facts, "server {server}, {coordinator:?}");
        }
    }
}

//! Requests of the harness's clients, as a server's shell makes events of them, and its replies as
//! clients read them. HTTP, SQL and the pauses between attempts of a request are left out. May not
//! know when operations are due.

use std::collections::BTreeMap;

use quorate_api::{
    ClusterKey, Committed, ErrorCode, Image, ItemId, ItemKey, OpKind, Outcome as Known, Stamp,
};
use quorate_check::history::{Outcome, Seen};
use quorate_protocol::io::{
    Base, Event, Proposal, ReadQuorum, ReadRequest, Reply, SessionRequest, SessionToken, Submit,
    Tick,
};

use super::wire::{Answer, Ask, Class};
use super::{NANOS, Stage};
use crate::history::seen_in;
use crate::world::{Happening, World};

/// Requests that servers work on.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: BTreeMap<u64, Open>,
    /// Positions of records that each server has given, one cluster a MASTER.
    positions: BTreeMap<u32, u64>,
}

/// A request that a server has.
#[derive(Debug)]
struct Open {
    server: usize,
    class: Class,
    item: ItemId,
}

impl Requests {
    /// The next record of a server's own cluster. Real servers have blocks of them granted, which
    /// is left out here.
    fn fresh(&mut self, cluster: ClusterKey) -> ItemId {
        let next = self.positions.entry(cluster.cluster).or_default();
        *next += 1;
        ItemId::record(cluster, *next - 1)
    }
}

impl Stage {
    fn image(&self, id: u64) -> Option<Image> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.resize(bytes.len() + self.value_bytes, 0);
        Some(Image::from(bytes))
    }

    /// What becomes of a request at a server.
    fn event(&mut self, ask: &Ask, item: ItemId, deadline: Tick, wall_us: u64) -> Event {
        let request = ask.id;
        let write = |kind, base, image| {
            let ops = vec![Proposal { item: item.clone(), kind, base, image }];
            Event::Submit(Submit { request, ops, deadline, wall_us, schema: 0 })
        };
        let image = self.image(ask.id);
        match ask.class {
            Class::ReadMajority => Event::Read(ReadRequest {
                request,
                items: vec![item],
                quorum: ReadQuorum::Majority,
                deadline,
            }),
            Class::ReadLocal => {
                let (token, seen) = (SessionToken::new(), Vec::new());
                Event::Session(SessionRequest { request, token, seen, deadline })
            }
            Class::Create => write(OpKind::Create, Base::Exact(Stamp::ABSENT), image),
            Class::Update => write(OpKind::Update, Base::Current, image),
            Class::UpdateVersioned => {
                let base = ask.base.map_or(Base::Current, Base::Version);
                write(OpKind::Update, base, image)
            }
            Class::Delete => write(OpKind::Delete, Base::Current, image),
        }
    }
}

impl World {
    /// A client sends a request: it arrives a while later.
    pub(super) fn ask(&mut self, ask: Ask) {
        let Some(stage) = &mut self.stage else { return };
        let at = ask.at.div_ceil(NANOS) + stage.network.client_way(ask.node);
        self.at(at, Happening::Asked(Box::new(ask)));
    }

    /// A request arrives at a server.
    pub(crate) fn asked(&mut self, ask: &Ask) {
        let index = ask.node;
        let Some(server) = self.servers.get(index) else { return };
        let Some(stage) = &mut self.stage else { return };
        if server.machine.is_none() {
            let refused = Answer::bare(ask.id, Outcome::Failed, Some("connect_refused"));
            self.tell(index, refused);
            return;
        }
        let item = match (ask.class, ask.rid) {
            (Class::Create, _) | (_, None) => {
                let own = index % self.options.clusters.len();
                stage.requests.fresh(self.options.clusters[own].cluster)
            }
            (_, Some((cluster, position))) => {
                ItemId::record(ClusterKey { cluster, ..self.options.clusters[0].cluster }, position)
            }
        };
        let left = (ask.deadline / NANOS).saturating_sub(self.now);
        let deadline = server.clock.now(self.now) + left;
        let event = stage.event(ask, item.clone(), deadline, server.clock.wall(self.now));
        let open = Open { server: index, class: ask.class, item };
        stage.requests.open.insert(ask.id, open);
        self.step(index, event);
    }

    /// A server answers a request.
    pub(crate) fn answered(&mut self, index: usize, request: u64, reply: &Reply) {
        let Some(stage) = &mut self.stage else { return };
        let Some(open) = stage.requests.open.remove(&request) else { return };
        let ok = Answer::bare(request, Outcome::Ok, None);
        let read = |state: Option<&Committed>| {
            let live = state.filter(|committed| committed.live);
            let version = live.map(|committed| committed.stamp.version);
            Answer { seen: Some(seen_in(state)), version, ..ok.clone() }
        };
        let answer = match reply {
            Reply::Committed { stamps, .. } => {
                let rid = match (open.class, &open.item.key) {
                    (Class::Create, ItemKey::Record(position)) => {
                        Some((open.item.cluster.cluster, *position))
                    }
                    _ => None,
                };
                let version = stamps.first().map(|stamp| stamp.version);
                Answer { rid, version, ..ok }
            }
            Reply::Read(found) => read(found.first().and_then(|(_, state)| state.as_ref())),
            Reply::Session(_) => {
                let holds = self.servers[index].disk.visible();
                if holds.aligning {
                    Answer::bare(request, Outcome::Failed, Some("not_ready"))
                } else {
                    read(holds.items.get(&open.item))
                }
            }
            Reply::Dismissed { .. } => return,
            Reply::Failed(failure) => {
                let outcome = match failure.code.outcome() {
                    Known::Failed => Outcome::Failed,
                    Known::Ok | Known::Unknown => Outcome::Unknown,
                };
                let is_read = matches!(open.class, Class::ReadLocal | Class::ReadMajority);
                let gone = failure.code == ErrorCode::NotFound;
                if is_read && gone {
                    Answer { seen: Some(Seen::Absent(None)), ..ok }
                } else {
                    Answer::bare(request, outcome, Some(failure.code.name()))
                }
            }
        };
        self.tell(index, answer);
    }

    /// The connections of a server's clients break.
    pub(crate) fn hang_up(&mut self, index: usize) {
        let Some(stage) = &mut self.stage else { return };
        let broken = stage.requests.open.extract_if(.., |_, open| open.server == index);
        let broken: Vec<u64> = broken.map(|(id, _)| id).collect();
        for id in broken {
            self.tell(index, Answer::bare(id, Outcome::Unknown, Some("connection_lost")));
        }
    }

    /// An answer sets out for its client.
    fn tell(&mut self, server: usize, answer: Answer) {
        let Some(stage) = &mut self.stage else { return };
        let at = self.now + stage.network.client_way(server);
        self.at(at, Happening::Told(Box::new(answer)));
    }
}

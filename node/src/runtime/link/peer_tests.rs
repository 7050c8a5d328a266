//! Reachability and judgement of a peer, by hand-made events.

use std::collections::VecDeque;

use std::time::Duration;

use super::super::board::Notice;
use super::super::seen::RELINK;
use super::*;
use crate::http::backend::NodeState;
use crate::http::members::{Bulletin, Latency};

const SUSPECT: Tick = 500_000;
const NOTHING: [bool; 0] = [];

fn hello(boot: u32, process: u64, started_with: Durable) -> Hello {
    Hello {
        cluster: "bench".into(),
        name: "n2".into(),
        to: "n1".into(),
        node: NodeId(2),
        boot: Boot(boot),
        process,
        started_with,
        nonce: [0; 32],
    }
}

fn peer() -> (Arc<Peer>, Arc<Inbox>) {
    let inbox = Arc::new(Inbox::new(64, 1 << 20));
    let peer = Arc::new(Peer::new(
        ("n2".into(), None),
        None,
        inbox.clone(),
        SUSPECT,
        Arc::default(),
        &Arc::default(),
    ));
    peer.bind(peer.judge(&hello(1, 7, (Boot(0), 0))).unwrap());
    (peer, inbox)
}

/// What the machine was told, in order.
fn told(inbox: &Inbox) -> Vec<bool> {
    let mut inputs = VecDeque::new();
    inbox.take(&mut inputs, Some(Duration::ZERO));
    inputs
        .iter()
        .filter_map(|i| if let Input::Peer { up, .. } = i { Some(*up) } else { None })
        .collect()
}

fn beat(peer: &Peer, echo: Tick, now: Tick) {
    let state = NodeState::Online;
    peer.heard(
        Heartbeat { sent: 1, echo, held: 0, needs: true, state, asks: true, news: vec![] },
        Boot(1),
        now,
    );
}

/// Both directions linked at 1000, echoed at once.
fn up_peer() -> (Arc<Peer>, Arc<Inbox>) {
    let (peer, inbox) = peer();
    peer.link_up(Direction::Out, 900);
    peer.next_inward();
    peer.link_up(Direction::In, 1_000);
    assert_eq!(told(&inbox), NOTHING);
    beat(&peer, 1_000, 1_100);
    assert_eq!(told(&inbox), [true]);
    (peer, inbox)
}

#[test]
fn up_means_that_both_directions_work() {
    let (peer, inbox) = peer();
    peer.link_up(Direction::Out, 900);
    beat(&peer, 950, 960);
    assert_eq!(told(&inbox), NOTHING, "the peer's link is missing");
    peer.next_inward();
    peer.link_up(Direction::In, 1_000);
    beat(&peer, 999, 1_010);
    assert_eq!(told(&inbox), NOTHING, "an echo from before the link");
    beat(&peer, 1_000, 1_020);
    assert_eq!(told(&inbox), [true]);
    assert_eq!(peer.status(), (Some(NodeId(2)), true));
}

#[test]
fn silence_and_a_cut_in_one_direction_show_after_the_limit() {
    let (peer, inbox) = up_peer();
    // The peer still talks, but hears nothing: its echo stands still.
    for now in (10_000..SUSPECT).step_by(50_000) {
        beat(&peer, 1_000, now);
    }
    assert_eq!(told(&inbox), NOTHING);
    beat(&peer, 1_000, 1_000 + SUSPECT);
    assert_eq!(told(&inbox), [false]);
}

#[test]
fn a_closed_link_may_come_back_for_a_moment() {
    let (peer, inbox) = up_peer();
    peer.link_down(Direction::Out, 0, 2_000);
    peer.evaluate(2_000 + RELINK - 1);
    assert_eq!(told(&inbox), NOTHING);
    peer.evaluate(2_000 + RELINK);
    assert_eq!(told(&inbox), [false]);
}

/// FEATURES: S11
#[test]
fn who_says_goodbye_is_gone_at_once_and_stays_offline_until_its_next_life() {
    let (peer, inbox) = up_peer();
    tell(&peer, 2_000, NodeState::ShuttingDown, None);
    assert_eq!(told(&inbox), NOTHING, "it still votes");
    tell(&peer, 3_000, NodeState::Offline, None);
    assert_eq!(told(&inbox), [false]);
    peer.link_down(Direction::Out, 0, 4_000);
    peer.evaluate(4_000 + 10 * SUSPECT);
    assert_eq!(peer.server(Role::Master).state, ServerState::Offline);
    peer.bind(peer.judge(&hello(2, 8, (Boot(1), 3))).unwrap());
    assert_eq!(peer.server(Role::Master).state, ServerState::NotAvailable);
}

/// FEATURES: S11
#[test]
fn the_goodbye_of_an_ended_boot_is_not_that_of_the_next_one() {
    let (peer, _inbox) = up_peer();
    peer.bind(peer.judge(&hello(2, 8, (Boot(1), 3))).unwrap());
    peer.link_up(Direction::Out, 5_000);
    peer.next_inward();
    peer.link_up(Direction::In, 5_000);
    let said = |state, sent| {
        let (held, needs, asks) = (0, true, true);
        Heartbeat { sent, echo: 5_000, held, needs, state, asks, news: vec![] }
    };
    // The links of the old boot end a moment later.
    peer.heard(said(NodeState::Offline, 1_000_000), Boot(1), 5_100);
    peer.heard(said(NodeState::Online, 10), Boot(2), 5_200);
    assert_eq!(peer.server(Role::Master).state, ServerState::Is(NodeState::Online));
}

/// FEATURES: S11
#[test]
fn who_stopped_before_this_server_started_is_offline_as_others_tell() {
    let (peer, _inbox) = peer();
    peer.link_up(Direction::Out, 900);
    assert_eq!(peer.server(Role::Master).state, ServerState::NotAvailable);
    let notice = |boot: u32| Notice {
        node: NodeId(2),
        boot: Boot(boot),
        number: 9,
        lost: true,
        state: NodeState::Offline,
        bulletin: Bulletin::default(),
    };
    peer.own.learn(vec![notice(0)], Some(NodeId(3)));
    assert_eq!(peer.server(Role::Master).state, ServerState::NotAvailable, "another life");
    peer.own.learn(vec![notice(1)], Some(NodeId(3)));
    assert_eq!(peer.server(Role::Master).state, ServerState::Offline);
}

#[test]
fn a_relink_is_told_as_down_and_up_because_messages_may_be_lost() {
    let (peer, inbox) = up_peer();
    peer.link_down(Direction::Out, 0, 2_000);
    peer.link_up(Direction::Out, 3_000);
    beat(&peer, 3_000, 3_100);
    assert_eq!(told(&inbox), [false, true]);
}

#[test]
fn the_end_of_a_replaced_link_changes_nothing() {
    let (peer, inbox) = up_peer();
    let newer = peer.next_inward();
    peer.link_up(Direction::In, 2_000);
    beat(&peer, 2_000, 2_100);
    peer.link_down(Direction::In, newer - 1, 2_200);
    peer.evaluate(2_200 + RELINK);
    assert_eq!(told(&inbox), [false, true]);
}

#[test]
fn an_echo_of_an_earlier_process_is_not_believed() {
    let (peer, inbox) = peer();
    peer.link_up(Direction::Out, 900);
    peer.next_inward();
    peer.link_up(Direction::In, 1_000);
    beat(&peer, 5_000_000, 1_100);
    assert_eq!(told(&inbox), NOTHING);
}

#[test]
fn a_tick_read_before_another_thread_sent_is_no_earlier_age() {
    let (peer, inbox) = peer();
    peer.heartbeat(2_000);
    beat(&peer, 0, 1_500);
    assert_eq!(told(&inbox), NOTHING);
}

#[test]
fn a_new_boot_takes_the_old_one_down() {
    let (peer, inbox) = up_peer();
    peer.bind(peer.judge(&hello(2, 8, (Boot(1), 3))).unwrap());
    assert_eq!(told(&inbox), [false]);
    assert_eq!(peer.current().borrow().boot, Boot(2));
}

#[test]
fn who_comes_back_with_less_is_refused() {
    let (peer, _inbox) = peer();
    peer.saw_durable((Boot(1), 40));
    assert_eq!(peer.judge(&hello(2, 8, (Boot(1), 39))), Err(Refusal::LostData));
    assert_eq!(peer.judge(&hello(2, 8, (Boot(0), 99))), Err(Refusal::LostData));
    assert!(peer.judge(&hello(2, 8, (Boot(1), 40))).is_ok());
    assert!(peer.judge(&hello(1, 7, (Boot(0), 0))).is_ok(), "a reconnect in the same boot");
    assert_eq!(peer.judge(&hello(1, 8, (Boot(0), 0))), Err(Refusal::Twin));
    assert_eq!(peer.judge(&hello(0, 8, (Boot(0), 0))), Err(Refusal::ClosedBoot));
    let stranger = Hello { node: NodeId(3), ..hello(2, 8, (Boot(1), 40)) };
    assert_eq!(peer.judge(&stranger), Err(Refusal::OtherIdentity));
}

#[test]
fn how_far_a_peer_got_is_stored_when_it_changed() {
    let (peer, _inbox) = peer();
    assert_eq!(peer.unstored(), None);
    peer.saw_durable((Boot(1), 40));
    assert_eq!(peer.unstored().map(|b| b.durable), Some((Boot(1), 40)));
    assert_eq!(peer.unstored(), None);
}

/// What the peer tells of itself with a sign of life.
fn tell(peer: &Peer, now: Tick, state: NodeState, bulletin: Option<Bulletin>) {
    let news = bulletin.map(|bulletin| {
        let (node, boot) = (NodeId(2), Boot(1));
        Notice { node, boot, number: 1, lost: false, state, bulletin }
    });
    let news = Vec::from_iter(news);
    peer.heard(
        Heartbeat { sent: now, echo: now, held: 0, needs: true, state, asks: true, news },
        Boot(1),
        now,
    );
}

/// FEATURES: S11
#[test]
fn a_peer_is_what_it_says_while_it_is_reachable() {
    let inbox = Arc::new(Inbox::new(64, 1 << 20));
    let peer = Arc::new(Peer::new(
        ("n2".into(), None),
        None,
        inbox,
        SUSPECT,
        Arc::default(),
        &Arc::default(),
    ));
    assert_eq!(peer.server(Role::Master).state, ServerState::Offline);
    peer.bind(peer.judge(&hello(1, 7, (Boot(0), 0))).unwrap());
    assert_eq!(peer.server(Role::Master).state, ServerState::NotAvailable);
    peer.link_up(Direction::Out, 900);
    peer.next_inward();
    peer.link_up(Direction::In, 1_000);
    for state in [NodeState::Starting, NodeState::Online, NodeState::Aligning] {
        tell(&peer, 2_000, state, None);
        assert_eq!(peer.server(Role::Master).state, ServerState::Is(state));
    }
    let late = Heartbeat {
        sent: 1_999,
        echo: 2_000,
        held: 0,
        needs: true,
        state: NodeState::Starting,
        asks: true,
        news: vec![],
    };
    peer.heard(late, Boot(1), 2_050);
    assert_eq!(
        peer.server(Role::Master).state,
        ServerState::Is(NodeState::Aligning),
        "said before"
    );
    let told = Bulletin { connections: 3, ..Bulletin::default() };
    tell(&peer, 2_100, NodeState::ShuttingDown, Some(told.clone()));
    peer.evaluate(2_100 + SUSPECT);
    let server = peer.server(Role::Master);
    assert_eq!((server.state, server.bulletin), (ServerState::NotAvailable, Some(told)));
    // A new life has told nothing yet.
    peer.bind(peer.judge(&hello(2, 8, (Boot(1), 3))).unwrap());
    assert_eq!(
        (peer.server(Role::Master).state, peer.server(Role::Master).bulletin),
        (ServerState::NotAvailable, None)
    );
}

/// FEATURES: A20
#[test]
fn latency_is_the_way_there_and_back_without_the_wait_between() {
    let (peer, _inbox) = peer();
    let echo = |sent, echo, held, now| {
        let state = NodeState::Online;
        peer.heard(
            Heartbeat { sent, echo, held, needs: true, state, asks: true, news: vec![] },
            Boot(1),
            now,
        );
    };
    echo(1, 0, 0, 500);
    assert_eq!(peer.toward().latency, Latency::default(), "nothing came back yet");
    echo(2, 1_000, 40_000, 41_300);
    // The same once more says nothing new.
    echo(3, 1_000, 90_000, 91_400);
    echo(4, 50_000, 20_000, 70_100);
    // The peer's clock runs faster.
    echo(5, 80_000, 60_000, 139_000);
    let expected = Latency { entries: 3, last: 0, min: 0, max: 300, total: 400 };
    assert_eq!(peer.toward().latency, expected);
}

//! Cuts: silent ones hold and deliver, closed ones reset and refuse, and both heal.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::{Node, Proxy, arrives, ends_by_reset, pair, passes, soon};

#[tokio::test]
async fn a_silent_cut_holds_everything_and_then_delivers_it_in_order() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"before").await;
    proxy.rules(&["a"], json!({"cut": {"kind": "silent"}})).await;

    client.write_all(b"one ").await.unwrap();
    server.write_all(b"answer").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 4).await;
    proxy.until("a", |view| view["bytes"]["downstream"]["held_bytes"] == 6).await;
    client.write_all(b"two").await.unwrap();
    client.shutdown().await.unwrap();
    let view = proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 7).await;
    assert_eq!(view["bytes"]["upstream"]["delivered_bytes"], 6);
    assert_eq!(view["bytes"]["downstream"]["delivered_bytes"], 0);
    assert_eq!(view["connections"]["open"], 1);

    proxy.rules(&["a"], json!({"cut": null})).await;
    arrives(&mut server, b"one two").await;
    arrives(&mut client, b"answer").await;
    assert!(!ends_by_reset(&mut server).await);
    passes(&mut server, &mut client, b"half-open still").await;
}

#[tokio::test]
async fn a_silent_cut_of_one_direction_lets_the_other_pass() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    let cut = json!({"cut": {"kind": "silent", "stream": "upstream"}});
    proxy.rules(&["a"], cut).await;
    client.write_all(b"held").await.unwrap();
    proxy.until("a", |view| view["bytes"]["upstream"]["held_bytes"] == 4).await;
    passes(&mut server, &mut client, b"passes").await;
    proxy.rules(&["a"], json!({"heal": true})).await;
    arrives(&mut server, b"held").await;
}

#[tokio::test]
async fn a_silent_cut_takes_connections_and_joins_them_after_the_heal() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    proxy.rules(&["a"], json!({"cut": {"kind": "silent"}})).await;
    let mut client = TcpStream::connect(link).await.unwrap();
    client.write_all(b"early").await.unwrap();
    drop(TcpStream::connect(link).await.unwrap());
    proxy.until("a", |view| view["connections"]["waiting"] == 2).await;
    assert!(!node.has_next());
    proxy.rules(&["a"], json!({"cut": null})).await;
    let mut server = node.next().await;
    arrives(&mut server, b"early").await;
    // The one that left without a word never reaches the node.
    proxy.until("a", |view| view["connections"]["open"] == 1).await;
    assert!(!node.has_next());
}

#[tokio::test]
async fn a_silent_cut_pushes_back_instead_of_buffering_without_bound() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    proxy.rules(&["a"], json!({"cut": {"kind": "silent"}})).await;
    let data: Vec<u8> = (0..32 * 1024 * 1024_u32).map(|i| (i / 4096) as u8).collect();
    let sent = data.clone();
    let sender = tokio::spawn(async move { client.write_all(&sent).await.map(|()| client) });
    let bound = 64 * 1024 + 128 * 1024;
    let view = proxy
        .until("a", |view| view["bytes"]["upstream"]["held_bytes"].as_u64().unwrap() >= 65_536)
        .await;
    assert!(view["bytes"]["upstream"]["held_bytes"].as_u64().unwrap() <= bound);
    assert!(!sender.is_finished());
    proxy.rules(&["a"], json!({"cut": null})).await;
    arrives(&mut server, &data).await;
    let _client = soon(sender).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_closed_cut_resets_refuses_and_heals_on_the_same_port() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"before").await;
    let answer = proxy.rules(&["a"], json!({"cut": {"kind": "closed"}})).await;
    assert_eq!(answer["effective"]["settled"], true);
    assert!(ends_by_reset(&mut client).await);
    assert!(ends_by_reset(&mut server).await);
    let refused = TcpStream::connect(link).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let view = proxy.show("a").await;
    assert_eq!(view["listening"], false);
    assert_eq!(view["connections"]["reset"], 1);
    assert_eq!(view["connections"]["open"], 0);

    proxy.rules(&["a"], json!({"cut": null})).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"after").await;
    assert_eq!(proxy.show("a").await["listen"], link.to_string());
}

#[tokio::test]
async fn a_half_open_cut_leaves_the_client_believing_and_resets_the_node() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"before").await;
    let cut = json!({"cut": {"kind": "half_open", "stream": "upstream"}});
    proxy.rules(&["a"], cut).await;
    assert!(ends_by_reset(&mut server).await);
    client.write_all(b"into the void").await.unwrap();
    let held = |view: &serde_json::Value| view["bytes"]["upstream"]["held_bytes"] == 13;
    let view = proxy.until("a", held).await;
    assert_eq!(view["connections"]["half_open"], 1);
    let counted = [&view["connections"]["open"], &view["connections"]["reset"]];
    assert_eq!(counted, [&json!(0), &json!(1)]);
    // A new one is taken and hears nothing; the one before has heard nothing either.
    let mut late = TcpStream::connect(link).await.unwrap();
    proxy.until("a", |view| view["connections"]["waiting"] == 1).await;
    let nothing = client.try_read(&mut [0]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);

    proxy.rules(&["a"], json!({"cut": null})).await;
    assert!(ends_by_reset(&mut client).await);
    assert!(ends_by_reset(&mut late).await);
    let view = proxy.until("a", |view| view["connections"]["half_open"] == 0).await;
    assert_eq!(view["bytes"]["upstream"]["discarded_bytes"], 13);
    assert!(!node.has_next());
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"after").await;
}

#[tokio::test]
async fn a_half_open_cut_the_other_way_leaves_the_node_believing_and_refuses_the_client() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    let cut = json!({"cut": {"kind": "half_open", "stream": "downstream"}});
    let answer = proxy.rules(&["a"], cut).await;
    assert_eq!(answer["effective"]["settled"], true);
    assert!(ends_by_reset(&mut client).await);
    let refused = TcpStream::connect(link).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    server.write_all(b"still there?").await.unwrap();
    server.shutdown().await.unwrap();
    let held = |view: &serde_json::Value| view["bytes"]["downstream"]["held_bytes"] == 12;
    assert_eq!(proxy.until("a", held).await["connections"]["half_open"], 1);
    // Even a change of where the link leads tells the node's old end nothing.
    let other = Node::start().await;
    let change = json!({"upstream": other.address.to_string()});
    proxy.ok("POST", "/proxies/a", change).await;
    assert_eq!(proxy.show("a").await["connections"]["half_open"], 1);

    proxy.rules(&["a"], json!({"heal": true})).await;
    assert!(ends_by_reset(&mut server).await);
    proxy.until("a", |view| view["connections"]["half_open"] == 0).await;
    TcpStream::connect(link).await.unwrap();
}

#[tokio::test]
async fn a_silent_cut_that_closes_resets_what_waits() {
    let proxy = Proxy::start().await;
    let node = Node::start().await;
    let link = proxy.link("a", &node).await;
    proxy.rules(&["a"], json!({"cut": {"kind": "silent"}})).await;
    let mut client = TcpStream::connect(link).await.unwrap();
    proxy.until("a", |view| view["connections"]["waiting"] == 1).await;
    proxy.rules(&["a"], json!({"cut": {"kind": "closed"}})).await;
    assert!(ends_by_reset(&mut client).await);
    assert_eq!(proxy.show("a").await["connections"]["refused"], 1);
}

#[tokio::test]
async fn a_reset_during_a_silent_cut_arrives_after_the_heal() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (client, mut server) = pair(link, &mut node).await;
    proxy.rules(&["a"], json!({"cut": {"kind": "silent"}})).await;
    client.set_zero_linger().unwrap();
    drop(client);
    // The node may still write: for it nothing has happened yet.
    server.write_all(b"into the void").await.unwrap();
    assert_eq!(proxy.show("a").await["connections"]["open"], 1);
    proxy.rules(&["a"], json!({"cut": null})).await;
    assert!(ends_by_reset(&mut server).await);
}

#[tokio::test]
async fn ends_of_stream_pass_each_way_on_their_own() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    arrives(&mut server, b"question").await;
    assert!(!ends_by_reset(&mut server).await);
    passes(&mut server, &mut client, b"answer").await;
    server.shutdown().await.unwrap();
    assert!(!ends_by_reset(&mut client).await);
    proxy.until("a", |view| view["connections"]["open"] == 0).await;
    let view = proxy.show("a").await;
    assert_eq!(view["connections"]["reset"], 0);
}

//! Toxiproxy's API: shapes, statuses, and that what is refused changes nothing.

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::common::{Node, Proxy, ends_by_reset, pair, passes};

#[tokio::test]
async fn a_proxy_from_creation_to_deletion() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let upstream = node.address.to_string();
    let body = json!({"name": "a", "upstream": upstream, "listen": "127.0.0.1:0"});
    let (status, created) = proxy.call("POST", "/proxies", body.clone()).await;
    assert_eq!(status, 201);
    let listen = created["listen"].as_str().unwrap().to_owned();
    assert!(!listen.ends_with(":0"), "{listen}");
    let whole = json!({
        "name": "a", "listen": listen, "upstream": upstream, "enabled": true, "toxics": []
    });
    assert_eq!(created, whole);
    assert_eq!(proxy.ok("GET", "/proxies/a", Value::Null).await, whole);
    assert_eq!(proxy.ok("GET", "/proxies", Value::Null).await, json!({ "a": whole }));

    let again = proxy.call("POST", "/proxies", body).await;
    assert_eq!(again, (409, json!({"error": "proxy already exists", "status": 409})));
    let (mut client, mut server) = pair(listen.parse().unwrap(), &mut node).await;
    passes(&mut client, &mut server, b"ping").await;

    assert_eq!(proxy.call("DELETE", "/proxies/a", Value::Null).await, (204, Value::Null));
    assert!(!ends_by_reset(&mut client).await);
    assert!(TcpStream::connect(&listen).await.is_err());
    let gone = proxy.call("GET", "/proxies/a", Value::Null).await;
    assert_eq!(gone, (404, json!({"error": "proxy not found", "status": 404})));
}

#[tokio::test]
async fn disabling_refuses_and_enabling_takes_the_same_port() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, _server) = pair(link, &mut node).await;
    for method in ["POST", "PATCH"] {
        let off = proxy.ok(method, "/proxies/a", json!({"enabled": false})).await;
        assert_eq!(off["enabled"], false);
    }
    assert!(!ends_by_reset(&mut client).await);
    assert!(TcpStream::connect(link).await.is_err());
    proxy.ok("PATCH", "/proxies/a", json!({"enabled": true})).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"back").await;
}

#[tokio::test]
async fn changing_the_upstream_moves_new_connections_and_ends_old_ones() {
    let proxy = Proxy::start().await;
    let (mut first, mut second) = (Node::start().await, Node::start().await);
    let link = proxy.link("a", &first).await;
    let (mut client, _server) = pair(link, &mut first).await;
    let upstream = second.address.to_string();
    proxy.ok("PATCH", "/proxies/a", json!({ "upstream": upstream })).await;
    assert!(!ends_by_reset(&mut client).await);
    let (mut client, mut server) = pair(link, &mut second).await;
    passes(&mut client, &mut server, b"moved").await;

    let moved = proxy.ok("PATCH", "/proxies/a", json!({"listen": "127.0.0.1:0"})).await;
    assert_ne!(moved["listen"], link.to_string());
    assert!(TcpStream::connect(link).await.is_err());
    pair(moved["listen"].as_str().unwrap().parse().unwrap(), &mut second).await;
}

#[tokio::test]
async fn a_toxic_from_creation_to_deletion() {
    let proxy = Proxy::start().await;
    let node = Node::start().await;
    proxy.link("a", &node).await;
    let up = json!({"type": "latency", "stream": "upstream", "toxicity": 0.8,
        "attributes": {"latency": 5}});
    let added = proxy.add_toxic("a", up.clone()).await;
    let whole = json!({"attributes": {"latency": 5, "jitter": 0}, "name": "latency_upstream",
        "type": "latency", "stream": "upstream", "toxicity": 0.8});
    assert_eq!(added, whole);
    assert_eq!(
        proxy.call("POST", "/proxies/a/toxics", up).await,
        (409, json!({"error": "toxic already exists", "status": 409}))
    );
    let update = json!({"attributes": {"jitter": 2}});
    let updated = proxy.ok("POST", "/proxies/a/toxics/latency_upstream", update).await;
    assert_eq!(updated["attributes"], json!({"latency": 5, "jitter": 2}));
    assert_eq!(updated["toxicity"], 0.8);
    let listed = proxy.ok("GET", "/proxies/a/toxics", Value::Null).await;
    assert_eq!(listed, json!([updated]));
    assert_eq!(proxy.ok("GET", "/proxies/a", Value::Null).await["toxics"], listed);

    let path = "/proxies/a/toxics/latency_upstream";
    assert_eq!(proxy.call("DELETE", path, Value::Null).await, (204, Value::Null));
    let gone = (404, json!({"error": "toxic not found", "status": 404}));
    assert_eq!(proxy.call("GET", path, Value::Null).await, gone);
    assert_eq!(proxy.call("DELETE", path, Value::Null).await, gone);
}

#[tokio::test]
async fn reset_enables_and_clears_everything() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let (a, b) = (proxy.link("a", &node).await, proxy.link("b", &node).await);
    proxy.add_toxic("a", json!({"type": "timeout"})).await;
    proxy.ok("PATCH", "/proxies/b", json!({"enabled": false})).await;
    proxy.rules(&["a", "b"], json!({"cut": {"kind": "closed"}})).await;
    assert_eq!(proxy.call("POST", "/reset", Value::Null).await, (204, Value::Null));
    for link in [a, b] {
        let (mut client, mut server) = pair(link, &mut node).await;
        passes(&mut server, &mut client, b"clean").await;
    }
    let links = proxy.ok("GET", "/proxies", Value::Null).await;
    assert!(links["a"]["toxics"].as_array().unwrap().is_empty());
    assert_eq!(links["b"]["enabled"], true);
}

#[tokio::test]
async fn populate_is_all_or_nothing_and_repeatable() {
    let proxy = Proxy::start().await;
    let node = Node::start().await;
    let entry = |name: &str, listen: &str| {
        let upstream = node.address.to_string();
        json!({"name": name, "listen": listen, "upstream": upstream})
    };
    let (status, made) = proxy
        .call("POST", "/populate", json!([entry("b", "127.0.0.1:0"), entry("a", "127.0.0.1:0")]))
        .await;
    assert_eq!(status, 201);
    assert_eq!(made["proxies"][0]["name"], "b");
    assert_eq!(made["proxies"].as_array().unwrap().len(), 2);
    proxy.add_toxic("a", json!({"type": "latency"})).await;
    let before = proxy.ok("GET", "/proxies", Value::Null).await;

    let taken = node.address.to_string();
    let bad = [
        (json!([entry("c", "127.0.0.1:0"), entry("d", &taken)]), 500, "listen"),
        (json!([entry("c", "127.0.0.1:0"), {"name": "d"}]), 400, "upstream at proxy 2"),
        (json!([entry("c", "127.0.0.1:0"), entry("", "127.0.0.1:0")]), 400, "name at proxy 2"),
        (json!([entry("c", "127.0.0.1:0"), entry("c", "127.0.0.1:0")]), 400, "twice"),
        (json!([entry("a", "127.0.0.1:0"), entry("d", "nowhere")]), 400, "host:port"),
        (json!({"name": "c"}), 400, "bad request body"),
    ];
    for (body, status, words) in bad {
        let (got, answer) = proxy.call("POST", "/populate", body).await;
        assert_eq!(got, status, "{answer}");
        assert_eq!(answer["status"], status);
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
        assert_eq!(answer["proxies"], json!([]));
        assert_eq!(proxy.ok("GET", "/proxies", Value::Null).await, before);
    }

    let same = json!([entry("a", before["a"]["listen"].as_str().unwrap())]);
    proxy.ok("POST", "/populate", same).await;
    assert_eq!(proxy.ok("GET", "/proxies", Value::Null).await, before);
}

#[tokio::test]
async fn what_is_refused_says_why() {
    let proxy = Proxy::start().await;
    let node = Node::start().await;
    proxy.link("a", &node).await;
    let cases = [
        ("POST", "/proxies", "{", 400, "bad request body"),
        ("POST", "/proxies", r#"{"upstream":"h:1"}"#, 400, "missing required field: name"),
        ("POST", "/proxies", r#"{"name":"x"}"#, 400, "missing required field: upstream"),
        ("POST", "/proxies", r#"{"name":"x","upstream":"h"}"#, 400, "host:port"),
        ("POST", "/proxies/a", r#"{"enabled":"maybe"}"#, 400, "bad request body"),
        ("POST", "/proxies/zz", "{", 404, "proxy not found"),
        ("POST", "/proxies/a/toxics", r#"{"type":"x"}"#, 400, "invalid toxic type"),
        ("POST", "/proxies/a/toxics", r#"{"type":"timeout","stream":"x"}"#, 400, "stream was"),
        ("POST", "/proxies/a/toxics/zz", "{}", 404, "toxic not found"),
        ("GET", "/nowhere", "", 404, "path not found"),
        ("DELETE", "/version", "", 405, "method not allowed"),
    ];
    for (method, path, body, status, words) in cases {
        let (got, text) = proxy.raw(method, path, body).await;
        assert_eq!(got, status, "{method} {path} {body}: {text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], status);
        assert!(answer["error"].as_str().unwrap().contains(words), "{answer}");
    }
    let browser = "GET /proxies HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   user-agent: Mozilla/5.0\r\n\r\n";
    assert_eq!(proxy.send(browser).await.0, 403);
}

#[tokio::test]
async fn version_and_metrics() {
    let proxy = Proxy::start().await;
    let mut node = Node::start().await;
    let link = proxy.link("a", &node).await;
    let (mut client, mut server) = pair(link, &mut node).await;
    passes(&mut client, &mut server, b"12345").await;
    let version = proxy.ok("GET", "/version", Value::Null).await;
    assert!(version["version"].as_str().unwrap().starts_with("2."));
    let (status, text) = proxy.raw("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    let wanted = format!(
        "toxiproxy_proxy_sent_bytes_total{{direction=\"upstream\",proxy=\"a\",\
         listener=\"{link}\",upstream=\"{}\"}} 5",
        node.address
    );
    assert!(text.lines().any(|line| line == wanted), "{text}");
    assert!(text.contains("quorate_proxy_connections_accepted_total{"), "{text}");
}

#[tokio::test]
async fn an_unreachable_node_resets_the_client_and_nothing_else() {
    let proxy = Proxy::start().await;
    let gone = Node::start().await.address;
    let body = json!({"name": "a", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:1"});
    let made = proxy.ok("POST", "/proxies", body).await;
    assert_ne!(gone.port(), 1);
    let mut client = TcpStream::connect(made["listen"].as_str().unwrap()).await.unwrap();
    assert!(ends_by_reset(&mut client).await);
    let view = proxy.until("a", |view| view["connections"]["open"] == 0).await;
    assert_eq!(view["connections"]["refused"], 1);
    let mut node = Node::start().await;
    let upstream = node.address.to_string();
    proxy.ok("PATCH", "/proxies/a", json!({ "upstream": upstream })).await;
    pair(made["listen"].as_str().unwrap().parse().unwrap(), &mut node).await;
}

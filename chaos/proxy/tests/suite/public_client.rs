//! The public crate `toxiproxy_rust` drives the proxy.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::ProxyPack;

use crate::common::Proxy;

/// Sends a byte and waits for its echo.
fn echo(address: &str) -> std::io::Result<Duration> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let start = Instant::now();
    socket.write_all(&[7])?;
    let mut byte = [0];
    socket.read_exact(&mut byte)?;
    Ok(start.elapsed())
}

/// Answers every connection's first byte. Ends with the test process.
fn echo_node() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut byte = [0];
            if socket.read_exact(&mut byte).is_ok() {
                // The client may be gone by now, which is its affair.
                drop(socket.write_all(&byte));
            }
        }
    });
    address
}

/// FEATURES: H5
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_rust_client_works() {
    let proxy = Proxy::start().await;
    let api = proxy.handle.api();
    // The client blocks and panics on failures, hence a plain thread.
    let session = std::thread::spawn(move || {
        let client = Client::new(api);
        assert!(client.is_running());
        assert!(client.version().unwrap().contains("2."));
        let pack = ProxyPack::new("link".into(), "127.0.0.1:0".into(), echo_node());
        let made = client.populate(vec![pack]).unwrap();
        let link = &made[0];
        let listen = link.proxy_pack.listen.clone();
        echo(&listen).unwrap();

        link.with_latency("downstream".into(), 120, 0, 1.0)
            .apply(|| assert!(echo(&listen).unwrap() >= Duration::from_millis(120)))
            .unwrap();
        assert!(link.toxics().unwrap().is_empty());
        link.with_slicer("upstream".into(), 8, 2, 0, 1.0)
            .with_bandwidth("downstream".into(), 1_000, 0.5)
            .with_slow_close("downstream".into(), 1, 1.0)
            .apply(|| assert!(echo(&listen).is_ok()))
            .unwrap();
        link.with_limit_data("downstream".into(), 0, 1.0)
            .apply(|| assert!(echo(&listen).is_err()))
            .unwrap();
        link.with_timeout("upstream".into(), 5, 1.0)
            .apply(|| assert!(echo(&listen).is_err()))
            .unwrap();
        link.with_down(|| assert!(TcpStream::connect(&listen).is_err())).unwrap();
        echo(&listen).unwrap();

        let found = client.find_and_reset_proxy("link").unwrap();
        assert_eq!(found.proxy_pack.listen, listen);
        assert_eq!(client.all().unwrap().len(), 1);
        client.reset().unwrap();
        found.delete().unwrap();
        assert!(client.all().unwrap().is_empty());
        assert!(client.find_proxy("link").is_err());
    });
    tokio::task::spawn_blocking(move || session.join()).await.unwrap().unwrap();
}

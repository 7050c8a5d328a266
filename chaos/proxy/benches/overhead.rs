//! What the idle proxy costs: round trips and bulk data, direct and through the binary, and
//! percentiles at a fixed rate.
#![allow(missing_docs, reason = "criterion's macros make public items of their own")]
#![allow(clippy::print_stdout, reason = "percentiles are no criterion measure; they are printed")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot run has nothing to say")]

use std::hint::black_box;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};

const REQUEST_BYTES: usize = 128;
const BULK_BYTES: usize = 8 * 1024 * 1024;
/// Marks a connection on which the node swallows bulk data and answers each lot with one byte.
const BULK: u8 = b'b';
const ECHO: u8 = b'e';

/// The proxy as users run it, in a process of its own, with one link.
struct Proxy {
    child: Child,
    link: SocketAddr,
}

impl Proxy {
    fn start(node: SocketAddr, threads: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-proxy"));
        command
            .args(["--listen", "127.0.0.1:0", "--threads", threads])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let first: Value = serde_json::from_str(&line).unwrap();
        let body = json!({"name": "a", "listen": "", "upstream": node.to_string()}).to_string();
        let mut api = TcpStream::connect(first["api"].as_str().unwrap()).unwrap();
        let length = body.len();
        let head = "POST /proxies HTTP/1.1\r\nhost: x\r\nconnection: close";
        write!(api, "{head}\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        api.read_to_string(&mut answer).unwrap();
        let made: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        Self { child, link: made["listen"].as_str().unwrap().parse().unwrap() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn serve(mut socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut kind = [0];
    socket.read_exact(&mut kind)?;
    let bulk = kind[0] == BULK;
    let mut buffer = vec![0; if bulk { BULK_BYTES } else { REQUEST_BYTES }];
    loop {
        socket.read_exact(&mut buffer)?;
        socket.write_all(if bulk { &buffer[..1] } else { &buffer })?;
    }
}

fn node() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // It ends with an error when the client leaves.
            std::thread::spawn(move || serve(socket));
        }
    });
    address
}

fn connect(address: SocketAddr, kind: u8) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.write_all(&[kind]).unwrap();
    socket
}

fn exchange(socket: &mut TcpStream, buffer: &mut [u8; REQUEST_BYTES]) {
    socket.write_all(buffer).unwrap();
    socket.read_exact(black_box(buffer)).unwrap();
}

/// Round-trip times at a fixed rate over 16 connections, one thread each, sorted.
fn paced(address: SocketAddr, rate: u32, time: Duration) -> Vec<Duration> {
    const CONNECTIONS: u32 = 16;
    let every = Duration::from_secs(1) * CONNECTIONS / rate;
    let count = (time.as_nanos() / every.as_nanos()) as u32;
    let start = Instant::now() + Duration::from_millis(50);
    let session = move |index: u32| {
        let mut socket = connect(address, ECHO);
        let mut buffer = [1; REQUEST_BYTES];
        let mut times = Vec::new();
        for turn in 0..count {
            let due = start + every * turn + every / CONNECTIONS * index;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            exchange(&mut socket, &mut buffer);
            times.push(sent.elapsed());
        }
        times
    };
    let threads: Vec<_> =
        (0..CONNECTIONS).map(|index| std::thread::spawn(move || session(index))).collect();
    let mut times: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    times.sort_unstable();
    times
}

fn percentiles(paths: &[(&str, SocketAddr)]) {
    println!("round trips at 5,000 a second over 16 connections, counted from the write:");
    for (name, address) in paths.iter().chain(paths) {
        // Long enough that one stall of the machine is not the p99.9.
        let times = paced(*address, 5_000, Duration::from_secs(10));
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (p50, p99, p999) = (at(0.5), at(0.99), at(0.999));
        println!("  {name:<18} n {} p50 {p50:?} p99 {p99:?} p99.9 {p999:?}", times.len());
    }
}

fn overhead(criterion: &mut Criterion) {
    let node = node();
    let (proxy, threaded) = (Proxy::start(node, "1"), Proxy::start(node, "2"));
    let paths = [("direct", node), ("proxied", proxy.link), ("proxied, 2 threads", threaded.link)];
    percentiles(&paths);

    let mut group = criterion.benchmark_group("round_trip");
    for (name, address) in paths {
        let (mut socket, mut buffer) = (connect(address, ECHO), [1; REQUEST_BYTES]);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| exchange(&mut socket, &mut buffer));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("bulk");
    group.throughput(Throughput::Bytes(BULK_BYTES as u64));
    let data = vec![7; BULK_BYTES];
    for (name, address) in paths {
        let mut socket = connect(address, BULK);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                socket.write_all(&data).unwrap();
                socket.read_exact(&mut [0]).unwrap();
            });
        });
    }
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = benches; config = quick(); targets = overhead }
criterion_main!(benches);

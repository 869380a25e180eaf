//! The gateway beside nats-server: the same clients, on this machine, taking turns.
//!
//! `cargo bench --profile dist -p echo-gateway --bench throughput -- [ROUNDS] [CASE]` prints one JSON object a line:
//! the medians of the rounds, and what each message costs the server in processor time, which says more than the
//! rate where the client is the slower side; then what connections cost that say nothing (case `idle`). Both
//! servers are processes of their own. The allocator is that of the program `echo-core`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement may fail"
)]
#![allow(clippy::print_stdout, reason = "it prints what it measured")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use echo_bus::{LocalOptions, LocalTransport};
use echo_gateway::auth::Auth;
use echo_gateway::{Gateway, GatewayOptions};
use futures_util::StreamExt;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MESSAGES: usize = 1_000_000;
const IDLE: usize = 10_000;
const CHILD: &str = "ECHO_GATEWAY_BENCH";

/// What is sent: 128 bytes each.
const PAYLOADS: [(&str, &str); 2] = [
    (
        "text",
        "the quick brown fox jumps over the lazy dog, again and again, until one hundred and twenty-eight bytes have been filled, so it..",
    ),
    (
        "json",
        r#"{"order":4711,"customer":"c-0815","amount":12.5,"currency":"EUR","tags":["new","web"],"note":"left at the door, as ever again"} "#,
    ),
];

fn main() {
    if std::env::var_os(CHILD).is_some() {
        return serve();
    }
    raise_limit();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(5);
    let wanted: Vec<&String> =
        args.iter().filter(|arg| arg.starts_with(char::is_alphabetic)).collect();
    let wants = |case: &str| wanted.is_empty() || wanted.iter().any(|wanted| *wanted == case);
    let servers = [("echo-core", gateway()), ("nats-server", nats_server())];
    for (kind, payload) in PAYLOADS {
        assert_eq!(payload.len(), 128);
        let case = format!("gateway_bytes_{kind}");
        if wants(&case) {
            measure(&case, rounds, &servers, |at| by_hand(at, payload));
        }
        let case = format!("gateway_{kind}");
        if wants(&case) {
            measure(&case, rounds, &servers, |at| with_client(at, payload));
        }
    }
    drop(servers);
    if wants("idle") {
        for subscribes in [false, true] {
            idle("echo-core", &gateway(), subscribes);
            idle("nats-server", &nats_server(), subscribes);
        }
    }
}

/// As many files as the system lets this process and its children have.
fn raise_limit() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let enough = limit.current.is_none_or(|most| most > IDLE as u64 + 100);
    assert!(enough, "this needs more open files: ulimit -n {}", IDLE + 100);
}

/// A server in a process of its own, which ends with this value.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn gateway() -> Server {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    let mut process =
        command.env(CHILD, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Server { process, address: line.trim().parse().unwrap() }
}

#[tokio::main]
async fn serve() {
    let bus = Arc::new(LocalTransport::new(LocalOptions::default()).unwrap());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = GatewayOptions { nats: Some(any), ..GatewayOptions::new(Auth::open()) };
    let gateway = Gateway::start(options, bus).await.unwrap();
    println!("{}", gateway.nats_address().unwrap());
    // Until the parent goes away.
    let wait = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
}

fn nats_server() -> Server {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new("nats-server");
    let port = free.port().to_string();
    let mut process = command
        .args(["-a", "127.0.0.1", "-p", &port])
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server has to be installed to be measured beside");
    while TcpStream::connect(free).is_err() {
        assert!(process.try_wait().unwrap().is_none(), "nats-server ended before it listened");
        std::thread::sleep(Duration::from_millis(10));
    }
    Server { process, address: free }
}

/// Has both servers take turns, and prints the medians.
fn measure(
    case: &str,
    rounds: usize,
    servers: &[(&str, Server)],
    round: impl Fn(SocketAddr) -> Duration,
) {
    let mut taken = vec![(Vec::new(), Vec::new()); servers.len()];
    for _ in 0..=rounds {
        for ((_, server), (times, costs)) in servers.iter().zip(&mut taken) {
            let before = server.cpu();
            times.push(round(server.address));
            costs.push(server.cpu() - before);
        }
    }
    let mut rates = Vec::new();
    for ((peer, _), (times, costs)) in servers.iter().zip(&mut taken) {
        // The first round warms up.
        let (time, cost) = (median(&mut times[1..]), median(&mut costs[1..]));
        let rate = MESSAGES as f64 / time.as_secs_f64();
        let cost = cost.as_nanos() as f64 / MESSAGES as f64;
        println!(
            r#"{{"case":"{case}","peer":"{peer}","msgs_per_s":{rate:.0},"server_cpu_ns_per_msg":{cost:.0}}}"#
        );
        rates.push((rate, cost));
    }
    let (ours, theirs) = (rates[0], rates[1]);
    println!(
        r#"{{"case":"{case}","rate_ratio":{:.2},"cpu_ratio":{:.2}}}"#,
        ours.0 / theirs.0,
        ours.1 / theirs.1
    );
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

impl Server {
    fn status(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// The processor time of all of its threads.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields = stat.rsplit(") ").next().unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
        // Linux counts a hundred ticks a second for all programs.
        Duration::from_millis(10 * ticks.sum::<u64>())
    }
}

/// A connection that has said who it is.
fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::with_capacity(256 * 1024, stream);
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    say(&mut stream, "CONNECT {\"verbose\":false,\"headers\":true}\r\nPING\r\n");
    expect_pong(&mut stream);
    stream
}

fn say(stream: &mut BufReader<TcpStream>, text: &str) {
    stream.get_mut().write_all(text.as_bytes()).unwrap();
}

fn expect_pong(stream: &mut BufReader<TcpStream>) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    assert_eq!(line, "PONG\r\n");
}

/// One publisher and one subscriber that only move bytes.
fn by_hand(address: SocketAddr, payload: &str) -> Duration {
    let mut subscriber = connect(address);
    say(&mut subscriber, "SUB bench.topic 1\r\nPING\r\n");
    expect_pong(&mut subscriber);
    let mut publisher = connect(address);
    let one = format!("PUB bench.topic {}\r\n{payload}\r\n", payload.len());
    let expected = format!("MSG bench.topic 1 {}\r\n{payload}\r\n", payload.len());
    let total = MESSAGES * expected.len();
    let start = Instant::now();
    let publishing = std::thread::spawn(move || {
        let many = one.repeat(500);
        for _ in 0..MESSAGES / 500 {
            publisher.get_mut().write_all(many.as_bytes()).unwrap();
        }
        say(&mut publisher, "PING\r\n");
        expect_pong(&mut publisher);
    });
    let mut read = 0;
    while read < total {
        let len = subscriber.fill_buf().unwrap().len();
        assert!(len > 0, "the subscriber was cut off after {read} bytes");
        subscriber.consume(len);
        read += len;
    }
    assert_eq!(read, total);
    publishing.join().unwrap();
    start.elapsed()
}

/// One publisher and one subscriber with the client of NATS.
#[tokio::main]
async fn with_client(address: SocketAddr, payload: &'static str) -> Duration {
    let options = async_nats::ConnectOptions::new().subscription_capacity(2 * MESSAGES);
    let subscribing = options.connect(address.to_string()).await.unwrap();
    let mut subscriber = subscribing.subscribe("bench.topic").await.unwrap();
    let mut mark = subscribing.subscribe("bench.mark").await.unwrap();
    mark.drain().await.unwrap();
    while mark.next().await.is_some() {}
    let publisher = async_nats::connect(address.to_string()).await.unwrap();
    let start = Instant::now();
    let publishing = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            publisher.publish("bench.topic", payload.into()).await.unwrap();
        }
        publisher.flush().await.unwrap();
    });
    for _ in 0..MESSAGES {
        assert_eq!(subscriber.next().await.unwrap().payload.len(), payload.len());
    }
    publishing.await.unwrap();
    start.elapsed()
}

/// What many connections cost that say nothing, each with a subscription or without.
fn idle(peer: &str, server: &Server, subscribes: bool) {
    drop(connect(server.address));
    let before = server.status("VmRSS:");
    let mut connections: Vec<_> = Vec::with_capacity(IDLE);
    for number in 0..IDLE {
        let mut connection = connect(server.address);
        if subscribes {
            say(&mut connection, &format!("SUB idle.{number} 1\r\nPING\r\n"));
            expect_pong(&mut connection);
        }
        connections.push(connection.into_inner());
    }
    let after = server.status("VmRSS:");
    println!(
        r#"{{"case":"gateway_idle","peer":"{peer}","connections":{IDLE},"subscriptions_each":{},"rss_kb_before":{before},"rss_kb":{after},"kb_per_connection":{:.1}}}"#,
        u8::from(subscribes),
        (after.saturating_sub(before)) as f64 / IDLE as f64
    );
}

//! The endpoint beside what serves such content fastest, turn by turn, same content, same client, same number of
//! connections: manifests by tag beside Debian's `docker-registry`, an 80 MB blob beside nginx (sendfile).
//!
//! `cargo bench -p larder-tests --bench endpoint [ROUNDS]`

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::image::{OCI_CONFIG, OCI_LAYER, describe, noise};
use harness::{Content, Daemon, Home};
use larder_core::Digest;
use larder_core::manifest::{ACCEPTED, OCI_MANIFEST};
use larder_proto::v1::State;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How often each takes its turn.
const ROUNDS: usize = 5;
/// How many connections ask for manifests at once.
const CONNECTIONS: usize = 8;
/// How long a turn of manifests takes.
const TURN: Duration = Duration::from_secs(2);
/// The bytes of the blob, and how often a turn reads it.
const BLOB: usize = 80_000_000;
const READS: usize = 12;
/// The kernel's clock ticks a second in `/proc/PID/stat`, on every Linux that this runs on.
const TICKS: f64 = 100.0;
const REPOSITORY: &str = "bench/app";

/// A server that is measured.
struct Server {
    name: &'static str,
    authority: String,
    path: String,
    pid: u32,
}

/// What a turn gave.
struct Turn {
    /// Requests or bytes a second.
    rate: f64,
    /// Seconds of processor time that the server took, for each request or byte.
    cost: f64,
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    let (blob, config) = (noise("blob", BLOB), Bytes::from_static(b"{\"architecture\":\"amd64\",\"os\":\"linux\"}"));
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(OCI_CONFIG, &config),
        "layers": [describe(OCI_LAYER, &blob)]});
    let image = Content::of(OCI_MANIFEST, &manifest, vec![config, blob.clone()]);

    let home = Home::new();
    let daemon = home.start();
    home.trust().policy_static("all", "**", "pass");
    daemon.http().push(REPOSITORY, "1.0", &image);
    // The gate is open, and asked.
    daemon.client().becomes("localhost/bench/app:1.0", State::Allowed);

    let away = Home::new();
    let docker = docker_registry(&away, &image);
    let nginx = nginx(&away, &blob);
    let by_tag = format!("/v2/{REPOSITORY}/manifests/1.0");
    let by_digest = format!("/v2/{REPOSITORY}/blobs/{}", Digest::of(&blob));
    let larder = |path: &str| Server {
        name: "larderd",
        authority: daemon.endpoint().to_owned(),
        path: path.to_owned(),
        pid: daemon.pid(),
    };
    let of_docker = Server {
        name: "docker-registry",
        authority: docker.authority.clone(),
        path: by_tag.clone(),
        pid: docker.pid(),
    };
    let of_nginx =
        Server { name: "nginx", authority: nginx.authority.clone(), path: "/blob".to_owned(), pid: nginx.pid() };

    println!(
        "manifest of {} bytes by tag, {CONNECTIONS} connections, keep-alive, turns of {TURN:?}",
        image.root().bytes.len()
    );
    compare(rounds, &larder(&by_tag), &of_docker, manifests, "requests/s", 1.0, "µs", 1e6);
    println!("blob of {} MB, one connection, keep-alive, {READS} reads a turn", BLOB / 1_000_000);
    compare(rounds, &larder(&by_digest), &of_nginx, blobs, "MB/s", 1e-6, "ms a MB", 1e9);
    println!("larderd: {:.1} MiB resident, peak {:.1} MiB", mib(&daemon, "VmRSS"), mib(&daemon, "VmHWM"));
}

fn mib(daemon: &Daemon, figure: &str) -> f64 {
    daemon.memory_kib(figure) as f64 / 1024.0
}

/// Measures both by turns and prints a row a turn, and the ratio of the medians.
#[expect(clippy::too_many_arguments, reason = "two servers, how they are measured, and the units of the table")]
fn compare(
    rounds: usize,
    ours: &Server,
    theirs: &Server,
    measure: fn(&Server) -> (f64, f64),
    unit: &str,
    scale: f64,
    cost_unit: &str,
    cost_scale: f64,
) {
    let mut rates = [Vec::new(), Vec::new()];
    println!("  {:<16} {:>12} {:>16} {:>6}", "", unit, "server's CPU", "load");
    for _ in 0..rounds {
        for (server, rates) in [ours, theirs].into_iter().zip(&mut rates) {
            let turn = turn(server, measure);
            let cost = format!("{:.2} {cost_unit}", turn.cost * cost_scale);
            println!("  {:<16} {:>12.0} {cost:>16} {:>6}", server.name, turn.rate * scale, load());
            rates.push(turn.rate);
        }
    }
    let [ours, theirs] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!("  medians: {:.0} and {:.0} {unit}, ratio {:.2}", ours * scale, theirs * scale, ours / theirs);
}

fn turn(server: &Server, measure: fn(&Server) -> (f64, f64)) -> Turn {
    let before = processor_seconds(server.pid);
    let (count, seconds) = measure(server);
    Turn { rate: count / seconds, cost: (processor_seconds(server.pid) - before) / count }
}

/// Gets manifests on all connections until the time is over; returns how many, and the seconds.
fn manifests(server: &Server) -> (f64, f64) {
    let accept = ACCEPTED.join(", ");
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nAccept: {accept}\r\n\r\n", server.path, server.authority);
    // One thread, no locks: a loader that is slower than what it measures measures itself.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let begun = Instant::now();
        let loads = (0..CONNECTIONS).map(|_| load_manifests(&server.authority, request.as_bytes(), begun + TURN));
        let counts = futures_util::future::join_all(loads).await;
        (counts.into_iter().sum::<usize>() as f64, begun.elapsed().as_secs_f64())
    })
}

async fn load_manifests(authority: &str, request: &[u8], until: Instant) -> usize {
    let mut stream = tokio::net::TcpStream::connect(authority).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0;
    while Instant::now() < until {
        stream.write_all(request).await.expect("sent");
        let mut filled = 0;
        let whole = loop {
            let read = stream.read(&mut buffer[filled..]).await.expect("an answer");
            assert!(read > 0, "the server closed");
            filled += read;
            if let Some(whole) = length_of(&buffer[..filled]) {
                break whole;
            }
        };
        while filled < whole {
            filled += stream.read(&mut buffer[filled..]).await.expect("the rest");
        }
        count += 1;
    }
    count
}

/// Returns the length of an answer, head and body, once its head is there.
fn length_of(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head").to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).expect("a length");
    Some(end + length.trim().parse::<usize>().expect("a number"))
}

/// Reads the blob again and again on one connection; returns the bytes and the seconds.
fn blobs(server: &Server) -> (f64, f64) {
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", server.path, server.authority);
    let mut stream = TcpStream::connect(&server.authority).expect("a connection");
    let mut buffer = vec![0; 256 << 10];
    let begun = Instant::now();
    for _ in 0..READS {
        stream.write_all(request.as_bytes()).expect("sent");
        let mut filled = 0;
        let whole = loop {
            filled += stream.read(&mut buffer[filled..]).expect("an answer");
            if let Some(whole) = length_of(&buffer[..filled]) {
                break whole;
            }
        };
        while filled < whole {
            let read = stream.read(&mut buffer).expect("the rest");
            assert!(read > 0, "the server closed");
            filled += read;
        }
    }
    ((READS * BLOB) as f64, begun.elapsed().as_secs_f64())
}

/// Processor time of a process and its children, in seconds.
fn processor_seconds(pid: u32) -> f64 {
    let of = |pid: u32| -> f64 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        behind_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
            / TICKS
    };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    of(pid) + children.split_whitespace().filter_map(|child| child.parse().ok()).map(of).sum::<f64>()
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().next().unwrap_or("?").to_owned()
}

/// A server in a process of its own; killed when dropped.
struct Foreign {
    child: Child,
    authority: String,
}

impl Foreign {
    fn start(program: &str, arguments: &[&str], authority: String) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; install it to compare with it"));
        harness::eventually(program, || TcpStream::connect(&authority).ok());
        Self { child, authority }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // nginx ends its workers where it is asked to stop.
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        let asked = pid.is_some_and(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM).is_ok());
        if !asked {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").to_string()
}

/// Debian's registry as Debian configures it (descriptors cached in memory), without its access log.
fn docker_registry(away: &Home, image: &Content) -> Foreign {
    let authority = free();
    let config = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{cache: {{blobdescriptor: inmemory}}, filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{authority}\"}}\n",
        away.beside("registry")
    );
    let config = away.write_beside("registry.yml", config);
    let registry = Foreign::start("docker-registry", &["serve", text(&config)], authority);
    harness::Http::new(&registry.authority).push(REPOSITORY, "1.0", image);
    registry
}

/// nginx as it serves files fastest.
fn nginx(away: &Home, blob: &Bytes) -> Foreign {
    let (authority, folder) = (free(), away.beside("nginx"));
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("blob"), blob).expect("the blob");
    let here = text(&folder);
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = format!(
        "daemon off; {user} pid {here}/pid; error_log {here}/error.log; worker_processes 1;\nevents {{}}\nhttp {{\n  access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000;\n  client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c; uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;\n  server {{ listen {authority}; root {here}; }}\n}}\n"
    );
    let config = away.write_beside("nginx.conf", config);
    Foreign::start("nginx", &["-c", text(&config)], authority)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

//! How long a verdict takes with 10,000 subjects held: over the Unix socket from one client, in random order, and as a
//! process (`larder status REF`); and how much memory the daemon has at rest.
//!
//! `cargo bench -p larder-tests --bench verdict [SUBJECTS]`

use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::Home;
use harness::image::{OCI_CONFIG, OCI_LAYER, describe};
use larder_core::Digest;
use larder_core::manifest::OCI_MANIFEST;
use larder_proto::v1::QueryRequest;
use larder_proto::v1::verification_client::VerificationClient;
use serde_json::json;
use tonic::transport::Endpoint;

/// How many subjects are held, unless the command line says otherwise.
const SUBJECTS: usize = 10_000;
/// How many questions are asked in a run.
const QUESTIONS: usize = 20_000;
/// The budget of the median.
const BUDGET: Duration = Duration::from_micros(200);
/// How often `larder status REF` is run, and the budget of the median.
const RUNS: usize = 200;
const PROCESS_BUDGET: Duration = Duration::from_millis(10);
/// The budget of a daemon at rest with 10,000 subjects, in MiB.
const REST_BUDGET: u64 = 60;

fn main() {
    let subjects = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(SUBJECTS);
    let home = Home::new();
    let daemon = home.start();
    let begun = Instant::now();
    let digests = fill(&daemon, subjects);
    println!("{subjects} subjects written through the endpoint in {:.1} s", begun.elapsed().as_secs_f32());
    let by_digest: Vec<_> = digests.iter().map(|digest| format!("localhost/bench/app@{digest}")).collect();
    let by_tag: Vec<_> = (0..subjects).map(|number| format!("localhost/bench/app:t{number}")).collect();
    let socket = format!("unix://{}", daemon.socket().display());
    for (what, references) in [("by digest", &by_digest), ("by tag", &by_tag)] {
        let mut times = ask(&socket, references);
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "verdict {what}: median {:?}, p90 {:?}, p99 {:?}, max {:?} (budget of the median {BUDGET:?}; {QUESTIONS} questions, one client)",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    let mib = |daemon: &harness::Daemon| daemon.memory_kib("VmRSS") as f64 / 1024.0;
    println!("larderd after all this: {:.1} MiB resident", mib(&daemon));
    // The client's environment is the one of the tests: what it takes to start a process is in the figures.
    let larder = |arguments: &[&str]| {
        let output = home.invoke(arguments).spawn().wait_with_output().expect("larder's end");
        assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let mut status = run(|number| larder(&["status", &by_tag[number % subjects]]));
    let mut version = run(|_| larder(&["--version"]));
    for (what, times) in [("larder status REF", &mut status), ("larder --version, for comparison", &mut version)] {
        times.sort();
        println!(
            "{what} as a process: median {:.1?}, p90 {:.1?}, min {:.1?} ({RUNS} runs; budget of status {PROCESS_BUDGET:?}; load {})",
            times[RUNS / 2],
            times[RUNS * 9 / 10],
            times[0],
            std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("?")
        );
    }
    assert!(daemon.stop().success(), "a clean stop");
    let daemon = home.start();
    assert_eq!(daemon.client().summary().subjects, subjects as u64, "all are held");
    println!(
        "larderd at rest, started anew with {subjects} subjects: {:.1} MiB resident (budget {REST_BUDGET} MiB)",
        mib(&daemon)
    );
}

/// Runs something again and again.
fn run(mut once: impl FnMut(usize)) -> Vec<Duration> {
    let timed = |number| {
        let begun = Instant::now();
        once(number);
        begun.elapsed()
    };
    (0..RUNS).map(timed).collect()
}

/// Pushes tagged images that share their blobs.
fn fill(daemon: &harness::Daemon, subjects: usize) -> Vec<Digest> {
    let (config, layer) =
        (Bytes::from_static(b"{\"architecture\":\"amd64\",\"os\":\"linux\"}"), Bytes::from_static(b"layer"));
    let http = daemon.http();
    for blob in [&config, &layer] {
        http.put_blob("bench/app", &Digest::of(blob), blob.clone()).is(201);
    }
    let push = |number: usize| {
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": describe(OCI_CONFIG, &config),
            "layers": [describe(OCI_LAYER, &layer)], "annotations": {"number": number.to_string()}});
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::of(&bytes);
        http.put_manifest("bench/app", &format!("t{number}"), OCI_MANIFEST, bytes).is(201);
        digest
    };
    // Several writers at once share the journal's syncs.
    std::thread::scope(|scope| {
        const WRITERS: usize = 16;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| scope.spawn(move || (writer..subjects).step_by(WRITERS).map(push).collect::<Vec<_>>()))
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    })
}

/// Asks for one verdict after the other, in an order that jumps about.
fn ask(socket: &str, references: &[String]) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Endpoint::from_shared(socket.to_owned()).expect("a URI").connect().await.expect("the socket");
        let mut client = VerificationClient::new(channel);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut times = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            // xorshift64: the order must only be hard to guess for a cache.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let reference = references[(state % references.len() as u64) as usize].clone();
            let begun = Instant::now();
            let response = client.query(QueryRequest { references: vec![reference] }).await.expect("an answer");
            times.push(begun.elapsed());
            assert_eq!(response.into_inner().results.len(), 1);
        }
        times
    })
}

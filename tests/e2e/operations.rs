//! What whoever runs the daemon sees: log, metrics, check-config, and how it ends.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::registry::Fault;
use harness::{Home, Signer, Watch, binaries};
use larder_proto::v1::State;
use serde_json::Value;

use crate::world::World;

/// What the daemon grants to whatever is under way, and to the store, when it stops; and as much again for a slow machine.
const BOUND: Duration = Duration::from_secs(60);

/// The lines of a log in JSON.
fn lines(log: &str) -> Vec<Value> {
    let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn the_log_names_the_operation_and_its_seq() {
    let world =
        World::launched(Home::new(), |launch| launch.env("LARDER_LOG_FORMAT", "json").env("LARDER_LOG", "debug"));
    let release = Signer::new("release");
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    // An answer changes before it is told.
    let told = |lines: &[Value]| lines.iter().any(|line| line["to"] == "verified");
    let lines = harness::eventually("the telling", || Some(lines(&world.daemon.log())).filter(|lines| told(lines)));
    let operation = lines.iter().find(|line| line["operation"] == "pull").expect("the pull");
    assert_eq!(operation["reference"], world.reference("1.0"));
    assert!(operation["seq"].as_u64().is_some_and(|seq| seq > 0), "{operation}");
    assert!(operation["by"].as_str().is_some_and(|by| by.contains("pull")), "{operation}");
    let trust = lines.iter().find(|line| line["message"] == "trust changed").expect("the change of trust");
    assert_eq!(trust["changes"], "keys/release.pub added");
    let told = lines.iter().rfind(|line| line["message"] == "a verdict changed").expect("the verdict");
    assert_eq!((told["from"].as_str(), told["to"].as_str()), (Some("untrusted"), Some("verified")));
    // What a request to a registry belongs to can be read off its line.
    let sent = lines.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains("/manifests/1.0")));
    let spans = sent.expect("a request")["spans"].to_string();
    assert!(spans.contains(&world.reference("1.0")), "{spans}");
}

#[test]
fn a_faulty_trust_folder_is_loud() {
    let world = World::start();
    world.home.trust().write("keys/broken.pub", "no key");
    world.daemon.client().trust_becomes("faulty", 0, 0);
    let log = || world.daemon.log();
    let deadline = Instant::now() + BOUND;
    while !log().contains("nothing new is accepted until the trust folder is mended") {
        assert!(Instant::now() < deadline, "{}", log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let numbers = world.daemon.http().get("/metrics").text();
    assert_eq!(number(&numbers, "larder_trust_condition{state=\"faulty\"}"), 1.0);
    assert_eq!(number(&numbers, "larder_trust_faults"), 1.0);
}

/// Finds a sample.
#[track_caller]
fn number(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in:\n{text}"))
}

#[test]
fn metrics_count_what_happened() {
    let (world, release) = (World::start(), Signer::new("release"));
    let http = world.daemon.http();
    let before = http.get("/metrics").is(200);
    assert!(before.header("content-type").starts_with("application/openmetrics-text"));
    assert_eq!(number(&before.text(), "larder_subjects{state=\"verified\"}"), 0.0);
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    http.get("/v2/").is(200);
    http.get("/v2/nothing/manifests/1").is(404);
    let after = http.get("/metrics").text();
    assert_eq!(number(&after, "larder_subjects{state=\"verified\"}"), 1.0);
    assert_eq!(number(&after, "larder_operations_total{kind=\"pull\"}"), 1.0);
    assert_eq!(number(&after, "larder_verdicts_told_total{state=\"untrusted\"}"), 1.0);
    assert_eq!(number(&after, "larder_endpoint_requests_total{method=\"GET\",status=\"404\"}"), 1.0);
    assert!(number(&after, "larder_registry_requests_total") >= 4.0, "{after}");
    assert!(number(&after, "larder_store_bytes") > 0.0, "{after}");
    assert!(number(&after, "process_resident_memory_bytes") > 1e6, "{after}");
    assert_eq!(after.lines().last(), Some("# EOF"));
    // They are for those whom the endpoint is for.
    http.with("Origin", "https://evil.example").get("/metrics").is(403);
}

#[test]
fn what_hangs_does_not_keep_the_daemon() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.upstream("1.0", &[&release]);
    world.registry.fault("GET", "/blobs/", Fault::Hold, usize::MAX);
    let mut pulling = world.home.invoke(["pull", &world.reference("1.0")]).spawn();
    // It is connected: one that came too late would start a daemon of its own.
    let (watching, _) = Watch::start_complete(&world.home);
    // A client of the endpoint that sends half a head, and one in the middle of an upload.
    let mut half = TcpStream::connect(world.daemon.endpoint()).expect("the endpoint");
    half.write_all(b"GET /v2/ HTTP/1.1\r\nHost: 127").expect("half a head");
    let mut upload = TcpStream::connect(world.daemon.endpoint()).expect("the endpoint");
    let head = "POST /v2/app/blobs/uploads/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\nsome";
    upload.write_all(head.as_bytes()).expect("half an upload");
    let deadline = Instant::now() + BOUND;
    while !world.registry.seen().iter().any(|seen| seen.path.contains("/blobs/")) {
        assert!(Instant::now() < deadline, "the pull asks for no blob");
        std::thread::sleep(Duration::from_millis(5));
    }
    let begun = Instant::now();
    let World { home, daemon, .. } = world;
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    pulling.wait().expect("the end of the pull");
    // The watch waits for the next daemon.
    drop(watching);
    home.start();
}

/// Runs `larderd` with arguments to its end.
fn larderd(home: &Home, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let mut command = Command::new(&binaries().larderd);
    command.args(arguments).env_clear().env("LARDER_HOME", home.path()).envs(variables.iter().copied());
    let output = command.output().expect("larderd can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_config_says_what_would_hold_and_starts_nothing() {
    let home = Home::with_config("gate = \"warn\"\n[registry.\"old.lan\"]\nplain_http = true\n");
    let (code, stdout, stderr) = larderd(&home, &["check-config"], &[]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    for words in ["gate warn", "old.lan, plain HTTP", "0 keys, 0 policies", "\nok\n"] {
        assert!(stdout.contains(words), "{words:?} is not in:\n{stdout}");
    }
    assert!(!home.path().join("format.json").exists(), "it made a home");

    home.trust().create();
    home.trust().write("keys/broken.pub", "no key");
    let (code, _, stderr) = larderd(&home, &["check-config"], &[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("error: the trust folder is faulty") && stderr.contains("keys/broken.pub"), "{stderr}");

    home.configure("gates = \"warn\"");
    let (code, _, stderr) = larderd(&home, &["check-config"], &[]);
    assert_eq!(code, 1);
    assert!(stderr.contains("config.toml, line 1"), "{stderr}");
}

#[test]
fn a_level_that_is_none_is_refused() {
    let home = Home::new();
    let (code, _, stderr) = larderd(&home, &["--log-level", "loud", "check-config"], &[]);
    assert_eq!(code, 2);
    assert!(stderr.contains("is no log level"), "{stderr}");
    let (code, _, stderr) = larderd(&home, &["check-config"], &[("LARDER_LOG", "loud")]);
    assert_eq!(code, 2);
    assert!(stderr.contains("is no log level"), "{stderr}");
}

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;

use harness::{Home, Signer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::world::World;

#[test]
fn daemon_status_says_where_everything_is() {
    let world = World::start();
    let status = world.home.larder(["daemon", "status", "--output", "json"]).exits(0).json();
    assert_eq!(status["pid"], world.daemon.pid());
    assert_eq!(status["home"], world.home.path().to_str().expect("UTF-8"));
    assert_eq!(status["socket"], world.daemon.socket().to_str().expect("UTF-8"));
    assert_eq!(status["endpoint"], world.daemon.endpoint());
    assert!(status["version"].is_string());
}

#[test]
fn the_client_starts_the_daemon_and_says_so() {
    let home = Home::new();
    let output = home.invoke(["ls"]).env("SECRET_PASSWORD", "s3cret").run().exits(0);
    assert!(output.stderr.contains("started larderd"), "{}", output.stderr);
    let status = home.larder(["daemon", "status", "--output", "json"]).exits(0).json();
    let pid = status["pid"].as_u64().expect("a pid");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    assert!(!String::from_utf8_lossy(&environment).contains("s3cret"), "an allow-list of variables");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("its folder"), std::path::Path::new("/"));
    let second = home.larder(["ls"]).exits(0);
    assert!(!second.stderr.contains("started larderd"));
    home.larder(["daemon", "stop"]).exits(0);
    harness::eventually("its end", || (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    home.larder(["daemon", "start"]).exits(0);
    home.larder(["daemon", "stop"]).exits(0);
}

#[test]
fn many_first_clients_at_once_start_one_daemon() {
    let home = Home::new();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| home.larder(["ls"]))).collect();
        runs.into_iter().map(|run| run.join().expect("a run")).collect()
    });
    for output in outputs {
        output.exits(0);
    }
    home.larder(["daemon", "stop"]).exits(0);
}

#[test]
fn usage_errors_are_exit_2_and_help_ends_in_examples() {
    let home = Home::new();
    home.larder(["no-such-verb"]).exits(2);
    home.larder(["pull"]).exits(2);
    home.larder(["pull", "--no-such-flag", "x"]).exits(2);
    for verb in [
        "pull",
        "push",
        "ls",
        "show",
        "status",
        "explain",
        "verify",
        "watch",
        "log",
        "trust",
        "key",
        "sign",
        "login",
        "logout",
        "daemon",
        "quickstart",
    ] {
        let help = home.larder([verb, "--help"]).exits(0).stdout;
        assert!(help.contains(&format!("larder {verb}")), "{verb}: {help}");
    }
    assert!(home.larder(["--version"]).exits(0).stdout.contains(env!("CARGO_PKG_VERSION")));
    assert!(!home.path().exists(), "help starts nothing");
}

#[test]
fn what_is_listed_and_shown() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let (reference, digest) = (world.reference("1.0"), image.digest().to_string());
    let listed = world.home.larder(["ls", "--output", "json"]).exits(0);
    assert!(
        listed.stdout.contains(&digest) && listed.stdout.contains("\"1.0\""),
        "whole digests in JSON: {}",
        listed.stdout
    );
    let human = world.home.larder(["ls"]).exits(0).stdout;
    assert!(human.contains(&digest["sha256:".len()..][..12]) && human.contains("1.0"), "{human}");
    assert!(!human.contains(&digest), "short digests for people: {human}");
    let shown: Value = world.home.larder(["show", &reference, "--output", "json"]).exits(0).json();
    let text = shown.to_string();
    assert!(text.contains(&digest) && text.contains(&image.top_layer().to_string()), "{text}");
    assert!(text.contains("signature"), "what is attached: {text}");
    world
        .home
        .larder(["show", "registry.example.org/nothing:1"])
        .exits(1)
        .is_a_clear_error("registry.example.org/nothing:1");
    let names = |filter: &str| world.home.larder(["ls", filter, "--output", "json"]).exits(0).stdout.contains(&digest);
    assert!(names(&format!("{}/**", world.registry.host())));
    assert!(!names("quay.io/**"));
}

#[test]
fn a_list_has_pages() {
    use larder_proto::v1::ListArtifactsRequest;
    let world = World::start();
    for number in 0..7 {
        world.upstream(&format!("1.{number}"), &[]);
        world.pull(&format!("1.{number}"));
    }
    let mut artifacts = world.daemon.client().artifacts();
    let mut tags = Vec::new();
    let mut request = ListArtifactsRequest { page_size: 3, ..Default::default() };
    let mut pages = 0;
    loop {
        let page = harness::block(artifacts.list_artifacts(request.clone())).expect("ListArtifacts").into_inner();
        assert!(page.artifacts.len() <= 3);
        tags.extend(page.artifacts.into_iter().map(|artifact| artifact.tag));
        pages += 1;
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(tags, ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]);
    assert!(pages >= 3);
    let broken = ListArtifactsRequest { page_token: "broken".to_owned(), ..Default::default() };
    let error = harness::block(artifacts.list_artifacts(broken)).expect_err("no such page");
    assert_eq!(error.code(), tonic::Code::InvalidArgument);
}

#[test]
fn remote_tags_are_listed_over_all_pages() {
    let world = World::start();
    for number in 0..5 {
        world.upstream(&format!("1.{number}"), &[]);
    }
    let repository = world.reference("1.0").trim_end_matches(":1.0").to_owned();
    let listed = world.home.larder(["ls", "--remote", &repository]).exits(0).stdout;
    for number in 0..5 {
        assert!(listed.contains(&format!("1.{number}")), "{listed}");
    }
}

#[test]
fn quickstart_tells_its_story() {
    let home = Home::new();
    let begun = std::time::Instant::now();
    let output = home.larder(["quickstart"]).exits(0);
    println!("quickstart took {:?}", begun.elapsed());
    let told = format!("{}{}", output.stdout, output.stderr);
    for word in ["larder pull", "larder verify", "skopeo copy", "verified", "untrusted", "403"] {
        assert!(told.contains(word), "it does not tell of {word:?}:\n{told}");
    }
    assert!(!home.path().exists(), "a throw-away home, not the user's");
}

#[test]
fn a_quickstart_that_is_stopped_leaves_nothing_behind() {
    // A closed terminal and a `timeout` around it count as much as Ctrl-C: the daemons would outlive it by default.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let home = Home::new();
        let temporary = home.beside("temporary");
        fs::create_dir(&temporary).expect("a folder");
        let mut child = home.invoke(["quickstart"]).env("TMPDIR", &temporary).spawn();
        let mut told = BufReader::new(child.stdout.take().expect("its stdout")).lines();
        let mut endpoints = Vec::new();
        while endpoints.len() < 2 {
            let line = told.next().expect("it tells of two endpoints").expect("its stdout");
            let endpoint = line.split_once("endpoint ").and_then(|(_, rest)| rest.split_whitespace().next());
            endpoints.extend(endpoint.map(ToOwned::to_owned));
        }
        kill_process(Pid::from_child(&child), signal).expect("a signal");
        assert_eq!(child.wait().expect("its end").code(), Some(1), "{signal:?}");
        let left: Vec<_> = fs::read_dir(&temporary).expect("the folder").collect();
        assert!(left.is_empty(), "{signal:?}: {left:?}");
        for endpoint in endpoints {
            assert!(TcpStream::connect(&endpoint).is_err(), "{signal:?}: a daemon still answers at {endpoint}");
        }
    }
}

#[test]
fn services_for_tools() {
    // Errors carry a stable reason.
    use larder_proto::v1::GetArtifactRequest;
    let world = World::start();
    let request = GetArtifactRequest { reference: "registry.example.org/nothing:1".to_owned() };
    let error = harness::block(world.daemon.client().artifacts().get_artifact(request)).expect_err("not held");
    assert_eq!(error.code(), tonic::Code::NotFound);
    assert!(String::from_utf8_lossy(error.details()).contains("not-held"), "ErrorInfo: {error:?}");
}

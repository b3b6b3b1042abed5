//! The API as foreign clients speak it: grpcurl by reflection, on the socket and over mutual TLS; the example client in
//! Python, from stubs of its own making.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::pki::Pki;
use harness::{Daemon, Home, Image};

use crate::tools::{attempt, run};

/// The repository of the parts below.
const APP: &str = "localhost/team/app";

pub(crate) fn grpcurl_on_the_socket_and_over_tls() {
    let (home, pki) = (Home::new(), Pki::new());
    let server = pki.issue(&home, "server", &["localhost", "127.0.0.1"]);
    let reader = pki.issue(&home, "reader", &["reader.site"]);
    let ca = pki.ca(&home, "ca");
    home.configure(&format!(
        "[grpc]\naddress = \"127.0.0.1:0\"\ncert_file = {:?}\nkey_file = {:?}\nclient_ca_file = {ca:?}\n[[grpc.client]]\ndns = \"reader.site\"\nrole = \"reader\"\n",
        server.cert, server.key
    ));
    let daemon = home.start();
    let socket = daemon.socket().display().to_string();
    let on_socket = ["-plaintext", "-unix", "-authority", "localhost", &socket];
    let address = daemon.client().status().grpc;
    let path = |path: &Path| path.display().to_string();
    let (ca, cert, key) = (path(&ca), path(&reader.cert), path(&reader.key));
    let over_tls = ["-cacert", &ca, "-cert", &cert, "-key", &key, &address];
    for way in [&on_socket[..], &over_tls[..]] {
        let services = run("grpcurl", way.iter().chain(&["list"]));
        for service in ["larder.v1.Content", "larder.v1.Verification", "grpc.health.v1.Health"] {
            assert!(services.lines().any(|line| line == service), "{services}");
        }
        let health = run("grpcurl", way.iter().chain(&["grpc.health.v1.Health/Check"]));
        assert!(health.contains("SERVING"), "{health}");
        let status = run("grpcurl", way.iter().chain(&["larder.v1.Daemon/GetStatus"]));
        assert!(status.contains("\"gate\": \"enforce\""), "{status}");
        let described = run("grpcurl", way.iter().chain(&["describe", "larder.v1.Content.Read"]));
        assert!(described.contains("returns ( stream .larder.v1.ReadResponse )"), "{described}");
    }
    let (code, _, stderr) = attempt("grpcurl", over_tls.iter().chain(&["larder.v1.Daemon/Stop"]), &[]);
    assert!(code != 0 && stderr.contains("PermissionDenied"), "a reader stopped the daemon: {stderr}");
    let (code, _, _) = attempt("grpcurl", ["-plaintext", &address, "list"], &[]);
    assert_ne!(code, 0, "plain text was answered");
}

/// The example client, ready to run.
struct Python {
    home: Home,
    daemon: Daemon,
}

impl Python {
    fn command(&self, arguments: &[&str]) -> Command {
        let tools = self.home.beside("python");
        let mut command = Command::new(tools.join("venv/bin/python"));
        command.arg(harness::binaries::workspace().join("tests/interop/python/larder_client.py"));
        command.arg(self.daemon.socket()).args(arguments).env("PYTHONPATH", tools.join("stubs"));
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> (i32, Vec<u8>, String) {
        let output = self.command(arguments).output().expect("python can be run");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), output.stdout, stderr)
    }
}

pub(crate) fn the_example_client_in_python() {
    let home = Home::new();
    let generate = harness::binaries::workspace().join("tests/interop/python/generate");
    run(&generate.display().to_string(), [home.beside("python")]);
    let daemon = home.start();
    let image = Image::small("python");
    daemon.http().push("team/app", "1.0", &image);
    let python = Python { home, daemon };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();

    let (code, stdout, stderr) = python.run(&["health"]);
    assert_eq!((code, text(&stdout).trim()), (0, "SERVING"), "{stderr}");
    let reference = format!("{APP}:1.0");
    let (code, stdout, stderr) = python.run(&["query", &reference]);
    assert!(code == 3 && text(&stdout).contains("unsigned (no-policy"), "{} {stderr}", text(&stdout));
    let layer = image.top_layer().to_string();
    let (code, _, stderr) = python.run(&["read", APP, &layer]);
    assert!(code == 1 && stderr.contains("(not-accepted)"), "{stderr}");

    // A watch sees the change; what happens while nobody watches is told to the next one, and nothing twice.
    let cursor = python.home.beside("cursor").display().to_string();
    let mut watch = python.command(&["watch", &cursor, "1"]).stdout(Stdio::piped()).spawn().expect("a watch");
    harness::eventually("the snapshot", || Path::new(&cursor).exists().then_some(()));
    python.home.larder(["trust", "allow", APP, "--yes"]).exits(0);
    assert!(watch.wait().expect("the watch ends").success());
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut watch.stdout.take().expect("a pipe"), &mut seen).expect("text");
    assert!(seen.contains(&format!("{APP} unsigned -> allowed")), "{seen}");
    let (code, stdout, _) = python.run(&["query", &reference]);
    assert_eq!(code, 0, "{}", text(&stdout));
    let (code, stdout, stderr) = python.run(&["read", APP, &layer]);
    assert_eq!((code, &stdout[..]), (0, &image.blobs().last().expect("a layer")[..]), "{stderr}");
    let policies = python.home.path().join("trust/policies");
    for policy in harness::home::files(&policies).into_iter().filter(|path| path.extension().is_some()) {
        std::fs::remove_file(policy).expect("a policy");
    }
    python.daemon.client().becomes(&reference, larder_proto::v1::State::Unsigned);
    let (code, stdout, stderr) = python.run(&["watch", &cursor, "1"]);
    assert_eq!((code, text(&stdout).trim()), (0, &*format!("{APP} allowed -> unsigned")), "{stderr}");
}

//! The API over TCP: mutual TLS, and a role for each certificate.

use harness::pki::{Identity, Pki};
use harness::{Daemon, Home, Output, block};
use larder_proto::v1::HistoryRequest;

/// A home whose daemon listens on TCP for a builder (operator) and a scanner (reader).
struct Site {
    daemon: Daemon,
    home: Home,
    pki: Pki,
}

impl Site {
    #[track_caller]
    fn start() -> Self {
        let (home, pki) = (Home::new(), Pki::new());
        configure(&home, &pki);
        let daemon = home.start();
        Self { daemon, home, pki }
    }

    /// Runs `larder` as the holder of a certificate.
    #[track_caller]
    fn larder_as(&self, identity: &Identity, words: &[&str]) -> Output {
        let address = self.daemon.client().status().grpc;
        self.home
            .invoke(words.iter().copied())
            .env("LARDER_ADDRESS", address)
            .env("LARDER_TLS_CERT", &identity.cert)
            .env("LARDER_TLS_KEY", &identity.key)
            .env("LARDER_TLS_CA", self.pki.ca(&self.home, "ca"))
            .run()
    }
}

fn configure(home: &Home, pki: &Pki) {
    let server = pki.issue(home, "server", &["localhost", "127.0.0.1"]);
    home.configure(&format!(
        r#"
[grpc]
address = "127.0.0.1:0"
cert_file = {:?}
key_file = {:?}
client_ca_file = {:?}
[[grpc.client]]
uri = "spiffe://site/builder"
role = "operator"
[[grpc.client]]
dns = "scanner.site"
role = "reader"
"#,
        server.cert,
        server.key,
        pki.ca(home, "clients"),
    ));
}

#[test]
fn a_reader_asks_and_changes_nothing() {
    let site = Site::start();
    let builder = site.pki.issue(&site.home, "builder", &["spiffe://site/builder"]);
    let scanner = site.pki.issue(&site.home, "scanner", &["Scanner.site"]);
    let stranger = site.pki.issue(&site.home, "stranger", &["spiffe://site/builder/2", "xscanner.site"]);
    let image = harness::Image::small("app");
    site.daemon.http().push("team/app", "1.0", &image);

    for identity in [&builder, &scanner] {
        let status = site.larder_as(identity, &["status", "localhost/team/app:1.0", "--output", "json"]);
        status.exits(3).says(&[]);
        let manifest = site.larder_as(identity, &["cat", "localhost/team/app:1.0"]).exits(0);
        assert_eq!(manifest.stdout.as_bytes(), image.root().bytes);
    }
    // What changes something, and what is past the gate, is for operators.
    let config = larder_core::Digest::of(&image.blobs()[0]).to_string();
    let past = ["cat", "localhost/team/app:1.0", "--unverified", "--blob", &config];
    let allow = ["trust", "allow", "localhost/team/**", "--yes"];
    site.larder_as(&scanner, &past).exits(1).is_a_clear_error("operators");
    site.larder_as(&scanner, &allow).exits(1).is_a_clear_error("scanner.site").hints();
    site.larder_as(&scanner, &["verify", "localhost/team/app:1.0"]).exits(1);
    site.larder_as(&builder, &past).exits(0);
    site.larder_as(&builder, &allow).exits(0);
    site.larder_as(&scanner, &["status", "localhost/team/app:1.0"]).exits(0);
    // A certificate of the right CA that nobody named may do nothing.
    site.larder_as(&stranger, &["status"]).exits(1).is_a_clear_error("no role").says(&["spiffe://site/builder/2"]);
    // A daemon elsewhere is not stopped from here.
    site.larder_as(&builder, &["daemon", "stop"]).exits(2);
    site.larder_as(&scanner, &["daemon", "status"]).exits(0);
}

#[test]
fn the_journal_names_the_certificate() {
    let site = Site::start();
    let builder = site.pki.issue(&site.home, "builder", &["spiffe://site/builder"]);
    let registry = harness::FakeRegistry::start();
    registry.put("store/app", "1.0", &harness::Image::small("pulled"));
    site.larder_as(&builder, &["pull", &registry.reference("store/app", "1.0")]).exits(0);
    let history = HistoryRequest { page_size: 100, ..Default::default() };
    let entries = block(site.daemon.client().verification().history(history)).expect("a history").into_inner().entries;
    let actors: Vec<&str> = entries.iter().map(|entry| entry.actor.as_str()).collect();
    assert!(actors.contains(&"spiffe://site/builder, pull"), "{actors:?}");
}

#[test]
fn no_other_way_in() {
    let site = Site::start();
    // Another CA's certificate with the right name.
    let foreign = Pki::new().issue(&site.home, "foreign", &["spiffe://site/builder"]);
    site.larder_as(&foreign, &["status"]).exits(1).is_a_clear_error("larderd");
    // A client that trusts another CA does not speak to this daemon.
    let builder = site.pki.issue(&site.home, "builder", &["spiffe://site/builder"]);
    let address = site.daemon.client().status().grpc;
    let other_ca = Pki::new().ca(&site.home, "other-ca");
    let run = site.home.invoke(["status", "--address", &address]);
    let run = run.env("LARDER_TLS_CERT", &builder.cert).env("LARDER_TLS_KEY", &builder.key);
    run.env("LARDER_TLS_CA", other_ca).run().exits(1).is_a_clear_error("certificate");
    site.home.larder(["status", "--address", &address]).exits(2).says(&["--tls-cert"]);
    // Without TLS nothing is answered.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let plain = block(async {
        let channel = endpoint.connect().await.ok()?;
        let mut daemon = larder_proto::v1::daemon_client::DaemonClient::new(channel);
        daemon.get_status(larder_proto::v1::GetStatusRequest {}).await.ok()
    });
    assert!(plain.is_none(), "plain text was answered");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let (home, pki) = (Home::new(), Pki::new());
    configure(&home, &pki);
    let key = home.beside("server.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("a mode");
    let ended = home.launch().try_start().expect_err("the key is public");
    assert!(ended.log.contains("chmod 600"), "{}", ended.log);
}

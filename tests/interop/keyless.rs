//! Signing as somebody, against a private Sigstore of real parts (Fulcio, a CT log, Rekor 1 and 2, a timestamp authority):
//! what Larder signs and attests is verified by cosign and by Larder, and what does not check is not stored.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use harness::{Home, Output};

use crate::tools::{Registry, Stage, greeting, run};

/// How many ports in a row the private Sigstore takes.
const PORTS: u16 = 11;
const ALICE: &str = "alice@example.com";

/// A private Sigstore; stops when dropped.
struct Sigstore {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Sigstore {
    /// Makes its keys and starts its servers.
    fn start(folder: &Path) -> Self {
        let port = free_ports();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/sigstore/up.sh");
        let mut command = Command::new(script);
        command.arg(folder).arg(port.to_string()).env("HOME", folder);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("up.sh can be run");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let is_ready = stdout.lines().any(|line| line.expect("a line") == "ready");
        assert!(is_ready, "the private Sigstore did not start; what it said is above");
        Self { child, folder: folder.to_owned(), port }
    }

    fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Gets an identity token: a path below the issuer, with what it shall say.
    fn token(&self, path: &str) -> String {
        run(
            "python3",
            [
                "-c",
                "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())",
                &format!("{}{path}", self.issuer()),
            ],
        )
        .trim()
        .to_owned()
    }

    fn flags(&self, config: &str) -> String {
        let (config, root) = (self.file(&format!("signing_{config}.json")), self.file("trusted_root.json"));
        format!("--signing-config {config} --trusted-root {root}")
    }

    /// What asks for Alice, of cosign and Larder alike.
    fn alice(&self) -> String {
        let (root, issuer) = (self.file("trusted_root.json"), self.issuer());
        format!("--trusted-root {root} --certificate-identity {ALICE} --certificate-oidc-issuer {issuer}")
    }
}

impl Drop for Sigstore {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Finds ports in a row that nobody listens on.
fn free_ports() -> u16 {
    let listen = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let found = (0..100).find_map(|_| {
        let first = listen(0).and_then(|listener| listener.local_addr()).expect("a free port").port();
        let last = first.checked_add(PORTS - 1)?;
        (first..=last).all(|port| listen(port).is_ok()).then_some(first)
    });
    found.expect("free ports in a row")
}

#[track_caller]
fn larder(home: &Home, words: &str) -> Output {
    home.invoke(words.split_whitespace().collect::<Vec<_>>()).env("COSIGN_PASSWORD", "larder").run()
}

pub(crate) fn signing_as_somebody() {
    let stage = Stage::new();
    let sigstore = Sigstore::start(&stage.file("sigstore"));
    let token = stage.file("token.jwt");
    fs::write(&token, sigstore.token("/token?email=alice@example.com")).expect("a file");
    fs::write(stage.file("predicate.json"), "{\"a\": 1}").expect("a file");
    let (token, predicate) = (token.display().to_string(), stage.file("predicate.json").display().to_string());

    let mut cells = 0;
    for registry in [Registry::with_referrers(), Registry::docker()] {
        for (config, format) in [
            ("rekor1", "legacy"),
            ("rekor1", "bundle"),
            ("rekor1_tsa", "legacy"),
            ("rekor1_tsa", "bundle"),
            ("rekor2_tsa", "bundle"),
            ("tsa", "bundle"),
        ] {
            let name = format!("{config}/{format}");
            let image = greeting(&name);
            registry.http().push(&name, "1", &image);
            let target = format!("{}/{name}@{}", registry.host(), image.digest());
            larder(&stage.home, &format!("pull {target}")).exits(0);
            let with = format!("--identity-token {token} {} --format {format}", sigstore.flags(config));
            larder(&stage.home, &format!("sign {with} -a env=prod {target}")).exits(0).says(&[ALICE]);
            larder(&stage.home, &format!("attest {with} --predicate {predicate} --push {target}")).exits(0);
            let without_log = if config == "tsa" { "--insecure-ignore-tlog --use-signed-timestamps" } else { "" };
            for (how, claims) in [("verify", "-a env=prod"), ("verify-attestation", "--type custom")] {
                let asked = format!("{how} {} {without_log} {claims} {target}", sigstore.alice());
                stage.run(&format!("cosign-v3 {asked}")).succeeds();
                larder(&stage.home, &asked).exits(0);
                let other = asked.replace(ALICE, "mallory@example.com");
                stage.run(&format!("cosign-v3 {other}")).fails_with(&[]);
                larder(&stage.home, &other).exits(12);
                cells += 2;
            }
            println!("  {config}, {format}, {}: cosign 3 and larder verify it", registry.host());
        }
    }
    println!("  {cells} verifications of what was signed as {ALICE}");

    by_a_workflow(&stage, &sigstore);
    by_a_key_with_witnesses(&stage, &sigstore);
    nothing_is_stored_that_does_not_check(&stage, &sigstore, &token);
}

/// An image of its own, in a registry and here.
fn held(stage: &Stage, registry: &Registry, name: &str) -> String {
    let image = greeting(name);
    registry.http().push(name, "1", &image);
    let target = format!("{}/{name}@{}", registry.host(), image.digest());
    larder(&stage.home, &format!("pull {target}")).exits(0);
    target
}

/// A token out of the environment, as a workflow has it; cosign 2 reads what is in its own format.
fn by_a_workflow(stage: &Stage, sigstore: &Sigstore) {
    let registry = Registry::docker();
    let target = held(stage, &registry, "workflow/app");
    let words = format!("sign {} --push {target}", sigstore.flags("rekor1"));
    let token = sigstore.token("/gh/token?repository=acme/app");
    let signed = stage.home.invoke(words.split_whitespace().collect::<Vec<_>>()).env("SIGSTORE_ID_TOKEN", &token).run();
    let who = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1";
    signed.exits(0).says(&[who, "a transparency log took it in"]);
    let asked = format!(
        "verify --certificate-identity {who} --certificate-oidc-issuer {}/gh --certificate-github-workflow-repository acme/app",
        sigstore.issuer()
    );
    let with_root = format!("{asked} --trusted-root {} {target}", sigstore.file("trusted_root.json"));
    larder(&stage.home, &with_root).exits(0);
    stage.run(&format!("cosign-v3 {with_root}")).succeeds();
    let mut command = Command::new("cosign");
    command.args(format!("{asked} {target}").split_whitespace()).env("HOME", stage.file(""));
    for (variable, file) in [
        ("SIGSTORE_ROOT_FILE", "fulcio-root.crt"),
        ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", "ctlog.pub"),
        ("SIGSTORE_REKOR_PUBLIC_KEY", "rekor1.pub"),
    ] {
        command.env(variable, sigstore.file(&format!("keys/{file}")));
    }
    let output = command.stdin(Stdio::null()).output().expect("cosign can be run");
    assert!(output.status.success(), "cosign 2: {}", String::from_utf8_lossy(&output.stderr));
}

/// A key of one's own, and a log and a timestamp authority that saw it sign.
fn by_a_key_with_witnesses(stage: &Stage, sigstore: &Sigstore) {
    let registry = Registry::with_referrers();
    let keys = harness::fixtures::cosign().join("keys");
    let root = sigstore.file("trusted_root.json");
    for (key, config, format) in [
        ("p256", "rekor1", "legacy"),
        ("p256", "rekor1_tsa", "bundle"),
        ("p256", "rekor2", "bundle"),
        ("imp-rsa2048", "rekor1", "bundle"),
        ("imp-rsa2048", "rekor2_tsa", "bundle"),
    ] {
        let target = held(stage, &registry, &format!("key/{}/{config}/{format}", key.to_lowercase()));
        let (private, public) = (keys.join(format!("{key}.key")), keys.join(format!("{key}.pub")));
        let with = format!("--key {} {} --format {format} --push", private.display(), sigstore.flags(config));
        larder(&stage.home, &format!("sign {with} {target}")).exits(0).says(&["took it in"]);
        // The log is asked for: neither is told to go without.
        let asked = format!("verify --key {} --trusted-root {root} {target}", public.display());
        stage.run(&format!("cosign-v3 {asked}")).succeeds();
        larder(&stage.home, &asked).exits(0);
        println!("  key {key}, {config}, {format}: cosign 3 and larder verify it in the log");
    }
}

fn nothing_is_stored_that_does_not_check(stage: &Stage, sigstore: &Sigstore, token: &str) {
    let registry = Registry::docker();
    let target = held(stage, &registry, "refused/app");
    let flags = sigstore.flags("rekor1");
    let other_root = harness::fixtures::cosign().join("keyless/roots/good.json");
    let stranger = flags.replace(&sigstore.file("trusted_root.json"), &other_root.display().to_string());
    for (with, words) in [
        (format!("--identity-token a.b.c {flags}"), &["Fulcio refused", "identity token"][..]),
        (
            format!("--identity-token {token} {stranger}"),
            &["no trusted authority issued the certificate", "nothing was uploaded"],
        ),
        (format!("--identity-token {token} {}", sigstore.flags("rekor2")), &["cannot hold an entry of Rekor v2"]),
        (format!("--identity-token {token} {}", sigstore.flags("none")), &["nobody could check the signature later"]),
        (format!("--identity-token {token} {flags} --tlog-upload=false"), &["nobody could check the signature later"]),
        (
            format!("--identity-token {token} {}", flags.replace("--trusted-root", "--oidc-client-id")),
            &["--trusted-root is needed"],
        ),
    ] {
        let refused = larder(&stage.home, &format!("sign {with} {target}"));
        assert!(matches!(refused.code, 1 | 2), "{with}: {}", refused.stderr);
        refused.says(words);
        larder(&stage.home, &format!("download signature {target}")).exits(1);
    }
}

//! Passwords and certificates: Debian's `docker-registry` behind both, and logins of and for other tools.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use harness::{Daemon, FakeRegistry, Home, Image};
use larder_core::Digest;

use crate::tools::{attempt, run};

const USER: &str = "robot$larder";
const PASSWORD: &str = "pass:word-of-robot";

/// A `docker-registry` that wants something of whoever asks; killed when dropped.
struct Guarded {
    child: Child,
    host: String,
    folder: Home,
}

impl Guarded {
    /// Starts one; `configure` writes its `http` (after the address) and `auth`.
    fn start(configure: impl FnOnce(&Home) -> (String, String)) -> Self {
        let folder = Home::new();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let (http, auth) = configure(&folder);
        let config = folder.write_beside(
            "registry.yml",
            format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {:?}}}}}\nhttp: {{addr: \"{free}\"{http}}}\n{auth}",
                folder.beside("registry")
            ),
        );
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("docker-registry can be run");
        harness::eventually("docker-registry", || TcpStream::connect(free).ok());
        Self { child, host: free.to_string(), folder }
    }

    fn reference(&self, tag: &str) -> String {
        format!("{}/store/app:{tag}", self.host)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn by_password(folder: &Home) -> String {
    let line = run("htpasswd", ["-Bbn", USER, PASSWORD]);
    let file = folder.write_beside("htpasswd", line.trim());
    format!("auth: {{htpasswd: {{realm: larder, path: {file:?}}}}}\n")
}

/// Starts a daemon that holds an image of an upstream, and returns the image's reference there.
fn with_an_image(home: &Home, daemon: &Daemon) -> (FakeRegistry, String) {
    let upstream = FakeRegistry::start();
    upstream.put("store/app", "1.0", &Image::small("carried"));
    let reference = upstream.reference("store/app", "1.0");
    home.larder(["pull", &reference]).exits(0);
    daemon.client().status();
    (upstream, reference)
}

pub(crate) fn logins_of_other_tools_and_for_them() {
    let registry = Guarded::start(|folder| (String::new(), by_password(folder)));
    let host = registry.host.as_str();
    // Made by larder, read by skopeo and crane; docker's file, then podman's.
    let home = Home::new();
    let docker = home.beside("docker");
    fs::create_dir(&docker).expect("a folder");
    fs::write(docker.join("config.json"), "{\"detachKeys\": \"ctrl-e\"}").expect("docker's file");
    let podman = home.beside("podman.json");
    let text = |path: &PathBuf| path.to_str().expect("UTF-8").to_owned();
    let daemon = home.launch().env("DOCKER_CONFIG", &text(&docker)).env("XDG_RUNTIME_DIR", "/nowhere").start();
    let (_upstream, carried) = with_an_image(&home, &daemon);
    home.larder(["push", &carried, &registry.reference("1.0")]).exits(1).is_a_clear_error(host).says(&["larder login"]);
    home.larder(["login", host, "-u", USER, "-p", "wrong"]).exits(1).is_a_clear_error(host);
    home.larder(["login", host, "-u", USER, "-p", PASSWORD]).exits(0).says(&["config.json"]);
    home.larder(["push", &carried, &registry.reference("1.0")]).exits(0);
    home.larder(["login", host, "-u", USER, "-p", PASSWORD, "--authfile", &text(&podman)]).exits(0);
    let image = format!("docker://{}", registry.reference("1.0"));
    for file in [text(&podman), text(&docker.join("config.json"))] {
        run("skopeo", ["inspect", "--tls-verify=false", "--authfile", &file, &image]);
    }
    let (code, _, stderr) =
        attempt("crane", ["digest", "--insecure", &registry.reference("1.0")], &[("DOCKER_CONFIG", &text(&docker))]);
    assert_eq!(code, 0, "crane: {stderr}");
    assert!(fs::read_to_string(docker.join("config.json")).expect("docker's file").contains("ctrl-e"));
    let (code, _, _) = attempt("skopeo", ["inspect", "--tls-verify=false", "--no-creds", &image], &[]);
    assert_ne!(code, 0, "nobody may read it");
    // Made by the others, read by larder.
    let folder = home.beside("made");
    fs::create_dir(&folder).expect("a folder");
    for tool in ["skopeo", "podman", "crane"] {
        let (variable, value) = match tool {
            "crane" => ("DOCKER_CONFIG", folder.clone()),
            _ => ("REGISTRY_AUTH_FILE", folder.join(format!("{tool}.json"))),
        };
        let value = text(&value);
        let (code, _, stderr) = match tool {
            "crane" => attempt("crane", ["auth", "login", host, "-u", USER, "-p", PASSWORD], &[(variable, &value)]),
            _ => attempt(
                tool,
                ["login", "--tls-verify=false", "--authfile", &value, "-u", USER, "-p", PASSWORD, host],
                &[],
            ),
        };
        assert_eq!(code, 0, "{tool} login: {stderr}");
        let other = Home::new();
        let _daemon = other.launch().env(variable, &value).env("XDG_RUNTIME_DIR", "/nowhere").start();
        other.larder(["pull", &registry.reference("1.0")]).exits(0);
        assert_eq!(other.larder(["login", "--get-login", host]).exits(0).stdout.trim(), USER);
        other.larder(["logout", host]).exits(0).says(&["logged out"]);
        other.larder(["login", "--get-login", host]).exits(1);
        println!("  a login of {tool} is read, and taken back");
    }
}

/// Makes a certificate by openssl, in a folder: `NAME.pem` and `NAME.key`, issued by `ca` (by itself without one).
fn certificate(folder: &Home, name: &str, ca: Option<&str>, more: &[&str]) -> PathBuf {
    let at = |name: String| folder.beside(&name).display().to_string();
    let (pem, key) = (at(format!("{name}.pem")), at(format!("{name}.key")));
    let subject = format!("/CN={name}");
    let mut words = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    words.extend(["-subj", &subject, "-keyout", &key, "-out", &pem]);
    let (ca_pem, ca_key) = (ca.map(|ca| at(format!("{ca}.pem"))), ca.map(|ca| at(format!("{ca}.key"))));
    match (&ca_pem, &ca_key) {
        (Some(pem), Some(key)) => {
            words.extend(["-CA", pem, "-CAkey", key, "-addext", "basicConstraints=critical,CA:FALSE"]);
        }
        _ => words.extend(["-addext", "basicConstraints=critical,CA:TRUE"]),
    }
    words.extend(more);
    run("openssl", words);
    PathBuf::from(pem)
}

fn tls(folder: &Home, name: &str, more: &str) -> String {
    let (pem, key) = (folder.beside(&format!("{name}.pem")), folder.beside(&format!("{name}.key")));
    format!(", tls: {{certificate: {pem:?}, key: {key:?}{more}}}")
}

const LOOPBACK: [&str; 2] = ["-addext", "subjectAltName=IP:127.0.0.1"];

/// Pulls the image into a home that has none of it, so that every byte comes over TLS, and compares the digests.
fn pulls_into_an_empty_home(reference: &str, prepare: impl FnOnce(&Home), variables: &[(&str, &str)]) {
    let image = Image::small("carried");
    let home = Home::new();
    prepare(&home);
    let mut launch = home.launch();
    for (name, value) in variables {
        launch = launch.env(name, value);
    }
    let daemon = launch.start();
    home.larder(["pull", reference]).exits(0);
    assert_eq!(daemon.client().query(reference).expect("a verdict").digest, image.digest().to_string());
    for blob in image.blobs().iter().chain([&image.root().bytes]) {
        assert_eq!(fs::read(home.blob(&Digest::of(blob))).expect("a blob"), &blob[..]);
    }
}

pub(crate) fn certificates_of_a_private_authority() {
    let registry = Guarded::start(|folder| {
        certificate(folder, "ca", None, &[]);
        certificate(folder, "server", Some("ca"), &LOOPBACK);
        (tls(folder, "server", ""), by_password(folder))
    });
    let (host, ca) = (registry.host.as_str(), registry.folder.beside("ca.pem"));
    let log_in = |home: &Home| home.larder(["login", host, "-u", USER, "-p", PASSWORD]);
    // Told to speak TLS and nothing else: nobody that is believed issued it.
    let home = Home::with_config(&format!("[registry.\"{host}\"]\nplain_http = false\n"));
    let file = home.beside("auth.json").display().to_string();
    let daemon = home.launch().env("REGISTRY_AUTH_FILE", &file).start();
    log_in(&home).exits(1).is_a_clear_error(host).says(&["unknown issuer", "ca_file"]);
    drop(daemon);
    // By the configuration, relative to the home; and by the folder that podman has.
    let folder = home.beside("settings").join("containers/certs.d").join(host);
    for by_folder in [false, true] {
        if by_folder {
            home.configure("");
            fs::create_dir_all(&folder).expect("a folder");
            fs::copy(&ca, folder.join("ca.crt")).expect("a copy");
        } else {
            home.configure(&format!("[registry.\"{host}\"]\nca_file = \"ca.pem\"\n"));
            fs::copy(&ca, home.path().join("ca.pem")).expect("a copy");
        }
        let settings = home.beside("settings").display().to_string();
        let daemon = home.launch().env("REGISTRY_AUTH_FILE", &file).env("XDG_CONFIG_HOME", &settings).start();
        log_in(&home).exits(0);
        let (_upstream, carried) = with_an_image(&home, &daemon);
        home.larder(["push", &carried, &registry.reference("1.0")]).exits(0);
        let certificates = |fresh: &Home| {
            if !by_folder {
                fresh.configure(&format!("[registry.\"{host}\"]\nca_file = {ca:?}\n"));
            }
        };
        let variables = [("REGISTRY_AUTH_FILE", file.as_str()), ("XDG_CONFIG_HOME", settings.as_str())];
        pulls_into_an_empty_home(&registry.reference("1.0"), certificates, &variables);
        // It widens this registry and no other: another one of the same authority stays unknown.
        let other = Guarded::start(|folder| {
            for name in ["ca.pem", "ca.key"] {
                fs::copy(registry.folder.beside(name), folder.beside(name)).expect("a copy");
            }
            certificate(folder, "server", Some("ca"), &LOOPBACK);
            (tls(folder, "server", ""), String::new())
        });
        let error = home.larder(["pull", &other.reference("1.0")]).exits(1).is_a_clear_error(&other.host);
        assert!(!error.stderr.contains(host), "{}", error.stderr);
    }
    // skopeo reads what was kept, by the same folder.
    let image = format!("docker://{}", registry.reference("1.0"));
    let certs = folder.display().to_string();
    run("skopeo", ["inspect", "--cert-dir", &certs, "--authfile", &file, &image]);
    // What is broken stops everything.
    fs::write(folder.join("ca.crt"), "no certificate").expect("a file");
    let settings = home.beside("settings").display().to_string();
    let _daemon = home.launch().env("REGISTRY_AUTH_FILE", &file).env("XDG_CONFIG_HOME", &settings).start();
    home.larder(["pull", &registry.reference("1.0")]).exits(1).is_a_clear_error("ca.crt").hints();
}

pub(crate) fn client_certificates() {
    let registry = Guarded::start(|folder| {
        certificate(folder, "ca", None, &[]);
        certificate(folder, "server", Some("ca"), &LOOPBACK);
        certificate(folder, "client", Some("ca"), &[]);
        let clients = format!(", clientcas: [{:?}]", folder.beside("ca.pem"));
        (tls(folder, "server", &clients), String::new())
    });
    let host = registry.host.as_str();
    let at = |name: &str| registry.folder.beside(name).display().to_string();
    let ca = format!("[registry.\"{host}\"]\nca_file = {:?}\n", at("ca.pem"));
    let home = Home::with_config(&ca);
    let daemon = home.start();
    let (_upstream, carried) = with_an_image(&home, &daemon);
    home.larder(["push", &carried, &registry.reference("1.0")])
        .exits(1)
        .is_a_clear_error(host)
        .says(&["client certificate", "client_cert_file"]);
    drop(daemon);
    let client = format!("{ca}client_cert_file = {:?}\nclient_key_file = {:?}\n", at("client.pem"), at("client.key"));
    home.configure(&client);
    let daemon = home.start();
    home.larder(["push", &carried, &registry.reference("1.0")]).exits(0);
    pulls_into_an_empty_home(&registry.reference("1.0"), |fresh| fresh.configure(&client), &[]);
    drop(daemon);
    // A key that others may read is not used.
    run("chmod", ["644", &at("client.key")]);
    let daemon = home.start();
    home.larder(["pull", &registry.reference("1.0")]).exits(1).is_a_clear_error("client.key").hints();
    drop(daemon);
    run("chmod", ["600", &at("client.key")]);
    // And by podman's folder, where it has podman's names.
    home.configure("");
    let folder = home.beside("settings").join("containers/certs.d").join(host);
    fs::create_dir_all(&folder).expect("a folder");
    for (from, to) in [("ca.pem", "ca.crt"), ("client.pem", "client.cert"), ("client.key", "client.key")] {
        fs::copy(at(from), folder.join(to)).expect("a copy");
    }
    let settings = home.beside("settings").display().to_string();
    pulls_into_an_empty_home(&registry.reference("1.0"), |_| {}, &[("XDG_CONFIG_HOME", &settings)]);
    let image = format!("docker://{}", registry.reference("1.0"));
    run("skopeo", ["inspect", "--cert-dir", &folder.display().to_string(), &image]);
}

pub(crate) fn certificates_that_are_wrong() {
    let registry = Guarded::start(|folder| {
        certificate(folder, "ca", None, &[]);
        certificate(folder, "server", Some("ca"), &["-addext", "subjectAltName=DNS:registry.example.org"]);
        (tls(folder, "server", ""), String::new())
    });
    let ca = registry.folder.beside("ca.pem");
    let home = Home::with_config(&format!("[registry.\"{}\"]\nca_file = {ca:?}\n", registry.host));
    let _daemon = home.start();
    let refused = home.larder(["pull", &registry.reference("1.0")]).exits(1);
    refused.is_a_clear_error(&registry.host).says(&["for another name"]).hints();
    // TLS where plain HTTP is spoken: no fall back.
    let registry = Guarded::start(|_| (String::new(), String::new()));
    let home = Home::with_config(&format!("[registry.\"{}\"]\nplain_http = false\n", registry.host));
    let _daemon = home.start();
    home.larder(["pull", &registry.reference("1.0")]).exits(1).is_a_clear_error(&registry.host).says(&["TLS"]);
}

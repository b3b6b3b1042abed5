use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use harness::registry::Auth;
use harness::{FakeRegistry, Home, Image};
use serde_json::{Value, json};

use crate::world::APP;

const PASSWORD: &str = "s3cret-of-somebody";

fn registry(bearer: bool) -> FakeRegistry {
    let registry = FakeRegistry::start();
    let (user, password) = ("someone".to_owned(), PASSWORD.to_owned());
    registry.require(if bearer { Auth::Bearer(user, password) } else { Auth::Basic(user, password) });
    registry.put(APP, "1.0", &Image::small("private"));
    registry
}

fn login(home: &Home, host: &str, password: &str) -> harness::Output {
    home.larder(["login", host, "--username", "someone", "--password", password])
}

/// podman's file of the user, whose home the client has.
fn podmans(home: &Home) -> PathBuf {
    home.beside(".config/containers/auth.json")
}

fn dockers(home: &Home) -> PathBuf {
    home.beside(".docker/config.json")
}

fn write_private(path: &std::path::Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn document(path: &std::path::Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON")
}

/// A credential helper `NAME` beside the home; returns its folder.
fn helper(home: &Home, name: &str, script: &str) -> PathBuf {
    let path = home.beside("bin").join(format!("docker-credential-{name}"));
    write_private(&path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    home.beside("bin")
}

/// Lets the client start the daemon, in a session of its own and with the helpers beside the home.
fn begin(home: &Home) {
    let session = home.beside("session");
    fs::create_dir_all(&session).expect("a folder");
    let path = format!("{}:/usr/bin:/bin", home.beside("bin").display());
    home.invoke(["daemon", "start"]).env("PATH", path).env("XDG_RUNTIME_DIR", session).run().exits(0);
}

#[test]
fn a_login_is_tried_kept_used_and_forgotten() {
    for bearer in [false, true] {
        let (registry, home) = (registry(bearer), Home::new());
        let (host, reference) = (registry.host(), registry.reference(APP, "1.0"));
        begin(&home);
        write_private(&dockers(&home), "{\n\t\"zeta\": [1],\n\t\"auths\": {},\n\t\"alpha\": true\n}\n");
        home.larder(["pull", &reference]).exits(1).is_a_clear_error(&host).says(&[&format!("larder login {host}")]);
        home.larder(["login", "--get-login", &host]).exits(1).is_a_clear_error(&host).hints();
        let before = fs::read(dockers(&home)).expect("docker's file");
        let refused = login(&home, &host, "wrong-s3cret").exits(1).is_a_clear_error(&host).hints();
        assert!(!refused.stderr.contains("wrong-s3cret"), "{}", refused.stderr);
        assert_eq!(fs::read(dockers(&home)).expect("docker's file"), before, "nothing was changed");

        login(&home, &host, PASSWORD).exits(0).says(&["logged in", ".docker/config.json"]);
        let written = document(&dockers(&home));
        assert_eq!(written.as_object().expect("an object").keys().collect::<Vec<_>>(), ["zeta", "auths", "alpha"]);
        assert!(written["auths"][&host]["auth"].is_string(), "{written}");
        let mode = fs::metadata(dockers(&home)).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        home.larder(["pull", &reference]).exits(0);
        let who = home.larder(["login", "--get-login", &host]).exits(0);
        assert_eq!(who.stdout, "someone\n");

        home.larder(["logout", &host]).exits(0).says(&["logged out", ".docker/config.json"]);
        assert_eq!(document(&dockers(&home))["auths"], json!({}));
        registry.put(APP, "2.0", &Image::small("private too"));
        home.larder(["pull", &registry.reference(APP, "2.0")]).exits(1);
        home.larder(["logout", &host]).exits(0).says(&["nothing was changed"]);
        let log = fs::read_to_string(home.path().join("larderd.log")).expect("the log");
        assert!(!log.contains("s3cret"), "{log}");
    }
}

#[test]
fn the_password_comes_by_stdin_and_the_file_that_is_named_is_written() {
    let (registry, home) = (registry(true), Home::new());
    let file = home.beside("own/auth.json");
    let log_in = |variables: &[(&str, &str)], more: &[&str]| {
        let mut command = Command::new(&harness::binaries().larder);
        command.args(["login", "-u", "someone", "--password-stdin", "--output", "json"]).args(more);
        command.arg(registry.host()).env_clear().envs(variables.iter().copied()).current_dir(home.beside(""));
        command.env("LARDER_HOME", home.path()).env("LARDER_ENDPOINT", "127.0.0.1:0").env("HOME", home.beside(""));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("larder can be run");
        child.stdin.take().expect("a pipe").write_all(format!("{PASSWORD}\r\n").as_bytes()).expect("written");
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    // The daemon that this starts knows the variable, though it names no whole path.
    let kept = log_in(&[("REGISTRY_AUTH_FILE", "own/auth.json")], &[]);
    assert_eq!(kept["keptIn"], file.to_str().expect("UTF-8"));
    assert_eq!(kept["warnings"], json!([]));
    assert!(document(&file)["auths"][registry.host()]["auth"].is_string());
    home.larder(["pull", &registry.reference(APP, "1.0")]).exits(0);
    // One that it does not read is written, and it says so.
    let kept = log_in(&[], &["--compat-auth-file", "other.json"]);
    assert!(kept["warnings"][0].as_str().is_some_and(|warning| warning.contains("other.json")), "{kept}");
    assert!(document(&home.beside("other.json"))["auths"][registry.host()].is_object());
}

#[test]
fn a_part_of_a_registry_has_its_own_login() {
    let (registry, home) = (registry(false), Home::new());
    let host = registry.host();
    begin(&home);
    write_private(&podmans(&home), "{}");
    write_private(&dockers(&home), "{}");
    let part = format!("{host}/store");
    login(&home, &part, PASSWORD).exits(0).says(&["auth.json"]);
    assert_eq!(document(&dockers(&home)), json!({}), "docker knows no parts");
    home.larder(["pull", &registry.reference(APP, "1.0")]).exits(0);
    registry.put("other/app", "1.0", &Image::small("another part"));
    home.larder(["pull", &registry.reference("other/app", "1.0")]).exits(1).is_a_clear_error(&host);
    let docker = dockers(&home).display().to_string();
    home.larder(["login", &part, "-u", "someone", "-p", PASSWORD, "--compat-auth-file", &docker])
        .exits(1)
        .is_a_clear_error("config.json")
        .hints();
    home.larder(["logout", "--all"]).exits(0).says(&["logged out of all"]);
    registry.put(APP, "2.0", &Image::small("private too"));
    home.larder(["pull", &registry.reference(APP, "2.0")]).exits(1);
}

#[test]
fn a_helper_has_what_the_file_would() {
    let (registry, home) = (registry(true), Home::new());
    let kept = home.beside("kept");
    let script = r#"case $1 in store) cat > KEPT;; erase) rm KEPT;; get) [ -e KEPT ] && exec cat KEPT; echo "credentials not found in native keychain"; exit 1;; esac"#;
    helper(&home, "keep", &script.replace("KEPT", &kept.display().to_string()));
    write_private(&dockers(&home), r#"{"credsStore":"keep"}"#);
    begin(&home);
    login(&home, &registry.host(), PASSWORD).exits(0).says(&["docker-credential-keep"]);
    assert_eq!(document(&dockers(&home)), json!({"credsStore": "keep"}), "no secret in the file");
    home.larder(["pull", &registry.reference(APP, "1.0")]).exits(0);
    home.larder(["logout", &registry.host()]).exits(0).says(&["docker-credential-keep"]);
    assert!(!kept.exists());
}

#[test]
fn what_helpers_and_files_do_wrong_is_a_clear_error() {
    let (registry, home) = (registry(false), Home::new());
    let (host, reference) = (registry.host(), registry.reference(APP, "1.0"));
    let folder = helper(
        &home,
        "bad",
        "[ -e \"$(dirname \"$0\")/long\" ] && exec head -c 10000000 /dev/zero; echo 'locked'; exit 1",
    );
    begin(&home);
    for (text, noun) in [
        ("{\"auths\"", "config.json"),
        ("[1]", "config.json"),
        (&"[".repeat(50_000), "config.json"),
        (&" ".repeat(2 << 20), "config.json"),
        (r#"{"auths":{"x":{"auth":7}}}"#, "config.json"),
        (&format!(r#"{{"auths":{{"{host}":{{"auth":"!"}}}}}}"#), "config.json"),
        (r#"{"credsStore":"bad"}"#, "locked"),
        (r#"{"credsStore":"absent"}"#, "docker-credential-absent"),
        (r#"{"credsStore":"../bin/docker-credential-bad"}"#, "config.json"),
    ] {
        write_private(&dockers(&home), text);
        registry.take_seen();
        home.larder(["pull", &reference]).exits(1).is_a_clear_error(noun).hints();
        let sent = registry.take_seen();
        assert!(sent.iter().all(|seen| seen.authorization.is_none()), "{sent:?}");
        login(&home, &host, PASSWORD).exits(1).is_a_clear_error(noun).hints();
        assert_eq!(fs::read_to_string(dockers(&home)).expect("docker's file"), text, "nothing was changed");
    }
    write_private(&dockers(&home), r#"{"credsStore":"bad"}"#);
    fs::write(folder.join("long"), "").expect("a file");
    home.larder(["pull", &reference]).exits(1).is_a_clear_error("bad").says(&["64 KiB"]);
}

#[test]
fn logins_at_once_of_two_daemons_lose_nothing() {
    let registries: Vec<_> = (0..6).map(|number| registry(number % 2 == 0)).collect();
    let (one, two) = (Home::new(), Home::new());
    let file = one.beside("shared/auth.json");
    for home in [&one, &two] {
        home.invoke(["daemon", "start"]).env("REGISTRY_AUTH_FILE", &file).run().exits(0);
    }
    std::thread::scope(|scope| {
        for (number, registry) in registries.iter().enumerate() {
            let home = if number < 3 { &one } else { &two };
            scope.spawn(move || login(home, &registry.host(), PASSWORD).exits(0));
        }
    });
    let written = document(&file);
    assert_eq!(written["auths"].as_object().map(serde_json::Map::len), Some(6), "{written}");
    for registry in &registries {
        one.larder(["pull", &registry.reference(APP, "1.0")]).exits(0);
    }
}

#[test]
fn usage() {
    let home = Home::new();
    begin(&home);
    home.larder(["login", "quay.io"]).exits(2).is_a_clear_error("who").hints();
    home.larder(["login", "quay.io", "-u", "me"]).exits(2).is_a_clear_error("password").hints();
    home.larder(["login", "--get-login", "-u", "me"]).exits(2);
    home.larder(["logout", "quay.io", "--all"]).exits(2);
    home.larder(["login", "a b", "-u", "me", "-p", "x"]).exits(1).is_a_clear_error("a b").hints();
    home.larder(["login", "localhost", "-u", "me", "-p", "x"]).exits(1).is_a_clear_error("localhost").hints();
    home.larder(["login", "quay.io", "-u", "a:b", "-p", "x"]).exits(1).is_a_clear_error("colon").hints();
    home.larder(["login", "quay.io", "-u", "me", "-p", ""]).exits(1).is_a_clear_error("empty").hints();
}

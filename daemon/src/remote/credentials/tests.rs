use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;

/// A home with the places of both tools in it, and a folder of programs.
struct World {
    folder: tempfile::TempDir,
    places: Places,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        for name in ["run", "home/.docker", "home/.config/containers", "bin"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("folder");
        }
        let at = |name: &str| folder.path().join(name).into_os_string();
        let variable = |name: &str| match name {
            "HOME" => Some(at("home")),
            "XDG_RUNTIME_DIR" => Some(at("run")),
            "PATH" => std::env::join_paths([at("bin"), "/usr/bin".into(), "/bin".into()]).ok(),
            _ => None,
        };
        let places = Places::from_environment(variable, 0);
        Self { places, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("folder")).expect("folder");
        std::fs::write(path, text).expect("write");
    }

    fn program(&self, name: &str, script: &str) {
        self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.path(&format!("bin/{name}")), mode).expect("mode");
    }

    /// Says as whom a repository is asked for.
    async fn user(&self, registry: &str, path: &str) -> Result<String, CredentialError> {
        Ok(find(&self.places, registry, path).await?.map_or_else(|| "nobody".into(), |(login, _)| login.username))
    }
}

fn target(registry: &str, prefix: &str) -> Target {
    Target { registry: registry.into(), prefix: prefix.into() }
}

fn auths(entries: &[(&str, &str)]) -> String {
    let entry = |(key, user): &(&str, &str)| {
        (key.to_string(), serde_json::json!({"auth": STANDARD.encode(format!("{user}:p"))}))
    };
    serde_json::json!({"auths": entries.iter().map(entry).collect::<serde_json::Map<_, _>>()}).to_string()
}

const RUN: &str = "run/containers/auth.json";
const USER: &str = "home/.config/containers/auth.json";
const DOCKER: &str = "home/.docker/config.json";

#[tokio::test]
async fn the_longest_prefix_of_the_first_file_that_knows_it() {
    let world = World::new();
    assert_eq!(world.user("quay.io", "acme/app").await.expect("no file"), "nobody");
    world.write(DOCKER, &auths(&[("https://index.docker.io/v1/", "hub"), ("quay.io", "docker")]));
    world.write(USER, &auths(&[("quay.io/acme", "acme"), ("quay.io/acme/app", "app"), ("quay.io/ac", "short")]));
    for (registry, path, user) in [
        ("quay.io", "acme/app", "app"),
        ("quay.io", "acme/other", "acme"),
        ("quay.io", "other/app", "docker"),
        ("quay.io", "acme2/app", "docker"),
        ("docker.io", "library/alpine", "hub"),
        ("quay.io:443", "acme/app", "nobody"),
    ] {
        assert_eq!(world.user(registry, path).await.expect("found"), user, "{registry}/{path}");
    }
    world.write(RUN, &auths(&[("quay.io", "session")]));
    assert_eq!(world.user("quay.io", "acme/app").await.expect("found"), "session", "the first file that knows it");
    world.write(RUN, "{");
    let error = world.user("other.io", "x").await.expect_err("nothing behind a broken file is used");
    assert!(error.to_string().contains(RUN), "{error}");
}

#[tokio::test]
async fn helpers_before_entries() {
    let world = World::new();
    world.program("docker-credential-hub", r#"read u; [ "$u" = https://index.docker.io/v1/ ] && echo '{"Username":"hub","Secret":"p"}' || { echo "credentials not found in native keychain"; exit 1; }"#);
    world.program("docker-credential-one", r#"echo '{"Username":"one","Secret":"p"}'"#);
    world.write(
        DOCKER,
        r#"{"auths":{"a.io":{"username":"stale","password":"p"},"b.io":{"username":"b","password":"p"},"a.io/x":{"username":"x","password":"p"}},"credHelpers":{"a.io":"one"},"credsStore":"hub"}"#,
    );
    assert_eq!(world.user("a.io", "x/y").await.expect("found"), "one");
    assert_eq!(world.user("b.io", "x/y").await.expect("found"), "b", "the store has none");
    assert_eq!(world.user("docker.io", "library/x").await.expect("found"), "hub");
    world.write(DOCKER, r#"{"credHelpers":{"a.io":"absent"}}"#);
    assert!(world.user("a.io", "x").await.is_err());
    assert_eq!(world.user("b.io", "x").await.expect("another registry"), "nobody");
    world.write(DOCKER, r#"{"credHelpers":{"a.io":"../bin/x"}}"#);
    assert!(world.user("a.io", "x").await.is_err());
}

#[tokio::test]
async fn where_a_login_is_kept() {
    let (world, secret) = (World::new(), Secret::new("p:w".into()));
    let keep = async |target: &Target, named| keep(&world.places, target, "me", &secret, named).await;
    let read = |name: &str| std::fs::read_to_string(world.path(name)).unwrap_or_default();
    // Without any file: podman's of the session.
    assert!(keep(&target("a.io", ""), None).await.expect("kept").is_read);
    assert!(read(RUN).contains("\"a.io\"") && read(RUN).contains(&STANDARD.encode("me:p:w")));
    // With docker's: there; under docker's names.
    world.write(DOCKER, "{}");
    keep(&target("docker.io", ""), None).await.expect("kept");
    assert!(read(DOCKER).contains("https://index.docker.io/v1/"), "{}", read(DOCKER));
    // But a part of a registry is podman's.
    keep(&target("b.io", "team"), None).await.expect("kept");
    assert!(read(RUN).contains("\"b.io/team\""));
    let docker = AuthFile { path: world.path(DOCKER), format: AuthFormat::Docker };
    let error = keep(&target("b.io", "team"), Some(docker)).await.expect_err("docker knows no parts");
    assert_eq!(error.reason(), "whole-registries-only");
    // Where one is already.
    world.write(USER, &auths(&[("c.io", "old")]));
    keep(&target("c.io", ""), None).await.expect("kept");
    assert_eq!(world.user("c.io", "x").await.expect("found"), "me");
    assert!(!read(DOCKER).contains("c.io"));
    // Where it is said.
    let elsewhere = AuthFile { path: world.path("elsewhere.json"), format: AuthFormat::Podman };
    assert!(!keep(&target("d.io", ""), Some(elsewhere)).await.expect("kept").is_read);
    assert_eq!(world.user("d.io", "x").await.expect("not read"), "nobody");

    let gone = forget(&world.places, Some(&target("docker.io", "")), None).await.expect("forgotten");
    assert_eq!(gone, [world.path(DOCKER).display().to_string()]);
    assert_eq!(forget(&world.places, Some(&target("docker.io", "")), None).await.expect("nothing"), [""; 0]);
    assert_eq!(forget(&world.places, None, None).await.expect("all").len(), 2);
    assert_eq!(world.user("c.io", "x").await.expect("nobody"), "nobody");
}

#[tokio::test]
async fn a_helper_keeps_what_its_file_would() {
    let world = World::new();
    let kept = world.path("kept");
    world.program(
        "docker-credential-keep",
        &format!(
            r#"case $1 in store) cat > {0};; get) if [ -s {0} ]; then cat {0}; else echo "credentials not found in native keychain"; exit 1; fi;; erase) : > {0};; esac"#,
            kept.display()
        ),
    );
    world.write(DOCKER, r#"{"credsStore":"keep"}"#);
    let whole = target("a.io", "");
    let stored = keep(&world.places, &whole, "me", &Secret::new("s3cret".into()), None).await.expect("kept");
    assert_eq!(stored.place, "docker-credential-keep");
    assert!(!std::fs::read_to_string(world.path(DOCKER)).expect("read").contains("a.io"));
    assert_eq!(world.user("a.io", "x").await.expect("found"), "me");
    let gone = forget(&world.places, Some(&whole), None).await.expect("forgotten");
    assert_eq!(gone, ["docker-credential-keep"]);
    assert_eq!(world.user("a.io", "x").await.expect("nobody"), "nobody");
}

#[test]
fn nothing_shows_a_secret() {
    let login = Login {
        username: "me".into(),
        proof: Proof::Password(Secret::new("s3cret".into())),
        from: "/h/auth.json".into(),
    };
    let shown = format!("{login} {login:?} {:?} {:?}", login.proof, login.basic());
    assert!(!shown.contains("s3cret") && !shown.contains(&STANDARD.encode("me:s3cret")), "{shown}");
}

//! Clients of registries at the endpoint: they write, are refused what is not accepted, read what is, and every digest stays.

use harness::{Content, Image, Index};
use larder_proto::v1::State;
use serde_json::Value;

use crate::tools::{Stage, greeting, printed};

/// The remedy that a refusal ends in.
const REMEDY: &str = "larder trust allow 'localhost/team/app'";

/// An image for two platforms.
fn two_platforms() -> Content {
    let (one, two) = (greeting("amd64"), greeting("arm64"));
    Index::new().child(&one, "linux", "amd64").child(&two, "linux", "arm64").build()
}

/// Puts an unsigned image at `team/app:1.0`.
fn unsigned(stage: &Stage) -> Content {
    let image = greeting("unsigned");
    stage.daemon.http().push("team/app", "1.0", &image);
    image
}

pub(crate) fn crane() {
    let stage = Stage::new();
    let image = unsigned(&stage);
    let app = stage.at("team/app");
    stage.run(&format!("crane pull --format oci {app}:1.0 refused")).fails_with(&["DENIED", REMEDY]);
    assert_eq!(stage.run(&format!("crane digest {app}:1.0")).succeeds().trim(), image.digest().to_string());
    stage.allow("localhost/**", "localhost/team/app:1.0");
    stage.run(&format!("crane pull --format oci {app}:1.0 pulled")).succeeds();
    let pulled = std::fs::read(stage.file(&format!("pulled/blobs/sha256/{}", image.digest().hex())));
    assert_eq!(pulled.expect("the manifest"), image.root().bytes);
    // A layout and a tarball back in, within the endpoint with cross-repository mounts, and an index with its children.
    stage.run(&format!("crane push pulled {}:1.0", stage.at("team/pushed"))).succeeds();
    stage.holds("team/pushed", "1.0", &image);
    stage.run(&format!("crane copy {app}:1.0 {}:1.0", stage.at("other/copy"))).succeeds();
    stage.holds("other/copy", "1.0", &image);
    let index = two_platforms();
    stage.daemon.http().push("team/multi", "2.0", &index);
    stage.run(&format!("crane copy {}:2.0 {}:2.0", stage.at("team/multi"), stage.at("other/multi"))).succeeds();
    stage.holds("other/multi", "2.0", &index);
    stage.run(&format!("crane index append -m {app}:1.0 -t {}:3.0", stage.at("team/index"))).succeeds();
    assert!(
        stage
            .run(&format!("crane manifest {}:3.0", stage.at("team/index")))
            .succeeds()
            .contains(image.digest().hex().as_str())
    );
    stage.run(&format!("crane tag {app}:1.0 latest")).succeeds();
    assert_eq!(stage.run(&format!("crane ls {app}")).succeeds(), "1.0\nlatest\n");
    let catalog = stage.run(&format!("crane catalog {}", stage.daemon.endpoint())).succeeds();
    assert_eq!(catalog, "other/copy\nother/multi\nteam/app\nteam/index\nteam/multi\nteam/pushed\n");
    // A tag goes, its manifest stays.
    stage.run(&format!("crane delete {app}:latest")).succeeds();
    assert_eq!(stage.run(&format!("crane ls {app}")).succeeds(), "1.0\n");
    stage.run(&format!("crane delete {app}@{}", image.digest())).fails_with(&["UNSUPPORTED"]);
    stage.holds("team/app", "1.0", &image);
}

pub(crate) fn oras() {
    let stage = Stage::new();
    let image = unsigned(&stage);
    let app = stage.at("team/app");
    stage
        .run(&format!("oras cp --from-plain-http --to-oci-layout {app}:1.0 refused:1"))
        .fails_with(&["denied", REMEDY]);
    std::fs::write(stage.file("thing.json"), "{\"a\":1}").expect("a file");
    std::fs::write(stage.file("sbom.json"), "{\"spdx\":1}").expect("a file");
    // A repository whose things are not accepted takes attached things, and shows them.
    let attach = "oras attach --plain-http --artifact-type application/spdx+json";
    stage.run(&format!("{attach} {app}:1.0 sbom.json:application/spdx+json")).succeeds();
    let shown = stage.run(&format!("oras discover --plain-http --format json {app}:1.0")).succeeds();
    assert!(shown.contains("application/spdx+json"), "{shown}");
    stage.allow("localhost/**", "localhost/team/app:1.0");
    let push = "oras push --plain-http --artifact-type application/vnd.acme.thing";
    stage.run(&format!("{push} {}:1 thing.json:application/json", stage.at("team/thing"))).succeeds();
    let digest = stage.digest("team/thing", "1");
    let resolved = stage.run(&format!("oras resolve --plain-http {}:1", stage.at("team/thing"))).succeeds();
    assert_eq!(resolved.trim(), digest);
    stage.run(&format!("oras tag --plain-http {}:1 2", stage.at("team/thing"))).succeeds();
    stage.run(&format!("oras pull --plain-http {}:2 -o out", stage.at("team/thing"))).succeeds();
    assert_eq!(std::fs::read(stage.file("out/thing.json")).expect("pulled"), b"{\"a\":1}");
    // With what is attached, by copy and by backup.
    let both = "oras cp -r --from-plain-http --to-plain-http";
    stage.run(&format!("{both} {app}:1.0 {}:1.0", stage.at("other/copy"))).succeeds();
    stage.holds("other/copy", "1.0", &image);
    stage.run(&format!("oras backup --plain-http --include-referrers -o backup.tar {app}:1.0")).succeeds();
    stage.run(&format!("oras restore --plain-http --input backup.tar {}:1.0", stage.at("team/restored"))).succeeds();
    stage.holds("team/restored", "1.0", &image);
    for repository in ["other/copy", "team/restored"] {
        let shown = stage.run(&format!("oras discover --plain-http {}:1.0", stage.at(repository))).succeeds();
        assert!(shown.contains("application/spdx+json"), "{repository}: {shown}");
    }
    let filtered = format!("oras discover --plain-http --artifact-type application/none {app}:1.0");
    assert!(!stage.run(&filtered).succeeds().contains("spdx"));
    let repositories = stage.run(&format!("oras repo ls --plain-http {}", stage.daemon.endpoint())).succeeds();
    assert_eq!(repositories, "other/copy\nteam/app\nteam/restored\nteam/thing\n");
    stage.run(&format!("oras blob push --plain-http {} thing.json", stage.at("team/blob"))).succeeds();
    let delete = format!("oras manifest delete --plain-http -f {}:2", stage.at("team/thing"));
    stage.run(&delete).fails_with(&["not deleted through the endpoint"]);
}

pub(crate) fn regctl() {
    let stage = Stage::new();
    let image = unsigned(&stage);
    let app = stage.at("team/app");
    stage.run(&format!("regctl registry set {} --tls disabled", stage.daemon.endpoint())).succeeds();
    stage.run(&format!("regctl image export {app}:1.0 refused.tar")).fails_with(&["403", REMEDY]);
    stage.allow("localhost/**", "localhost/team/app:1.0");
    stage.run(&format!("regctl image copy {app}:1.0 {}:1.0", stage.at("other/copy"))).succeeds();
    stage.holds("other/copy", "1.0", &image);
    stage.run(&format!("regctl image export {app}:1.0 exported.tar")).succeeds();
    stage.run(&format!("regctl image import {}:1.0 exported.tar", stage.at("team/imported"))).succeeds();
    stage.holds("team/imported", "1.0", &image);
    std::fs::write(stage.file("thing.json"), "{\"a\":1}").expect("a file");
    let put = "regctl artifact put --artifact-type application/spdx+json -f thing.json";
    stage.run(&format!("{put} --subject {app}:1.0")).succeeds();
    assert!(stage.run(&format!("regctl artifact list {app}:1.0")).succeeds().contains("application/spdx+json"));
    assert!(stage.run(&format!("regctl artifact tree {app}:1.0")).succeeds().contains("application/spdx+json"));
    let filtered = format!("regctl artifact list --filter-artifact-type application/none {app}:1.0");
    assert!(!stage.run(&filtered).succeeds().contains("spdx"));
    // A blob that no manifest lists yet is not given out; one that an accepted image lists is.
    let layer = &image.blobs()[1];
    std::fs::write(stage.file("blob"), layer.slice(..100)).expect("a file");
    let blob = std::fs::File::open(stage.file("blob")).expect("a file");
    let digest = stage.run_reading(&format!("regctl blob put {}", stage.at("team/blob")), blob.into()).succeeds();
    let at = format!("{} {}", stage.at("team/blob"), digest.trim());
    stage.run(&format!("regctl blob get {at}")).fails_with(&["push that manifest"]);
    stage.run(&format!("regctl blob head {app} {}", larder_core::Digest::of(layer))).succeeds();
    stage.run(&format!("regctl blob get {app} {}", larder_core::Digest::of(layer))).succeeds();
    let repositories = stage.run(&format!("regctl repo ls {}", stage.daemon.endpoint())).succeeds();
    assert_eq!(repositories, "other/copy\nteam/app\nteam/imported\n");
    // A removed tag, which regctl would overwrite where it cannot be removed.
    stage.run(&format!("regctl image copy {app}:1.0 {app}:2.0")).succeeds();
    stage.run(&format!("regctl tag rm {app}:2.0")).succeeds();
    assert_eq!(stage.run(&format!("regctl tag ls {app}")).succeeds(), "1.0\n");
    stage.holds("team/app", "1.0", &image);
}

pub(crate) fn skopeo() {
    let stage = Stage::new();
    let app = stage.at("team/app");
    unsigned(&stage);
    let read = "skopeo --insecure-policy copy --all --preserve-digests --src-tls-verify=false";
    let write = "skopeo --insecure-policy copy --all --preserve-digests --dest-tls-verify=false";
    stage.run(&format!("{read} docker://{app}:1.0 dir:refused")).fails_with(&["403"]);
    stage.allow("**", "localhost/team/app:1.0");
    let index = two_platforms();
    stage.daemon.http().push("team/multi", "2.0", &index);
    stage.run(&format!("{read} docker://{}:2.0 oci:layout:2.0", stage.at("team/multi"))).succeeds();
    stage.run(&format!("{write} oci:layout:2.0 docker://{}:2.0", stage.at("other/multi"))).succeeds();
    stage.holds("other/multi", "2.0", &index);
    let inspected = stage.run(&format!("skopeo inspect --tls-verify=false docker://{app}:1.0")).succeeds();
    let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
    assert_eq!(inspected["Digest"], stage.digest("team/app", "1.0"));
    let tags = stage.run(&format!("skopeo list-tags --tls-verify=false docker://{app}")).succeeds();
    assert!(tags.contains("\"1.0\""), "{tags}");
    let sync = "skopeo --insecure-policy sync --all --preserve-digests --src docker --dest dir";
    stage.run(&format!("{sync} --src-tls-verify=false {} synced", stage.at("team/multi"))).succeeds();
    let back = "skopeo --insecure-policy sync --all --preserve-digests --src dir --dest docker";
    stage.run(&format!("{back} --dest-tls-verify=false synced {}", stage.at("back"))).succeeds();
    stage.holds("back/multi", "2.0", &index);
    let delete = stage.run(&format!("skopeo delete --tls-verify=false docker://{app}:1.0"));
    delete.fails_with(&["405", "not deleted through the endpoint"]);
    assert_eq!(stage.daemon.client().state("localhost/team/app:1.0"), State::Allowed);
    // By Docker Hub's own names, with what print-config prints, word for word.
    let image = Image::new("hub").layer("a layer").build();
    stage.daemon.http().push("docker.io/library/hub", "1.0", &image);
    stage.write_at_home(&printed(&stage.home, &["skopeo", "docker.io"]));
    let copy = "skopeo --insecure-policy copy --preserve-digests";
    stage.run(&format!("{copy} docker://hub:1.0 dir:hub")).succeeds();
    assert_eq!(std::fs::read(stage.file("hub/manifest.json")).expect("a manifest"), image.root().bytes);
}

/// A client of another user, with and without what `print-config --with-token` prints.
pub(crate) fn another_user() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    const NOBODY: u32 = 65534;
    let stage = Stage::new();
    unsigned(&stage);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let auth = folder.path().join("auth.json");
    let inspect = format!("skopeo inspect --raw --tls-verify=false docker://{}:1.0", stage.at("team/app"));
    let as_nobody = |more: &str| {
        // Whatever root's podman has left in /run/containers is not that user's to read.
        let runtime = format!("env XDG_RUNTIME_DIR={}", folder.path().display());
        let words = format!("setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups {runtime} {inspect} {more}");
        stage.run(&words)
    };
    as_nobody("").fails_with(&["endpoint.token"]);
    let printed = stage.home.larder(["serve", "print-config", "skopeo", "--with-token", "--output", "json"]).exits(0);
    let printed = printed.json();
    let file = printed["files"].as_array().and_then(|files| files.last()).expect("files");
    assert!(file["path"].as_str().is_some_and(|path| path.contains("auth.json")), "{printed}");
    std::fs::write(&auth, file["content"].as_str().expect("content")).expect("a file");
    std::fs::set_permissions(&auth, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    chown(&auth, Some(NOBODY), Some(NOBODY)).expect("an owner");
    as_nobody(&format!("--authfile {}", auth.display())).succeeds();
}

//! `larder tag`, `rm`, `tree` and `inspect`.

use harness::image::{host_architecture, noise};
use harness::{Image, Index, Signer};

use crate::world::World;

#[test]
fn a_local_name_is_judged_and_served_by_its_own() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let (reference, digest) = (world.reference("1.0"), image.digest().to_string());
    let scope = serde_json::json!({"for": [format!("{}/**", world.registry.host())]});
    world.home.trust().key_scope("release", &scope);
    world.home.trust().key("release", &release);
    harness::eventually("verified", || (world.home.larder(["status", &reference]).code == 0).then_some(()));
    let tagged = world.home.larder(["tag", &reference, "localhost/team/app:dev", "--output", "json"]).exits(0).json();
    assert_eq!((&tagged["repository"], &tagged["tag"]), (&"localhost/team/app".into(), &"dev".into()));
    assert_eq!((&tagged["digest"], &tagged["old"]), (&digest.as_str().into(), &serde_json::Value::Null));
    assert_eq!(tagged["verdict"]["state"], "untrusted", "the key is not for this name");
    world.daemon.http().blob("team/app", &image.top_layer()).is(403);

    world.home.larder(["trust", "allow", "localhost/team/*", "--yes"]).exits(0);
    world.home.larder(["status", "localhost/team/app:dev"]).exits(0);
    assert_eq!(world.daemon.http().manifest("team/app", "dev").is(200).body, image.root().bytes);
    assert_eq!(world.daemon.http().blob("team/app", &image.top_layer()).is(200).body, image.blobs()[2]);
    // What is attached goes along, so that cosign finds it under the new name.
    world.daemon.http().manifest("team/app", &image.digest_tag(".sig")).is(200);

    let again = world.home.larder(["tag", &reference, "localhost/team/app:dev"]).exits(0);
    assert!(again.stdout.contains("nothing was changed"), "{}", again.stdout);
    let log = world.home.larder(["log", "localhost/team/app:dev", "--output", "json"]).exits(0).stdout;
    assert!(log.contains("\"tag\"") && log.contains(&digest), "{log}");
}

#[test]
fn an_index_goes_along_whole_and_what_was_left_out_stays_so() {
    let world = World::start();
    let child =
        |name: &str, architecture: &str| Image::new(name).architecture(architecture).layer(noise(name, 2_000)).build();
    let (own, other) = (child("own", host_architecture()), child("other", "s390x"));
    let index = Index::new().child(&own, "linux", host_architecture()).child(&other, "linux", "s390x").build();
    world.registry.put("store/multi", "1", &index);
    let reference = world.registry.reference("store/multi", "1");
    world.home.larder(["pull", &reference]).exits(0);
    world.home.larder(["tag", &reference, "localhost/multi:1"]).exits(0);
    let tree = world.home.larder(["tree", "localhost/multi:1", "--output", "json"]).exits(0).json();
    assert_eq!(tree["root"]["kind"], "index");
    let children = tree["root"]["successors"].as_array().expect("successors");
    assert_eq!((&children[0]["held"], &children[1]["held"]), (&true.into(), &false.into()));
    assert_eq!(children[1]["left_out"], true);
    assert_eq!(children[0]["successors"][1]["kind"], "layer");
    world.daemon.http().get(&format!("/v2/multi/manifests/{}", own.digest())).is(200);
    let inspected = world.home.larder(["inspect", "localhost/multi:1"]).exits(0).json();
    assert_eq!(inspected["Digest"], index.digest().to_string(), "the index's, as skopeo has it");
    assert_eq!(inspected["Architecture"], host_architecture());
    world
        .home
        .larder(["inspect", "localhost/multi:1", "--platform", "linux/s390x"])
        .exits(1)
        .is_a_clear_error("linux/s390x")
        .hints();
}

#[test]
fn a_registrys_names_are_its_own() {
    let world = World::start();
    let (old, new) = (world.upstream("1.0", &[]), world.upstream("1.1", &[]));
    world.pull("1.0");
    world.pull("1.1");
    let mine = world.reference("mine");
    let refused = world.home.larder(["tag", &world.reference("1.0"), &mine]).exits(1).is_a_clear_error(&mine).hints();
    assert!(refused.stderr.contains("localhost/store/app:mine"), "the local name that is free: {}", refused.stderr);
    world.home.larder(["tag", &world.reference("1.0"), &world.reference("1.1")]).exits(1);
    assert_eq!(world.home.larder(["inspect", &world.reference("1.1")]).json()["Digest"], new.digest().to_string());

    // A tag that the registry moved can be put back to what it named.
    world.registry.put(crate::world::APP, "1.0", &new);
    world.pull("1.0");
    let before = world.registry.at(crate::world::APP, &old.digest());
    let back = world.home.larder(["tag", &before, &world.reference("1.0")]).exits(0);
    assert!(back.stderr.contains("it named"), "and how to undo that: {}", back.stderr);
    assert_eq!(world.home.larder(["inspect", &world.reference("1.0")]).json()["Digest"], old.digest().to_string());

    let host = world.registry.host();
    drop(world.daemon);
    world.home.configure(&format!("[endpoint]\npush_to = [\"{host}/store/**\"]\n"));
    let _daemon = world.home.start();
    world.home.larder(["tag", &before, &mine]).exits(0);
}

#[test]
fn names_that_are_none() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let at = format!("localhost/x@{}", image.digest());
    world.home.larder(["tag", &reference, &at]).exits(1).is_a_clear_error(&at).hints();
    let reserved = format!("localhost/x:{}", image.digest_tag(".sig"));
    world.home.larder(["tag", &reference, &reserved]).exits(1).is_a_clear_error(".sig").hints();
    world
        .home
        .larder(["tag", "localhost/none:1", "localhost/x:1"])
        .exits(1)
        .is_a_clear_error("localhost/none:1")
        .hints();
    world.home.larder(["tag", &reference, "localhost/X:1"]).exits(1).is_a_clear_error("localhost/X");
}

#[test]
fn a_removed_tag_leaves_its_bytes_and_comes_back() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.upstream("2.0", &[]);
    world.pull("1.0");
    world.pull("2.0");
    let (first, second) = (world.reference("1.0"), world.reference("2.0"));
    let dry = world.home.larder(["rm", &first, &second, "--dry-run"]).exits(0);
    assert!(dry.stdout.contains("nothing was changed"), "{}", dry.stdout);
    world.home.larder(["status", &first]).exits(3);
    // All or none.
    world
        .home
        .larder(["rm", &first, &world.reference("none")])
        .exits(1)
        .is_a_clear_error(&world.reference("none"))
        .hints();
    world.home.larder(["status", &first]).exits(3);

    let removed = world.home.larder(["rm", &first, &second]).exits(0).stderr;
    world.home.larder(["status", &first]).exits(1).is_a_clear_error(&first);
    world.daemon.http().manifest(&world.served(), "1.0").is(404);
    assert!(world.home.blob(&image.digest()).exists(), "content stays");
    let by_digest = world.registry.at(crate::world::APP, &image.digest());
    world.home.larder(["status", &by_digest]).exits(3);
    let refused = world.home.larder(["rm", &by_digest]).exits(1).is_a_clear_error(&by_digest);
    assert!(refused.stderr.contains("hint"), "{}", refused.stderr);

    // The line that it prints undoes it, also after a restart.
    let world = world.restart();
    let line =
        removed.lines().find(|line| line.contains("larder tag") && line.contains(":1.0")).expect("how to undo it");
    let words: Vec<&str> = line.split('`').nth(1).expect("a command").split_whitespace().skip(1).collect();
    world.home.larder(words).exits(0);
    world.home.larder(["status", &first]).exits(3);
    let log = world.home.larder(["log", &first]).exits(0).stdout;
    assert!(log.contains("→ nothing"), "{log}");
}

#[test]
fn a_tree_shows_what_is_attached_to_what() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    let sbom =
        Image::new("sbom").layer("{}").subject(&image, "application/spdx+json").build_with("application/spdx+json");
    world.pull("1.0");
    world.daemon.http().push_by_digest(&world.served(), &sbom);
    let reference = world.reference("1.0");
    let tree = world.home.larder(["tree", &reference, "--output", "json"]).exits(0).json();
    assert_eq!((&tree["root"]["kind"], &tree["root"]["verdict"]["state"]), (&"image".into(), &"untrusted".into()));
    let kinds = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().expect("a list").iter();
        list.map(|node| node["kind"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(kinds(&tree["root"]["successors"]), ["config", "layer", "layer"]);
    assert_eq!(kinds(&tree["root"]["attached"]), ["signature", "sbom"]);
    assert_eq!(tree["root"]["attached"][0]["signatures"], 1);
    let found = tree["root"]["attached"][0]["found_at"][0].as_str().expect("a place").to_owned();
    assert_eq!(found, format!("{}/store/app:{}", world.registry.host(), image.digest_tag(".sig")));
    let drawn = world.home.larder(["tree", &reference]).exits(0).stdout;
    assert!(drawn.contains("├─ signature") && drawn.contains("└─ layer"), "{drawn}");
}

#[test]
fn inspect_prints_what_is_there() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.upstream("1.1", &[]);
    world.pull("1.0");
    world.pull("1.1");
    let reference = world.reference("1.0");
    let raw = world.home.larder(["inspect", "--raw", &reference]).exits(0).stdout;
    assert_eq!(raw.as_bytes(), image.root().bytes, "byte by byte");
    let config = world.home.larder(["inspect", "--config", &reference]).exits(0).stdout;
    assert_eq!(config.as_bytes(), image.blobs()[0]);
    let inspected = world.home.larder(["inspect", &reference]).exits(0).json();
    assert_eq!(inspected["Name"], reference.trim_end_matches(":1.0"));
    assert_eq!(inspected["RepoTags"], serde_json::json!(["1.0", "1.1"]));
    assert_eq!(inspected["Layers"][1], image.top_layer().to_string());
    assert_eq!(inspected["LayersData"][1]["Size"], 4000);
}

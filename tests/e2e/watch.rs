use std::time::Instant;

use harness::cli::has_reason;
use harness::{Signer, Watch};
use larder_proto::v1::State;
use larder_proto::v1::history_entry::What;

use crate::world::World;

#[test]
fn a_key_removed_and_restored_is_told_with_from_to_and_cause_and_remembered() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.home.trust().key("release", &release);
    world.daemon.client().trust_becomes("settled", 1, 0);
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let digest = image.digest().to_string();
    let (watch, states) = Watch::start_complete(&world.home);
    let told: Vec<_> = states.iter().filter(|line| line["digest"] == digest.as_str()).collect();
    assert_eq!(told.len(), 1, "{states:?}");
    assert_eq!(told[0]["to"], "verified");

    let removed_at = Instant::now();
    world.home.trust().remove_key("release");
    let (arrived, line) = watch.change(&digest, "untrusted");
    println!("key file removed to line on the watch: {:?}", arrived - removed_at);
    assert_eq!(line["from"], "verified");
    assert_eq!(line["tags"], serde_json::json!(["1.0"]));
    assert!(line["seq"].as_u64().is_some_and(|seq| seq > 0) && line["time"].is_string(), "{line}");
    assert!(has_reason(&line, "no-policy"), "{line}");
    assert!(line["cause"].to_string().contains("release"), "the cause names the key: {line}");
    world.home.larder(["status", &reference]).exits(3);

    let restored_at = Instant::now();
    world.home.trust().key("release", &release);
    let (arrived, line) = watch.change(&digest, "verified");
    println!("key file restored to line on the watch: {:?}", arrived - restored_at);
    assert_eq!(line["from"], "untrusted");
    world.home.larder(["status", &reference]).exits(0);

    let history = world.daemon.client().history(&reference);
    let states: Vec<_> = history
        .iter()
        .filter_map(|entry| match &entry.what {
            Some(What::Verdict(change)) => {
                Some((change.to(), change.cause.clone().unwrap_or_default(), change.previous))
            }
            _ => None,
        })
        .collect();
    let order: Vec<_> = states.iter().map(|(to, ..)| *to).collect();
    assert_eq!(order, [State::Verified, State::Untrusted, State::Verified], "newest first");
    assert!(states[0].1.detail.contains("release") && states[1].1.detail.contains("release"), "{states:?}");
    assert!(
        states[0].2 > states[1].2 && states[1].2 > 0 && states[2].2 == 0,
        "each names the telling before: {states:?}"
    );
    let log = world.home.larder(["log", &reference]).exits(0).stdout;
    assert!(log.contains("untrusted") && log.contains("verified") && log.contains("release"), "{log}");
}

#[test]
fn a_cursor_loses_nothing_and_repeats_nothing() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let digest = image.digest().to_string();
    let (watch, _) = Watch::start_complete(&world.home);
    world.home.trust().key("release", &release);
    let (_, first) = watch.change(&digest, "verified");
    drop(watch);
    world.home.trust().remove_key("release");
    world.daemon.client().becomes(&world.reference("1.0"), State::Untrusted);
    let world = world.restart();
    let cursor = first["seq"].as_u64().expect("a seq").to_string();
    let watch = Watch::start(&world.home, &["--from", &cursor]);
    let (_, line) = watch.until("a change after the cursor", |line| line["type"] == "change");
    assert_eq!((&line["from"], &line["to"]), (&"verified".into(), &"untrusted".into()), "{line}");
    assert!(line["seq"].as_u64() > first["seq"].as_u64());
    world.home.larder(["watch", "--from", "999999999", "--output", "json"]).exits(1).is_a_clear_error("999999999");
}

#[test]
fn from_start_tells_everything_that_is_remembered() {
    let (world, release) = (World::start(), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    world.home.trust().key("release", &release);
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    let watch = Watch::start(&world.home, &["--from", "start"]);
    let digest = image.digest().to_string();
    let (_, first) = watch.change(&digest, "untrusted");
    assert!(first["from"].is_null(), "a first telling has no from: {first}");
    let (_, second) = watch.change(&digest, "verified");
    assert_eq!(second["from"], "untrusted");
}

#[test]
fn from_now_tells_only_what_comes() {
    let (world, release) = (World::start(), Signer::new("release"));
    world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let watch = Watch::start(&world.home, &["--from", "now"]);
    let later = world.upstream("2.0", &[&release]);
    let tagged = |line: &serde_json::Value, tag: &str| line["tags"].to_string().contains(tag);
    // Only a line shows that the stream has begun; so 1.0 changes until one comes.
    let begun = std::thread::scope(|scope| {
        let edits = scope.spawn(|| {
            for _ in 0..5 {
                world.home.trust().key("release", &release);
                world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
                world.home.trust().remove_key("release");
                world.daemon.client().becomes(&world.reference("1.0"), State::Untrusted);
            }
        });
        let (_, line) = watch.line("any line");
        edits.join().expect("the edits");
        line
    });
    assert!(begun["type"] != "state" && begun["type"] != "complete", "no snapshot: {begun}");
    world.pull("2.0");
    let (_, line) = watch.until("the new subject", |line| line["type"] == "change" && tagged(line, "2.0"));
    assert_eq!(line["digest"], later.digest().to_string());
}

#[test]
fn telling_n_changes_takes_n_seqs_and_starting_writes_no_record() {
    let (world, release) = (World::start(), Signer::new("release"));
    for tag in ["1.0", "2.0", "3.0"] {
        world.upstream(tag, &[&release]);
        world.pull(tag);
    }
    let before = world.daemon.client().status().seq;
    world.home.trust().key("release", &release);
    for tag in ["1.0", "2.0", "3.0"] {
        world.daemon.client().becomes(&world.reference(tag), State::Verified);
    }
    let after = harness::eventually("the changes to be journaled", || {
        let seq = world.daemon.client().status().seq;
        (seq >= before + 4).then_some(seq)
    });
    assert_eq!(after, before + 4, "one for the trust record and one for each change");
    let world = world.restart();
    assert_eq!(world.daemon.client().status().seq, after, "a start writes no record");
    let World { home, daemon, registry } = world;
    assert!(daemon.stop().success());
    let daemon = home.start();
    assert_eq!(daemon.client().status().seq, after, "nor does a stop");
    drop(registry);
}

#[test]
fn a_faulty_folder_is_noticed_and_its_end_too() {
    let world = World::start();
    let (watch, _) = Watch::start_complete(&world.home);
    world.home.trust().write("keys/broken.pub", "no key");
    watch.until("a notice of the fault", |line| line["type"] == "notice" && line.to_string().contains("faulty"));
    world.home.trust().remove_key("broken");
    watch.until("a notice of its end", |line| line["type"] == "notice" && line.to_string().contains("settled"));
}

#[test]
fn the_told_history_replayed_gives_the_present_states() {
    use std::collections::HashMap;
    let world = World::start();
    let signers: Vec<_> = ["a", "b", "c"].map(Signer::new).into();
    let mut references = Vec::new();
    for (number, signer) in signers.iter().cycle().take(9).enumerate() {
        let tag = format!("{number}");
        world.upstream(&tag, &[signer]);
        world.pull(&tag);
        references.push(world.reference(&tag));
    }
    let trust = world.home.trust();
    for (number, edit) in [0_usize, 1, 2, 0, 1, 0, 2, 1].into_iter().enumerate() {
        let name = ["a", "b", "c"][edit];
        if trust.file(&format!("keys/{name}.pub")).exists() {
            trust.remove_key(name);
        } else {
            trust.key(name, &signers[edit]);
        }
        if number == 4 {
            trust.deny(&serde_json::json!({"keys": [{"key": "c", "reason": "lost"}]}));
        }
    }
    let client = world.daemon.client();
    let keys = ["a", "b", "c"].iter().filter(|name| trust.file(&format!("keys/{name}.pub")).exists()).count();
    client.trust_becomes("settled", keys, 0);
    let present: HashMap<String, State> = references
        .iter()
        .map(|reference| {
            client.query(reference).map(|verdict| (verdict.digest.clone(), verdict.state())).expect("held")
        })
        .collect();
    assert!(present.values().all(|state| *state != State::Pending));
    harness::eventually("the history to give the present states", || {
        let mut replayed = HashMap::new();
        for entry in client.history("").into_iter().rev() {
            if let Some(What::Verdict(change)) = entry.what {
                let before = replayed.insert(change.digest.clone(), change.to());
                let from = (change.from() != State::Unspecified).then_some(change.from());
                assert_eq!(before, from, "each change goes from what was told before");
            }
        }
        (replayed == present).then_some(())
    });
}

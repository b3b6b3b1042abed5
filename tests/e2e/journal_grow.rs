//! A journal that would grow for ever does not, by itself, while it is written and followed.

use harness::home::files;
use harness::{Signer, Watch};
use larder_proto::v1::State;

use crate::world::World;

/// More than the state, the last segment and what is written while it prunes.
const BOUND: u64 = 200 << 10;
const KEYS: usize = 40;

#[test]
fn a_daemon_prunes_by_itself_and_who_follows_loses_nothing() {
    let config = "[journal]\nsegment_bytes = 4096\nkeep_days = 0\nkeep_bytes = 0\n";
    let (world, release) = (World::with_config(config), Signer::new("release"));
    let image = world.upstream("1.0", &[&release]);
    world.pull("1.0");
    let (digest, client) = (image.digest().to_string(), world.daemon.client());
    let (watch, _) = Watch::start_complete(&world.home);
    for _ in 0..KEYS {
        world.home.trust().key("release", &release);
        watch.change(&digest, "verified");
        world.home.trust().remove_key("release");
        watch.change(&digest, "untrusted");
    }
    let oldest = || client.status().journal.map_or(0, |journal| journal.oldest_seq);
    harness::eventually("a pruning", || (oldest() > 1).then_some(()));
    let bytes: u64 = files(&world.home.path().join("journal"))
        .iter()
        .map(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len()))
        .sum();
    assert!(bytes < BOUND, "{bytes} bytes of journal");
    world.home.trust().key("release", &release);
    client.becomes(&world.reference("1.0"), State::Verified);
    let world = world.restart();
    world.daemon.client().becomes(&world.reference("1.0"), State::Verified);
    assert_eq!(world.daemon.client().status().read_only, "");
}

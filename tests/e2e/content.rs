//! Content over gRPC: read through the gate, written in pieces, printed by `larder cat`.

use bytes::Bytes;
use futures_util::StreamExt as _;
use harness::{Home, Image, block};
use larder_core::Digest;
use larder_proto::v1::{
    FindMissingRequest, PutManifestRequest, ReadMode, ReadRequest, State, WriteAction, WriteRequest, WriteResponse,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::world::World;

/// The reason that a status tells.
pub(crate) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// Reads all that comes; the bytes, and the size that was told.
fn read(client: &harness::Client, request: ReadRequest) -> Result<(Vec<u8>, u64), Box<Status>> {
    block(async {
        let mut stream = client.content().read(request).await?.into_inner();
        let (mut bytes, mut size, mut first) = (Vec::new(), 0, true);
        while let Some(piece) = stream.message().await? {
            if std::mem::take(&mut first) {
                size = piece.size;
            }
            assert!(piece.data.len() <= 256 << 10, "a chunk is bounded");
            bytes.extend_from_slice(&piece.data);
        }
        Ok((bytes, size))
    })
}

/// Sends requests, one after the other, and returns the answers.
fn write(client: &harness::Client, requests: Vec<WriteRequest>) -> Result<Vec<WriteResponse>, Box<Status>> {
    block(async {
        let mut stream = client.content().write(futures_util::stream::iter(requests)).await?.into_inner();
        let mut answers = Vec::new();
        while let Some(answer) = stream.message().await? {
            answers.push(answer);
        }
        Ok(answers)
    })
}

fn request(action: WriteAction, offset: usize, data: &[u8]) -> WriteRequest {
    WriteRequest {
        action: action.into(),
        r#ref: "layer".to_owned(),
        offset: offset as u64,
        data: Bytes::copy_from_slice(data),
        ..Default::default()
    }
}

#[test]
fn what_is_read_passes_the_gate() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let client = world.daemon.client();
    let repository = world.reference("1.0").trim_end_matches(":1.0").to_owned();
    let layer = image.blobs().last().expect("a layer").clone();
    let of_layer =
        ReadRequest { repository: repository.clone(), digest: image.top_layer().to_string(), ..Default::default() };
    let refused = read(&client, of_layer.clone()).expect_err("unsigned");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "not-accepted"));
    // A manifest stays readable, so that a signer can sign it.
    let of_manifest = ReadRequest { digest: image.digest().to_string(), ..of_layer.clone() };
    assert_eq!(read(&client, of_manifest).expect("readable").0, image.root().bytes);
    // Past the gate, only where that is asked for by name.
    let past = ReadRequest { mode: ReadMode::AnyState.into(), repository: String::new(), ..of_layer.clone() };
    assert_eq!(read(&client, past.clone()).expect("the owner looks"), (layer.to_vec(), layer.len() as u64));
    let nowhere = ReadRequest { repository: String::new(), ..of_layer.clone() };
    assert_eq!(reason(&read(&client, nowhere).expect_err("no repository")), "invalid-argument");
    let unknown = ReadRequest { mode: 7, ..of_layer.clone() };
    assert_eq!(reason(&read(&client, unknown).expect_err("no such mode")), "invalid-argument");
    let elsewhere = ReadRequest { repository: "localhost/x".to_owned(), ..of_layer.clone() };
    assert_eq!(read(&client, elsewhere).expect_err("not there").code(), Code::NotFound);
    world.home.larder(["trust", "allow", &repository, "--yes"]).exits(0);
    assert_eq!(read(&client, of_layer.clone()).expect("allowed").0, layer);
    let part = ReadRequest { offset: 10, length: 5, ..of_layer.clone() };
    assert_eq!(read(&client, part).expect("a part"), (layer[10..15].to_vec(), layer.len() as u64));
    let end = ReadRequest { offset: layer.len() as u64, ..of_layer.clone() };
    assert_eq!(read(&client, end).expect("nothing is left"), (Vec::new(), layer.len() as u64));
    let behind = ReadRequest { offset: layer.len() as u64 + 1, ..of_layer };
    assert_eq!(read(&client, behind).expect_err("behind the end").code(), Code::OutOfRange);
}

#[test]
fn a_write_goes_on_where_it_broke_off() {
    let home = Home::new();
    let daemon = home.start();
    let client = daemon.client();
    let layer = harness::image::noise("a layer", 700_000);
    let image = Image::new("written").layer(layer.clone()).build();
    let digest = Digest::of(&layer).to_string();
    // The stream ends in the middle; another connection asks where it stands.
    let half = 300_000;
    let sent = write(&client, vec![request(WriteAction::Stat, 0, b""), request(WriteAction::Write, 0, &layer[..half])]);
    assert_eq!(sent.expect("half").last().map(|answer| answer.offset), Some(half as u64));
    let again = daemon.client();
    let stat = write(&again, vec![request(WriteAction::Stat, 0, b"")]).expect("it is there");
    assert_eq!(stat[0].offset, half as u64);
    let wrong = write(&again, vec![request(WriteAction::Write, half + 1, b"x")]).expect_err("a gap");
    assert_eq!((wrong.code(), reason(&wrong).as_str()), (Code::OutOfRange, "wrong-offset"));
    let missing = FindMissingRequest { digests: vec![digest.clone(), digest.clone()] };
    let ask = |client: &harness::Client| {
        block(client.content().find_missing(missing.clone())).expect("an answer").into_inner().missing
    };
    assert_eq!(ask(&again), std::slice::from_ref(&digest), "not before it is committed");
    let early = WriteRequest { expected: digest.clone(), total: 5, ..request(WriteAction::Commit, half, b"") };
    assert_eq!(reason(&write(&again, vec![early]).expect_err("not all")), "length-mismatch");
    let rest = WriteRequest {
        expected: digest.clone(),
        total: layer.len() as u64,
        ..request(WriteAction::Commit, half, &layer[half..])
    };
    let done = write(&again, vec![rest]).expect("committed");
    assert_eq!((done[0].offset, &done[0].digest), (layer.len() as u64, &digest));
    assert!(ask(&again).is_empty());
    // Invisible until a manifest lists it.
    let of_layer = ReadRequest { repository: "localhost/team/app".to_owned(), digest, ..Default::default() };
    assert_eq!(read(&again, of_layer).expect_err("nobody lists it").code(), Code::NotFound);
    let put = PutManifestRequest {
        repository: "localhost/team/app".to_owned(),
        tag: "1.0".to_owned(),
        digest: image.digest().to_string(),
        media_type: image.root().media_type.clone(),
        manifest: image.root().bytes.clone(),
    };
    let incomplete = block(again.content().put_manifest(put.clone())).expect_err("the config is not here");
    assert_eq!((incomplete.code(), reason(&incomplete).as_str()), (Code::FailedPrecondition, "missing-content"));
    for blob in image.blobs() {
        let whole = WriteRequest { expected: Digest::of(blob).to_string(), ..request(WriteAction::Commit, 0, blob) };
        write(&again, vec![whole]).expect("in one piece");
    }
    let answer = block(again.content().put_manifest(put.clone())).expect("taken in").into_inner();
    assert_eq!(answer.digest, image.digest().to_string());
    assert_eq!(again.state("localhost/team/app:1.0"), State::Unsigned);
    let foreign = PutManifestRequest { repository: "docker.io/library/app".to_owned(), ..put };
    let foreign = block(again.content().put_manifest(foreign)).expect_err("a registry's name");
    assert_eq!((foreign.code(), reason(&foreign).as_str()), (Code::PermissionDenied, "not-writable"));
    home.assert_blobs_are_whole();
}

#[test]
fn what_was_written_has_its_digest_or_is_gone() {
    let home = Home::new();
    let daemon = home.start();
    let client = daemon.client();
    let lie = WriteRequest { expected: Digest::of(b"y").to_string(), ..request(WriteAction::Commit, 0, b"x") };
    let lied = write(&client, vec![lie]).expect_err("other bytes");
    assert_eq!((lied.code(), reason(&lied).as_str()), (Code::DataLoss, "digest-mismatch"));
    assert_eq!(write(&client, vec![request(WriteAction::Stat, 0, b"")]).expect("anew")[0].offset, 0);
    write(&client, vec![request(WriteAction::Abort, 0, b"")]).expect("it was begun");
    let nothing = write(&client, vec![request(WriteAction::Abort, 0, b"")]).expect_err("it is gone");
    assert_eq!(reason(&nothing), "no-such-write");
    let nameless = WriteRequest { r#ref: String::new(), ..request(WriteAction::Stat, 0, b"") };
    assert_eq!(reason(&write(&client, vec![nameless]).expect_err("no name")), "invalid-argument");
    // Only one call at a time writes: here the first still holds the stream open, but no longer the write.
    let open = futures_util::stream::iter([request(WriteAction::Write, 0, b"abc")])
        .chain(futures_util::stream::pending::<WriteRequest>());
    let mut held = block(client.content().write(open)).expect("a stream").into_inner();
    assert_eq!(block(held.message()).expect("no error").expect("an answer").offset, 3);
    assert_eq!(write(&client, vec![request(WriteAction::Stat, 0, b"")]).expect("not busy")[0].offset, 3);
    home.assert_blobs_are_whole();
}

#[test]
fn cat_is_byte_exact_and_gated() {
    let world = World::start();
    let image = world.upstream("1.0", &[]);
    world.pull("1.0");
    let reference = world.reference("1.0");
    let manifest = world.home.larder(["cat", &reference]).exits(0);
    assert_eq!(manifest.stdout.as_bytes(), image.root().bytes);
    let by_digest = format!("{}@{}", reference.trim_end_matches(":1.0"), image.digest());
    assert_eq!(world.home.larder(["cat", &by_digest]).exits(0).stdout.as_bytes(), image.root().bytes);
    let config = Digest::of(&image.blobs()[0]).to_string();
    world
        .home
        .larder(["cat", &reference, "--blob", &config])
        .exits(1)
        .is_a_clear_error("unsigned")
        .says(&["trust allow"]);
    let looked = world.home.larder(["cat", &reference, "--blob", &config, "--unverified"]).exits(0);
    assert_eq!(looked.stdout.as_bytes(), image.blobs()[0]);
    world.home.larder(["cat", &reference, "--blob", &Digest::of(b"nothing").to_string()]).exits(1);
    world.home.larder(["cat", "localhost/no/such:1.0"]).exits(1).is_a_clear_error("localhost/no/such:1.0");
}

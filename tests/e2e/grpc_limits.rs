//! What the API refuses so that it stays small: long messages, too many watches and calls, connections that never speak.

use std::os::unix::net::UnixStream;

use bytes::Bytes;
use harness::{Home, block};
use larder_proto::v1::{PutManifestRequest, QueryRequest, WatchRequest, WriteAction, WriteRequest, watch_request};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::content::reason;

#[test]
fn a_message_that_is_too_long_is_refused_with_its_reason() {
    let home = Home::new();
    let daemon = home.start();
    let client = daemon.client();
    let long = QueryRequest { references: vec!["x".repeat(5 << 20)] };
    let refused = block(client.verification().query(long)).expect_err("5 MiB");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "message-too-large"));
    let manifest = PutManifestRequest { manifest: Bytes::from(vec![b' '; 5 << 20]), ..Default::default() };
    let refused = block(client.content().put_manifest(manifest)).expect_err("5 MiB");
    assert_eq!(reason(&refused), "message-too-large");
    // The largest manifest that there may be is taken as a message, and refused as what it is.
    let full = PutManifestRequest {
        repository: "localhost/x".to_owned(),
        tag: "1".to_owned(),
        manifest: Bytes::from(vec![b' '; 4 << 20]),
        ..Default::default()
    };
    assert_eq!(reason(&block(client.content().put_manifest(full)).expect_err("spaces")), "invalid-manifest");
    let chunk = WriteRequest {
        action: WriteAction::Write.into(),
        r#ref: "x".to_owned(),
        data: Bytes::from(vec![0; 5 << 20]),
        ..Default::default()
    };
    let mut stream = block(client.content().write(futures_util::stream::iter([chunk]))).expect("a stream").into_inner();
    let refused = block(stream.message()).expect_err("5 MiB");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "message-too-large"));
}

#[test]
fn watches_and_calls_are_bounded() {
    let home = Home::new();
    let daemon = home.start();
    let now = || WatchRequest { from: Some(watch_request::From::Now(true)) };
    let mut open = Vec::new();
    let refused = loop {
        // 128 streams fit onto one connection.
        let client = daemon.client();
        let mut refused = None;
        for _ in 0..100 {
            match block(client.verification().watch(now())) {
                Ok(stream) => open.push((client.clone(), stream)),
                Err(status) => {
                    refused = Some(status);
                    break;
                }
            }
        }
        if let Some(status) = refused {
            break status;
        }
        assert!(open.len() < 1000, "watches are not bounded");
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "too-many-watches"));
    // Others are served meanwhile.
    daemon.client().status();
    // Calls of all kinds: health's watches count too.
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", daemon.socket().display()));
    let endpoint = endpoint.expect("a socket's URI");
    let mut more = Vec::new();
    let refused = 'calls: loop {
        let channel = block(endpoint.connect()).expect("a connection");
        for _ in 0..100 {
            let mut health = HealthClient::new(channel.clone());
            match block(health.watch(HealthCheckRequest::default())) {
                Ok(stream) => more.push((channel.clone(), stream)),
                Err(status) => break 'calls status,
            }
        }
        assert!(more.len() < 2000, "calls are not bounded");
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "too-many-calls"));
    let peak = daemon.memory_kib("VmHWM");
    assert!(peak < 256 << 10, "the daemon took {peak} KiB");
    drop(more);
    drop(open);
    harness::eventually("room for calls", || daemon.client().try_status().ok());
    harness::eventually("room for watches", || block(daemon.client().verification().watch(now())).ok());
}

#[test]
fn connections_that_never_speak_give_way() {
    let home = Home::new();
    let daemon = home.start();
    let before = daemon.memory_kib("VmRSS");
    let mut silent = Vec::new();
    // More than may be open at once; those beyond wait in the listener's queue.
    for _ in 0..400 {
        let socket = UnixStream::connect(daemon.socket()).expect("the queue has room");
        socket.set_nonblocking(true).expect("a mode");
        silent.push(socket);
    }
    // They are dropped after ten seconds without a word, and somebody who speaks gets in.
    harness::eventually("an answer", || {
        harness::Client::connect(daemon.socket()).and_then(|client| client.try_status().ok())
    });
    let grown = daemon.memory_kib("VmRSS").saturating_sub(before);
    assert!(grown < 64 << 10, "silent connections took {grown} KiB");
    drop(silent);
}

#[test]
fn health_says_what_serves() {
    let home = Home::new();
    let daemon = home.start();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", daemon.socket().display()));
    let channel = block(endpoint.expect("a socket's URI").connect()).expect("a connection");
    let mut health = HealthClient::new(channel);
    for service in ["", "larder.v1.Verification", "larder.v1.Content"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = block(health.check(request)).expect("known").into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = HealthCheckRequest { service: "larder.v1.Nothing".to_owned() };
    assert_eq!(block(health.check(unknown)).expect_err("unknown").code(), Code::NotFound);
    // Whoever watches is told that the daemon stops, before it is gone.
    let mut watch = block(health.watch(HealthCheckRequest::default())).expect("a watch").into_inner();
    assert_eq!(block(watch.message()).expect("told").expect("a status").status(), ServingStatus::Serving);
    let stopping = std::thread::spawn(move || daemon.stop());
    assert_eq!(block(watch.message()).expect("told").expect("a status").status(), ServingStatus::NotServing);
    assert!(stopping.join().expect("stopped").success());
}

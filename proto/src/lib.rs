//! Larder's public gRPC API, `larder.v1`: generated types, clients and servers.
//!
//! The comments in `larder/v1/*.proto` are its manual. Errors are `google.rpc.Status` with an
//! `ErrorInfo` whose `reason` is stable and whose metadata may hold a `hint`.

pub mod place;
mod redacted;

/// The only version so far.
#[allow(
    missing_docs,
    clippy::all,
    clippy::unwrap_used,
    clippy::use_self,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]
pub mod v1 {
    tonic::include_proto!("larder.v1");
}

/// The API as an encoded `google.protobuf.FileDescriptorSet`, its imports included: what reflection shows.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/larder.v1.binpb"));

/// The `domain` of every `ErrorInfo`.
pub const ERROR_DOMAIN: &str = "larder";
/// The size of a chunk of content in a stream.
pub const CHUNK_BYTES: usize = 256 << 10;
/// The HTTP/2 flow-control window of one stream, on both sides.
pub const STREAM_WINDOW: u32 = 4 << 20;
/// The HTTP/2 flow-control window of a connection, on both sides.
pub const CONNECTION_WINDOW: u32 = 8 << 20;

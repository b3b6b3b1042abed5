//! Who owns the other end of a loopback connection, asked of the kernel by `sock_diag`.
//!
//! One request for exactly one pair of addresses takes some 9 µs; reading `/proc/net/tcp` takes
//! milliseconds and grows with the machine's connections.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

/// The uid that the kernel shows for owners which have none in our user namespace; it names nobody.
const OVERFLOW_UID: u32 = 65_534;
/// More than an answer about one socket takes.
const ANSWER_BYTES: usize = 4096;

/// Returns the uid that owns the peer's end of a connection, or `None` where that is unknown: the
/// peer is on another machine or in another network namespace, has closed its end, or the kernel
/// did not answer.
///
/// `peer` is the peer's address and `local` is ours, as our end of the connection shows them.
pub(super) fn owner(peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let (peer, local) = (canonical(peer), canonical(local));
    match ask(peer, local) {
        Ok(answer) => answer.and_then(|answer| owner_of(&answer, peer, local)),
        Err(error) => {
            tracing::debug!(%peer, %error, "the owner of a connection could not be asked for");
            None
        }
    }
}

/// Reads the owner out of an answer: only an established connection of exactly this pair with an
/// inode names one, for a closed socket shows as uid 0, and a listening one answers for pairs that
/// are not there.
fn owner_of(answer: &InetResponseHeader, peer: SocketAddr, local: SocketAddr) -> Option<u32> {
    let id = &answer.socket_id;
    let pair = (
        SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
    );
    (answer.state == TCP_ESTABLISHED && answer.inode != 0 && answer.uid != OVERFLOW_UID && pair == (peer, local))
        .then_some(answer.uid)
}

/// A v4 connection to a v6 listener shows mapped addresses; the scope of a v6 address is no part of the pair.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn ask(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<InetResponseHeader>> {
    let family = match peer.ip() {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    };
    let mut header = NetlinkHeader::default();
    // Without NLM_F_DUMP this asks for one socket.
    header.flags = NLM_F_REQUEST;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::ESTABLISHED,
        socket_id: SocketId {
            source_port: peer.port(),
            destination_port: local.port(),
            source_address: peer.ip(),
            destination_address: local.ip(),
            interface_id: 0,
            cookie: [0xff; 8],
        },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    // The kernel answers within `send`; nothing is ever waited for.
    socket.set_non_blocking(true)?;
    socket.send(&bytes, 0)?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES);
    socket.recv(&mut answer, 0)?;
    let answer =
        NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => Ok(Some(response.header.clone())),
        NetlinkPayload::Error(error) if error.to_io().kind() != io::ErrorKind::NotFound => Err(error.to_io()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn connection(listen: &str, connect: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let client = TcpStream::connect((connect, port)).expect("connect");
        (client, listener.accept().expect("accept").0)
    }

    fn owner_at(server: &TcpStream) -> Option<u32> {
        owner(server.peer_addr().expect("peer"), server.local_addr().expect("local"))
    }

    #[test]
    fn finds_our_own_uid() {
        let uid = rustix::process::geteuid().as_raw();
        let (_client, server) = connection("127.0.0.1:0", "127.0.0.1");
        assert_eq!(owner_at(&server), Some(uid));
    }

    #[test]
    fn finds_it_on_both_families() {
        let uid = rustix::process::geteuid().as_raw();
        if TcpListener::bind("[::1]:0").is_err() {
            // Written past the harness, which shows nothing of a test that passes.
            let _ = writeln!(io::stderr(), "NOT TESTED: this machine has no IPv6");
            return;
        }
        let (_client, server) = connection("[::1]:0", "::1");
        assert_eq!(owner_at(&server), Some(uid));
        let (_client, server) = connection("[::]:0", "127.0.0.1");
        assert_eq!(owner_at(&server), Some(uid));
    }

    #[test]
    fn a_peer_that_closed_has_no_owner() {
        let (client, server) = connection("127.0.0.1:0", "127.0.0.1");
        drop(client);
        assert_eq!(owner_at(&server), None);
    }

    #[test]
    fn a_pair_that_is_not_there_has_no_owner() {
        let (_client, server) = connection("127.0.0.1:0", "127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let listening = listener.local_addr().expect("address");
        // A listener answers for pairs that nobody has; it must not count as their owner.
        assert_eq!(owner(listening, server.local_addr().expect("local")), None);
    }
}

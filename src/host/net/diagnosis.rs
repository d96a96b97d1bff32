//! The socket that listens on a port, by the kernel's socket diagnosis (sock_diag(7)). /proc/net/tcp says the same, but the kernel
//! walks the table of all connections for it, which takes tens of milliseconds on a machine with much memory.

use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

/// `NETLINK_SOCK_DIAG`.
const PROTOCOL: isize = 4;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const TCP: u8 = 6;
/// Bit 10: `TCP_LISTEN`. The kernel then looks at listening sockets only.
const LISTENING: u32 = 1 << 10;
/// `AF_INET` and `AF_INET6`.
const FAMILIES: [u8; 2] = [2, 10];

const HEADER: usize = 16;
/// `struct inet_diag_req_v2` after the header.
const REQUEST: usize = HEADER + 56;
/// Where `struct inet_diag_msg` has its source port and its inode, after the header.
const SOURCE_PORT: usize = HEADER + 4;
const INODE: usize = HEADER + 68;
/// Enough for the few sockets that can listen on one port; a dump comes in several datagrams when there are more.
const ANSWER: usize = 16 * 1024;

/// The inode of a socket that listens on `port`.
pub(super) fn listening_inode(port: u16) -> io::Result<Option<u64>> {
    let mut socket = Socket::new(PROTOCOL)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    for family in FAMILIES {
        socket.send(&request(family, port), 0)?;
        if let Some(inode) = answer(&socket, port)? {
            return Ok(Some(inode));
        }
    }
    Ok(None)
}

fn request(family: u8, port: u16) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[..4].copy_from_slice(&u32::try_from(REQUEST).expect("it is small").to_ne_bytes());
    request[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    request[HEADER] = family;
    request[HEADER + 1] = TCP;
    request[HEADER + 4..HEADER + 8].copy_from_slice(&LISTENING.to_ne_bytes());
    request[HEADER + 8..HEADER + 10].copy_from_slice(&port.to_be_bytes());
    request
}

/// Reads the dump to its end, so that the next question gets its own answer.
fn answer(socket: &Socket, port: u16) -> io::Result<Option<u64>> {
    let mut found = None;
    loop {
        let mut datagram = Vec::with_capacity(ANSWER);
        socket.recv(&mut datagram, 0)?;
        match messages(&datagram, port) {
            Part::More(inode) => found = found.or(inode),
            Part::Last(inode) => return Ok(found.or(inode)),
            Part::Refused(errno) => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// What a datagram of a dump says.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    More(Option<u64>),
    Last(Option<u64>),
    Refused(i32),
}

fn messages(datagram: &[u8], port: u16) -> Part {
    let mut rest = datagram;
    let mut found = None;
    while let Some((length, kind)) = header(rest) {
        match kind {
            DONE => return Part::Last(found),
            ERROR => return Part::Refused(word(rest, HEADER).map_or(0, |errno| errno.cast_signed().wrapping_neg())),
            _ => {}
        }
        let is_asked_for = rest.get(SOURCE_PORT..SOURCE_PORT + 2) == Some(&port.to_be_bytes());
        if is_asked_for && length >= INODE + 4 {
            found = found.or(word(rest, INODE).map(u64::from));
        }
        // Messages begin at multiples of four.
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Part::More(found)
}

fn header(message: &[u8]) -> Option<(usize, u16)> {
    let length = usize::try_from(word(message, 0)?).ok()?;
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    (length >= HEADER && length <= message.len()).then_some((length, kind))
}

fn word(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(message.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_to_its_end_and_a_refusal_has_its_number() {
        let message = |kind: u16, length: usize| {
            let mut message = vec![0; length];
            message[..4].copy_from_slice(&u32::try_from(length).expect("small").to_ne_bytes());
            message[4..6].copy_from_slice(&kind.to_ne_bytes());
            message
        };
        let mut socket = message(BY_FAMILY, INODE + 4);
        socket[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&6443_u16.to_be_bytes());
        socket[INODE..].copy_from_slice(&4711_u32.to_ne_bytes());
        assert_eq!(messages(&socket, 6443), Part::More(Some(4711)));
        assert_eq!(messages(&socket, 10250), Part::More(None));
        assert_eq!(messages(&[socket, message(DONE, 20)].concat(), 6443), Part::Last(Some(4711)));
        let mut refused = message(ERROR, 36);
        refused[HEADER..HEADER + 4].copy_from_slice(&(-2_i32).to_ne_bytes());
        assert_eq!(messages(&refused, 6443), Part::Refused(2));
        assert_eq!(messages(&[1, 0, 0], 6443), Part::More(None));
    }
}

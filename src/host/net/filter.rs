//! The kernel's packet filter (nf_tables), spoken to by netlink: whole tables, and in the tables that iptables-nft shares with everybody
//! single chains with the rules that jump to them. Names decide; what is in a rule besides is nobody's business here.
//! Numbers are those of `linux/netfilter/nf_tables.h` and `nfnetlink.h`.

use std::collections::BTreeSet;
use std::io;

use rtnetlink::sys::{Socket, SocketAddr};

/// `NETLINK_NETFILTER`.
const PROTOCOL: isize = 12;
/// `NFNL_SUBSYS_NFTABLES`, as the upper half of a message's type.
const NF_TABLES: u16 = 10 << 8;
const GET_TABLE: u16 = NF_TABLES | 1;
const DELETE_TABLE: u16 = NF_TABLES | 2;
const GET_CHAIN: u16 = NF_TABLES | 4;
const DELETE_CHAIN: u16 = NF_TABLES | 5;
const GET_RULE: u16 = NF_TABLES | 7;
const DELETE_RULE: u16 = NF_TABLES | 8;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`: what is between them happens as a whole or not at all.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_DUMP`.
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const DUMP: u16 = 0x300;
/// `NLMSG_ERROR` and `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `struct nlmsghdr`, and with `struct nfgenmsg`.
const HEADER: usize = 16;
const PREFIX: usize = HEADER + 4;
/// More than the kernel puts into one datagram.
const ANSWER: usize = 64 * 1024;
/// Deletions in one batch: it must fit into the socket's buffer.
const BATCH: usize = 500;
/// The attributes that are used. A table's name is the first attribute of all three kinds of objects.
const TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const EXPRESSION_DATA: u16 = 2;
const IMMEDIATE_DATA: u16 = 2;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;

/// Which of the packet filter goes.
#[derive(Debug, Clone, Copy)]
pub struct Doomed {
    /// Whole tables, by their name.
    pub table: fn(&str) -> bool,
    /// Chains of other tables, by their name.
    pub chain: fn(&str) -> bool,
}

/// An object as the kernel tells it.
struct Object {
    family: u8,
    attributes: Vec<u8>,
}

impl Object {
    fn text(&self, kind: u16) -> String {
        find(&self.attributes, kind).map(text).unwrap_or_default()
    }
    fn table(&self) -> (u8, String) {
        (self.family, self.text(TABLE))
    }
    fn chain(&self, kind: u16) -> (u8, String, String) {
        (self.family, self.text(TABLE), self.text(kind))
    }
}

/// What is to be deleted, in this order.
#[derive(Debug, PartialEq, Eq)]
struct Deletion {
    kind: u16,
    family: u8,
    attributes: Vec<u8>,
}

/// Removes what is doomed; the answer names it. A kernel without nf_tables has nothing.
pub(super) fn remove(doomed: Doomed) -> io::Result<Vec<String>> {
    let Some(tables) = dump(GET_TABLE)? else { return Ok(Vec::new()) };
    let (chains, rules) = (dump(GET_CHAIN)?.unwrap_or_default(), dump(GET_RULE)?.unwrap_or_default());
    let (deletions, names) = plan(&tables, &chains, &rules, doomed);
    for batch in deletions.chunks(BATCH) {
        transact(batch)?;
    }
    Ok(names)
}

/// Rules that jump to a doomed chain first, then the rules in it, then the chain: the kernel deletes nothing that is used.
fn plan(tables: &[Object], chains: &[Object], rules: &[Object], doomed: Doomed) -> (Vec<Deletion>, Vec<String>) {
    let whole: BTreeSet<_> = tables.iter().map(Object::table).filter(|(_, name)| (doomed.table)(name)).collect();
    let known = chains.iter().map(|chain| chain.chain(CHAIN_NAME));
    let single: BTreeSet<_> =
        known.filter(|(family, table, name)| (doomed.chain)(name) && !whole.contains(&(*family, table.clone()))).collect();
    let mut deletions = Vec::new();
    for rule in rules {
        let (family, table, chain) = rule.chain(RULE_CHAIN);
        let goes_there = |target: String| single.contains(&(family, table.clone(), target));
        let jumps = !single.contains(&(family, table.clone(), chain.clone())) && targets(rule).into_iter().any(goes_there);
        if let Some(handle) = find(&rule.attributes, RULE_HANDLE).filter(|_| jumps) {
            let attributes = [of_text(TABLE, &table), of_text(RULE_CHAIN, &chain), attribute(RULE_HANDLE, handle)].concat();
            deletions.push(Deletion { kind: DELETE_RULE, family, attributes });
        }
    }
    for (kind, name_is) in [(DELETE_RULE, RULE_CHAIN), (DELETE_CHAIN, CHAIN_NAME)] {
        deletions.extend(single.iter().map(|(family, table, chain)| Deletion {
            kind,
            family: *family,
            attributes: [of_text(TABLE, table), of_text(name_is, chain)].concat(),
        }));
    }
    deletions.extend(whole.iter().map(|(family, table)| Deletion {
        kind: DELETE_TABLE,
        family: *family,
        attributes: of_text(TABLE, table),
    }));
    let names = whole.iter().map(|(_, table)| format!("table {table}"));
    let names = names.chain(single.iter().map(|(_, table, chain)| format!("chain {table} {chain}"))).collect();
    (deletions, names)
}

/// The chains that a rule jumps to.
fn targets(rule: &Object) -> Vec<String> {
    let expressions = find(&rule.attributes, RULE_EXPRESSIONS).unwrap_or_default();
    // In an expression of another kind the same numbers may mean something else; it names no chain then.
    let target = |expression: &[u8]| {
        let data = find(find(expression, EXPRESSION_DATA)?, IMMEDIATE_DATA)?;
        find(find(data, DATA_VERDICT)?, VERDICT_CHAIN).map(text)
    };
    attributes(expressions).filter_map(|(_, expression)| target(expression)).collect()
}

/// All objects of a kind, of all families; `None` when the kernel has no nf_tables.
fn dump(kind: u16) -> io::Result<Option<Vec<Object>>> {
    let socket = connect()?;
    socket.send(&message(kind, REQUEST | DUMP, 1, 0, 0, &[]), 0)?;
    let mut objects = Vec::new();
    loop {
        let datagram = receive(&socket)?;
        for (kind, _, body) in messages(&datagram) {
            match kind {
                DONE => return Ok(Some(objects)),
                ERROR => match failure(body) {
                    Some(error) if is_unknown(&error) => return Ok(None),
                    Some(error) => return Err(error),
                    None => {}
                },
                _ if body.len() >= PREFIX - HEADER => {
                    objects.push(Object { family: body[0], attributes: body[PREFIX - HEADER..].to_vec() });
                }
                _ => {}
            }
        }
    }
}

/// `EINVAL`, `EOPNOTSUPP` or `EPROTONOSUPPORT`: nobody in the kernel knows such messages.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(22 | 93 | 95))
}

/// Deletes these, all or none.
fn transact(deletions: &[Deletion]) -> io::Result<()> {
    let socket = connect()?;
    let subsystem = NF_TABLES >> 8;
    let mut batch = message(BEGIN, REQUEST, 0, 0, subsystem, &[]);
    let last = u32::try_from(deletions.len()).unwrap_or(u32::MAX);
    for (deletion, number) in deletions.iter().zip(1..) {
        // What fails is told anyhow; that it went well is told of the last one.
        let flags = if number == last { REQUEST | ACKNOWLEDGE } else { REQUEST };
        batch.extend(message(deletion.kind, flags, number, deletion.family, 0, &deletion.attributes));
    }
    batch.extend(message(END, REQUEST, last + 1, 0, subsystem, &[]));
    socket.send(&batch, 0)?;
    loop {
        let datagram = receive(&socket)?;
        for (_, number, body) in messages(&datagram).filter(|(kind, ..)| *kind == ERROR) {
            match failure(body) {
                Some(error) => return Err(error),
                None if number == last => return Ok(()),
                None => {}
            }
        }
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(PROTOCOL)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn receive(socket: &Socket) -> io::Result<Vec<u8>> {
    let mut datagram = Vec::with_capacity(ANSWER);
    socket.recv(&mut datagram, 0)?;
    Ok(datagram)
}

fn message(kind: u16, flags: u16, number: u32, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(PREFIX + attributes.len()).expect("names are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
    bytes
}

/// The messages of a datagram: kind, number and what follows the header.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?)).ok()?;
        let message = rest.get(..length).filter(|message| message.len() >= HEADER)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        let number = u32::from_ne_bytes([message[8], message[9], message[10], message[11]]);
        Some((kind, number, &message[HEADER..]))
    })
}

/// What a message of the kind [`ERROR`] says; `None` when it is an acknowledgement.
fn failure(body: &[u8]) -> Option<io::Error> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("names are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn of_text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), b"\0"].concat())
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*rest.first()?, *rest.get(1)?]));
        // The two upper bits say that it is nested, or in network order.
        let kind = u16::from_ne_bytes([*rest.get(2)?, *rest.get(3)?]) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOOMED: Doomed = Doomed { table: |name| name == "kube-proxy", chain: |name| name.starts_with("KUBE-") };

    fn object(attributes: &[Vec<u8>]) -> Object {
        Object { family: 2, attributes: attributes.concat() }
    }
    fn chain(table: &str, name: &str) -> Object {
        object(&[of_text(TABLE, table), of_text(CHAIN_NAME, name)])
    }
    fn rule(table: &str, chain: &str, handle: u8, target: &str) -> Object {
        let verdict = attribute(DATA_VERDICT, &[attribute(1, &[0; 4]), of_text(VERDICT_CHAIN, target)].concat());
        let data = attribute(EXPRESSION_DATA, &[attribute(1, &[0; 4]), attribute(IMMEDIATE_DATA, &verdict)].concat());
        let counter = attribute(1, &[of_text(1, "counter"), attribute(EXPRESSION_DATA, &attribute(1, &[0; 8]))].concat());
        let jump = attribute(1, &[of_text(1, "immediate"), data].concat());
        object(&[
            of_text(TABLE, table),
            of_text(RULE_CHAIN, chain),
            attribute(RULE_HANDLE, &[0, 0, 0, 0, 0, 0, 0, handle]),
            attribute(RULE_EXPRESSIONS | 0x8000, &[counter, jump].concat()),
        ])
    }

    #[test]
    fn jumps_go_before_chains_and_other_peoples_rules_stay() {
        let tables = [object(&[of_text(TABLE, "nat")]), object(&[of_text(TABLE, "kube-proxy")])];
        let chains = [chain("nat", "POSTROUTING"), chain("nat", "KUBE-A"), chain("nat", "MINE"), chain("kube-proxy", "KUBE-B")];
        let rules =
            [rule("nat", "POSTROUTING", 7, "KUBE-A"), rule("nat", "POSTROUTING", 8, "MINE"), rule("nat", "KUBE-A", 9, "KUBE-A")];
        let (deletions, names) = plan(&tables, &chains, &rules, DOOMED);
        assert_eq!(names, ["table kube-proxy", "chain nat KUBE-A"]);
        let kinds: Vec<u16> = deletions.iter().map(|deletion| deletion.kind).collect();
        assert_eq!(kinds, [DELETE_RULE, DELETE_RULE, DELETE_CHAIN, DELETE_TABLE]);
        assert_eq!(find(&deletions[0].attributes, RULE_HANDLE), Some(&[0, 0, 0, 0, 0, 0, 0, 7][..]));
        assert_eq!(find(&deletions[1].attributes, RULE_HANDLE), None, "all rules of the chain");
    }

    #[test]
    fn a_datagram_is_read_message_by_message_and_what_is_cut_off_is_not() {
        let mut datagram = message(GET_TABLE, REQUEST, 3, 10, 0, &of_text(TABLE, "x"));
        datagram.extend(message(DONE, 0, 4, 0, 0, &[]));
        datagram.extend([1, 2, 3]);
        let read: Vec<_> = messages(&datagram).map(|(kind, number, _)| (kind, number)).collect();
        assert_eq!(read, [(GET_TABLE, 3), (DONE, 4)]);
        assert_eq!(failure(&(-1i32).to_ne_bytes()).and_then(|error| error.raw_os_error()), Some(1));
        assert!(failure(&0i32.to_ne_bytes()).is_none());
    }
}

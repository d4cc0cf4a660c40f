//! Sockets by their inode: addresses from the target's own `/proc/PID/net`, and the process at the other end.
//!
//! The other end of a TCP connection is the socket with the same two addresses the other way round, in this network namespace or
//! another one of this host. Whoever has it open is found by its descriptors. All of this is other programs' business that changes
//! meanwhile and may be hidden from us: what is not found is not told.

/// The other ends of Unix sockets.
mod peers;

use std::{
    collections::{HashMap, HashSet},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use pepo_process::{AgentPid, Process, list};
use pepo_wire::agent::{Socket, SocketEnd};

/// Bytes of one table that are read, and of all together.
const MOST_TABLE: usize = 16 << 20;
const MOST_TABLES: usize = 64 << 20;
/// Descriptors of other processes that are looked at.
const MOST_DESCRIPTORS: usize = 200_000;

/// The states that waiting threads see (include/net/tcp_states.h).
const STATES: [&str; 12] = [
    "",
    "established",
    "syn sent",
    "syn received",
    "fin wait 1",
    "fin wait 2",
    "time wait",
    "close",
    "close wait",
    "last ack",
    "listen",
    "closing",
];

/// What is known of sockets, each table and each process read once.
pub(super) struct Sockets<'a> {
    process: &'a Process,
    known: HashMap<u64, Option<Socket>>,
    own: Option<Vec<Line>>,
    others: Option<Vec<Line>>,
    holders: Option<HashMap<u64, AgentPid>>,
}

/// A line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    protocol: &'static str,
    local: SocketAddr,
    peer: SocketAddr,
    state: &'static str,
    inode: u64,
}

impl<'a> Sockets<'a> {
    pub(super) fn new(process: &'a Process) -> Sockets<'a> {
        Sockets { process, known: HashMap::new(), own: None, others: None, holders: None }
    }

    /// The socket with this inode.
    pub(super) fn find(&mut self, inode: u64) -> Option<Socket> {
        if !self.known.contains_key(&inode) {
            let found = self.internet(inode).or_else(|| self.unix(inode));
            self.known.insert(inode, found);
        }
        self.known.get(&inode).cloned().flatten()
    }

    fn internet(&mut self, inode: u64) -> Option<Socket> {
        let process = self.process;
        let own = self.own.get_or_insert_with(|| tables(process, &mut 0));
        let line = own.iter().find(|line| line.inode == inode)?.clone();
        let mut socket = Socket {
            protocol: line.protocol.to_owned(),
            state: line.state.to_owned(),
            local: line.local.to_string(),
            ..Socket::default()
        };
        if line.peer.port() != 0 {
            socket.peer = line.peer.to_string();
            socket.other_end = self.other_end(&line);
        }
        Some(socket)
    }

    fn other_end(&mut self, line: &Line) -> Option<SocketEnd> {
        let is_other = |other: &&Line| {
            (other.protocol, other.local, other.peer) == (line.protocol, line.peer, line.local)
                && other.inode != 0
        };
        let mut inode = self.own.iter().flatten().find(is_other).map(|other| other.inode);
        if inode.is_none() && !line.peer.ip().is_loopback() {
            let process = self.process;
            let others = self.others.get_or_insert_with(|| tables_elsewhere(process));
            inode = others.iter().find(is_other).map(|other| other.inode);
        }
        self.holder(inode?)
    }

    /// The process that has the socket with this inode open.
    fn holder(&mut self, inode: u64) -> Option<SocketEnd> {
        let holders = self.holders.get_or_insert_with(holders);
        let process = Process::open(*holders.get(&inode)?).ok()?;
        let container = process.container();
        Some(SocketEnd {
            agent_pid: process.pid().get(),
            container_pid: process.status().ok()?.container_pid(),
            name: process.stat().ok()?.name,
            container_id: container.as_ref().map(|one| one.id.clone()).unwrap_or_default(),
            engine: container.map(|one| one.engine.to_string()).unwrap_or_default(),
        })
    }

    /// A Unix socket: its path, that of the other end, and who has that open.
    fn unix(&mut self, inode: u64) -> Option<Socket> {
        let table = self.process.read("net/unix", MOST_TABLE).ok()?;
        let table = String::from_utf8_lossy(&table);
        let path = |wanted: u64| {
            table.lines().skip(1).find_map(|line| {
                let mut words = line.split_ascii_whitespace().skip(6);
                (words.next()?.parse() == Ok(wanted)).then(|| words.next().unwrap_or_default().to_owned())
            })
        };
        let mut socket = Socket { protocol: "unix".to_owned(), local: path(inode)?, ..Socket::default() };
        if let Some(other) = peers::of_unix(self.process, inode) {
            socket.peer = path(other).unwrap_or_default();
            socket.other_end = self.holder(other);
        }
        Some(socket)
    }
}

/// All lines of a network namespace, as a process in it shows them.
fn tables(process: &Process, read: &mut usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, protocol) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
        if *read > MOST_TABLES {
            break;
        }
        let table = process.read(&format!("net/{name}"), MOST_TABLE).unwrap_or_default();
        *read += table.len();
        lines.extend(String::from_utf8_lossy(&table).lines().filter_map(|text| line(protocol, text)));
    }
    lines
}

/// Those of all other namespaces on this host that we may see, by one process of each.
fn tables_elsewhere(process: &Process) -> Vec<Line> {
    let mut seen: HashSet<Option<u64>> = HashSet::from([None, process.namespaces().network]);
    let mut read = 0;
    let mut lines = Vec::new();
    for pid in list::pids().unwrap_or_default() {
        if read > MOST_TABLES {
            break;
        }
        let Ok(other) = Process::open(pid) else { continue };
        if seen.insert(other.namespaces().network) {
            lines.extend(tables(&other, &mut read));
        }
    }
    lines
}

/// Who has which socket open; of several the one with the lowest number.
fn holders() -> HashMap<u64, AgentPid> {
    let mut holders = HashMap::new();
    let mut left = MOST_DESCRIPTORS;
    for pid in list::pids().unwrap_or_default() {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            let Some(fewer) = left.checked_sub(1) else { return holders };
            left = fewer;
            let Ok(link) = fs::read_link(entry.path()) else { continue };
            if let Some(inode) = super::inode(&link.to_string_lossy()) {
                holders.entry(inode).or_insert(pid);
            }
        }
    }
    holders
}

/// `0: 0100007F:1F90 00000000:0000 0A …`, as in proc_net_tcp.rst.
fn line(protocol: &'static str, text: &str) -> Option<Line> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let state = usize::from_str_radix(words.get(3)?, 16).ok()?;
    Some(Line {
        protocol,
        local: address(words.get(1)?)?,
        peer: address(words.get(2)?)?,
        state: if protocol == "tcp" { STATES.get(state).copied().unwrap_or_default() } else { "" },
        inode: words.get(9)?.parse().ok()?,
    })
}

/// Words of 32 bits as this machine writes numbers. An IPv4 address in IPv6's clothes is an IPv4 address.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let words = (0..ip.len() / 8)
        .map(|index| Some(u32::from_str_radix(ip.get(index * 8..index * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<Vec<[u8; 4]>>>()?;
    let ip = match words.as_slice() {
        [one] => IpAddr::from(Ipv4Addr::from(*one)),
        &[a, b, c, d] => {
            let bytes = <[u8; 16]>::try_from([a, b, c, d].concat()).ok()?;
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_as_the_kernel_writes_them_on_a_little_endian_machine() {
        let text = "   3: 0100007F:1F90 0200A8C0:D431 01 00000000:00000000 00:00000000 00000000  1000  0 4711 1 0 20 4 0 10 -1";
        let read = line("tcp", text).unwrap();
        assert_eq!(
            (read.local.to_string(), read.peer.to_string(), read.state, read.inode),
            ("127.0.0.1:8080".into(), "192.168.0.2:54321".into(), "established", 4711)
        );
        let mapped = address("0000000000000000FFFF00000100007F:0050").unwrap();
        assert_eq!(mapped.to_string(), "127.0.0.1:80");
        assert_eq!(address("00000000000000000000000001000000:0050").unwrap().to_string(), "[::1]:80");
    }

    #[test]
    fn other_lines_are_left_out() {
        for text in [
            "",
            "  sl  local_address rem_address   st",
            "0: 01:1 2:2 zz",
            "0: 0100007F:1F90 0100007F:1F90 01 0 0 0",
        ] {
            assert_eq!(line("tcp", text), None, "{text:?}");
        }
        for text in ["", ":", "0100007F", "0100007F:zz", "0100007F0100007F:1", "ü100007:1"] {
            assert_eq!(address(text), None, "{text:?}");
        }
    }
}

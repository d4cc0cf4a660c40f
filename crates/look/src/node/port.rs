//! The listening port of Node's inspector: told by its command line, or the one that is new after SIGUSR1.

use std::{collections::HashSet, fs};

use pepo_process::{Process, runtime::options};

/// The inspector's port when none is said.
pub(super) const USUAL: u16 = 9229;
/// Most bytes of a table of sockets, and most descriptors of a process, that are looked at.
const TABLE: usize = 4 << 20;
const DESCRIPTORS: usize = 100_000;
/// A socket that listens (include/net/tcp_states.h).
const LISTENS: &str = "0A";

/// The port at which a Node listens that was started with an inspector.
pub(super) fn told(process: &Process) -> Option<u16> {
    let words = options::words(process, "NODE_OPTIONS");
    let ports = words.iter().filter_map(|word| options::node_inspector(word));
    let listening = listening(process);
    ports.map(|(_, port)| port.parse().unwrap_or(USUAL)).find(|port| listening.contains(port))
}

/// The ports at which a process listens for TCP.
pub(super) fn listening(process: &Process) -> HashSet<u16> {
    let own = sockets(process);
    let tables = ["net/tcp", "net/tcp6"].map(|table| process.read(table, TABLE).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.split(|byte| *byte == b'\n').skip(1));
    lines.filter_map(|line| of_line(&String::from_utf8_lossy(line), &own)).collect()
}

/// `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode …` (proc_net(5)).
fn of_line(line: &str, own: &HashSet<u64>) -> Option<u16> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(10).collect();
    let is_own = fields.get(9)?.parse().is_ok_and(|inode| own.contains(&inode));
    let (_, port) = fields.get(1)?.rsplit_once(':')?;
    (is_own && fields.get(3) == Some(&LISTENS)).then(|| u16::from_str_radix(port, 16).ok())?
}

/// The numbers of a process's sockets.
fn sockets(process: &Process) -> HashSet<u64> {
    let folder = fs::read_dir(format!("/proc/{}/fd", process.pid()));
    let links = folder.into_iter().flatten().flatten().take(DESCRIPTORS);
    let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
    targets
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_names_a_port_of_ours_that_listens() {
        let own = HashSet::from([77]);
        let line = |port: &str, state: &str, inode: &str| {
            format!(
                "0: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0 100 0"
            )
        };
        assert_eq!(of_line(&line("240D", "0A", "77"), &own), Some(9229));
        for other in
            [line("240D", "01", "77"), line("240D", "0A", "78"), line("zz", "0A", "77"), String::new()]
        {
            assert_eq!(of_line(&other, &own), None, "{other}");
        }
    }
}

//! Who may speak to a listening server: the same user of the same machine, or whoever has the token.

use std::net::SocketAddr;

/// A token nobody guesses: 128 bits of the system's randomness, in hexadecimal.
///
/// # Errors
/// When the system has no randomness to give.
pub fn new_token() -> std::io::Result<String> {
    use std::hash::{BuildHasher as _, Hasher as _};
    let mut bytes = [0_u8; 16];
    if std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .is_err()
    {
        // Where there is no such file (Windows): the keys of the standard library's hasher are the system's randomness.
        for (index, half) in bytes.chunks_mut(8).enumerate() {
            let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
            hasher.write_usize(index);
            half.copy_from_slice(&hasher.finish().to_le_bytes());
        }
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Compares without telling by its time how much was right.
pub(crate) fn same_token(one: &str, two: &str) -> bool {
    let differ = one.bytes().zip(two.bytes()).fold(0, |differ, (one, two)| differ | (one ^ two));
    one.len() == two.len() && differ == 0
}

/// Is the other end of a loopback connection a process of our own user? `false` where that cannot be known.
///
/// Source: proc_net_tcp (Linux, Documentation/networking/proc_net_tcp.rst): the socket whose local address is the peer's.
#[must_use]
pub fn same_user(peer: SocketAddr, own: SocketAddr) -> bool {
    if !peer.ip().is_loopback() {
        return false;
    }
    #[cfg(target_os = "linux")]
    {
        let table = if peer.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
        let uid = rustix::process::geteuid().as_raw();
        std::fs::read_to_string(table).is_ok_and(|text| owner(&text, peer, own) == Some(uid))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = own;
        false
    }
}

/// The user of the socket which goes from `local` to `remote`, from the kernel's table.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn owner(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u32> {
    let (local, remote) = (kernels(local), kernels(remote));
    table.lines().skip(1).take(100_000).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let ends = (words.next()?, words.next()?);
        let uid = words.nth(4)?;
        (ends == (local.as_str(), remote.as_str())).then(|| uid.parse().ok())?
    })
}

/// An address as the kernel writes it: words of four bytes in the machine's own order.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
fn kernels(address: SocketAddr) -> String {
    let bytes = match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let word = |four: &[u8]| format!("{:08X}", u32::from_ne_bytes([four[0], four[1], four[2], four[3]]));
    format!("{}:{:04X}", bytes.chunks_exact(4).map(word).collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert_eq!(one.len(), 32);
        assert!(same_token(&one, &one) && !same_token(&one, &two) && !same_token(&one, &one[..31]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_whose_a_loopback_connection_is() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(own).unwrap();
        let peer = client.local_addr().unwrap();
        assert!(same_user(peer, own));
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        assert_eq!(owner(&table, peer, "127.0.0.1:9".parse().unwrap()), None, "both ends count");
        assert!(!same_user("192.0.2.1:80".parse().unwrap(), own));
    }
}

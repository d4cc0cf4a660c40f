//! Asks a server in any network namespace, as a client beside it would.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::network::in_network_of;

/// `GET path` from 127.0.0.1:`port` in the network namespace of process `pid`; gives the body.
///
/// # Panics
/// If nobody answers within 30 seconds.
pub fn http_get(pid: u32, port: &str, path: &str) -> String {
    let answer = in_network_of(pid, || ask(port, path)).flatten();
    answer.unwrap_or_else(|error| panic!("GET {path} at port {port} of process {pid}: {error:#}"))
}

fn ask(port: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) =
        answer.split_once("\r\n\r\n").ok_or_else(|| anyhow::anyhow!("no end of headers: {answer:?}"))?;
    Ok(body.to_owned())
}

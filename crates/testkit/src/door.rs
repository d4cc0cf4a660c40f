//! A port of 127.0.0.1 behind which each connection is somebody's: of an sshd, or of a server in another network namespace.

use std::{
    io,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use crate::network::in_network_of;

/// An open port; no connection is taken any more once it is dropped.
pub struct Door {
    port: u16,
    closed: Arc<AtomicBool>,
    porter: Option<JoinHandle<()>>,
}

impl Door {
    /// Hands each connection to `receive`, one after the other.
    pub(crate) fn open(receive: impl Fn(TcpStream) + Send + 'static) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of 127.0.0.1");
        let port = listener.local_addr().expect("it is bound").port();
        let closed = Arc::new(AtomicBool::new(false));
        let porter = thread::spawn({
            let closed = Arc::clone(&closed);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if closed.load(Ordering::SeqCst) {
                        return;
                    }
                    receive(stream);
                }
            }
        });
        Door { port, closed, porter: Some(porter) }
    }

    /// To 127.0.0.1:`port` in the network namespace of process `pid`, as from a machine beside it.
    pub fn to(pid: u32, port: u16) -> Door {
        Door::open(move |near| {
            thread::spawn(move || {
                if let Ok(Ok(far)) = in_network_of(pid, || TcpStream::connect(("127.0.0.1", port))) {
                    join(near, far);
                }
            });
        })
    }

    /// Its number.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // Wakes the one who waits for connections.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.porter.take().map(JoinHandle::join);
    }
}

/// Carries bytes both ways until both have ended.
fn join(near: TcpStream, far: TcpStream) {
    let carry = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| carry(&near, &far));
        carry(&far, &near);
    });
}

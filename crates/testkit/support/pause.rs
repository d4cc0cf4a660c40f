//! Keeps a pod's namespaces: process 1 that only waits.
fn main() {
    loop {
        std::thread::park();
    }
}

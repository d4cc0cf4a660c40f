//! The house keeping: setup, demo, test, bench, tidy, dist.
fn main() {}

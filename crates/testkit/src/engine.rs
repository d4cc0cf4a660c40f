//! Real container engines for tests.
#![allow(missing_docs)]
#[derive(Clone)]
pub struct Engine;
impl Engine {
    pub fn containers(&self) -> Vec<String> {
        vec![]
    }
}

//! stub
use crate::args::Args;
use anyhow::Result;
pub(crate) fn main(args: Args) -> Result<()> {
    args.done()
}
pub(crate) mod build {
    pub(crate) fn testkit(_: &str, _: Vec<String>) -> anyhow::Result<()> {
        Ok(())
    }
}

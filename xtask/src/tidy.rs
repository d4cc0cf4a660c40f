//! stub
use crate::args::Args;
use anyhow::Result;
pub(crate) fn main(args: Args) -> Result<()> {
    args.done()?;
    check()
}
pub(crate) fn check() -> Result<()> {
    Ok(())
}

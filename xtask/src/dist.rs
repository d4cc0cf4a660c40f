//! stub
use crate::args::Args;
use anyhow::Result;
pub(crate) fn main(args: Args) -> Result<()> {
    args.done()
}

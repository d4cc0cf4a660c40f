//! The rules of `check`.

use pepo_debug::tools::Tools;
use pepo_wire::{
    Failure,
    agent::{CheckRequest, CheckResponse},
};

/// What the rules need beside the request.
pub struct CheckEnv;

impl CheckEnv {
    /// With these tools.
    #[must_use]
    pub fn new(_tools: &Tools) -> CheckEnv {
        CheckEnv
    }
}

/// Asks every rule.
///
/// # Errors
/// The target is not there.
pub fn check(_request: &CheckRequest, _env: &CheckEnv) -> Result<CheckResponse, Failure> {
    Ok(CheckResponse::default())
}

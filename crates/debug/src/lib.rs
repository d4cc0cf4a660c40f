//! Debuggers beside the target.

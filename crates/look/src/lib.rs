//! Samplers: what a process is doing now.

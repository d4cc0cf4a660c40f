//! Linux facts of a process.

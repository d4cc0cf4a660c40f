//! The wire's promises, kept from one version to the next.

mod descriptor;
mod frames;

//! The control plane: a team reaches its containers by name, without access to the node, the runtime or the cluster.
//!
//! A crate of its own because it stands alone, far from people and from targets, and holds what both must not: who may do what.
//! **Invariant:** knows no ptrace, no engine and no debugger; it carries bytes that it does not read. What it allows is held by the
//! agent beside the target, so no mistake here makes a stream more than it was granted.
//!
//! Nodes dial in ([`service`]), so nothing listens on a node. Start at [`serve`].

/// The resources by HTTP.
mod api;
/// Sessions as they are written down.
mod attachments;
/// What was decided and done, a line each.
mod audit;
/// An authority of our own, for a server that is given no certificate.
mod certificates;
/// The end of a server.
mod ending;
/// The state folder: what is kept between two starts.
mod folder;
/// The pages for whoever watches over the server.
mod health;
/// Who calls.
mod identity;
/// How a node comes by its certificate.
mod joining;
/// What is counted.
mod metrics;
/// The nodes that are here, and what was asked of them.
mod nodes;
/// The node at the other end of a connection.
mod peer;
/// Who may do what.
mod policy;
/// The door for proxies, which hold calls.
mod proxies;
/// Two streams of bytes, tied together.
mod relay;
/// Debug requests, and what they are bound to.
mod requests;
/// The listener.
mod serve;
/// The two services.
mod service;
/// The sessions of one stream.
mod sessions;
/// Where resources are kept.
mod store;

pub use folder::Folder;
pub use identity::{Kind, NewToken, Terms};
pub use serve::{Config, Listening, serve};

//! With real adapters.

/// The terminal's words.
mod console;
/// The server for editors.
mod server;

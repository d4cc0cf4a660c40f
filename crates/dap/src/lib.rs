//! The debug adapter protocol at the user's side.

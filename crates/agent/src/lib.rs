//! The agent: one gRPC service beside the target.

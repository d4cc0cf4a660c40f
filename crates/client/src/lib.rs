//! One client of the agent service over any byte stream.

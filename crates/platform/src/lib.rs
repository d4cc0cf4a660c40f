//! Where targets are and how an agent beside one is reached.

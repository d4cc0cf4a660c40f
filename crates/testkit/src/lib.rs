//! Real engines, images and fixture programs for tests.

//! Shared memory, and locks and their like, between real processes.

mod clean;
mod locks;
mod memory;
mod tables;

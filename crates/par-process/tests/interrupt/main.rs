//! Ctrl-C, as it comes to a program that has a pool: from its process group, and from a real terminal.

#[path = "../common/mod.rs"]
mod common;
mod group;
mod program;
mod terminal;

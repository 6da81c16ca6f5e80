//! Locks and their like between threads.

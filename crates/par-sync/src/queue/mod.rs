//! Queues between threads.

//! Threads: with a name, a result, a state of their own, and timers.

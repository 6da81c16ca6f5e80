//! For the bench alone.

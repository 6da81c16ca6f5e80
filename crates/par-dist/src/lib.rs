//! par-dist

//! par-sync

//! par-async

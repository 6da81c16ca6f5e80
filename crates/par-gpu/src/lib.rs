//! par-gpu

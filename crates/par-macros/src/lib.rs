//! par-macros

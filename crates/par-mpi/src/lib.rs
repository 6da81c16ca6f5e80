//! par-mpi

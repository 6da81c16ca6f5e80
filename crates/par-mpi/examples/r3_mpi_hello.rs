//! Every rank says hello: `mpiexec -n 5 target/debug/examples/r3_mpi_hello`, after `cargo build -p par-mpi --features mpi --examples`.

fn main() -> Result<(), par_mpi::MpiError> {
    par_mpi::run_world(|comm| {
        println!("hello from rank {} of {}", comm.rank(), comm.size());
        Ok(())
    })
}

//! Ranks that work for pools: those of a communicator, or threads that a pool starts for itself.

use crate::communicator::Communicator;
use crate::error::MpiError;
use crate::local::Local;
use crate::pool::{MpiEngine, MpiOptions, Office, release};
use crate::transport::Transport;
use crate::worker::{ROOT, say_gone, serve};
use crate::{Builder, MpiPool, StartError};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The ranks that work for rank 0, as it sees them inside [`Communicator::serve`]. Pools over them may live one after the other, or side
/// by side.
#[derive(Clone)]
pub struct Crew {
    office: Arc<Office>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.office.transport();
        f.debug_struct("Crew")
            .field("transport", &transport.name())
            .field("workers", &self.workers())
            .finish()
    }
}

impl Crew {
    pub(crate) fn over(office: Arc<Office>) -> Self {
        Crew { office }
    }

    pub(crate) fn office(&self) -> &Arc<Office> {
        &self.office
    }

    /// How many ranks work.
    pub fn workers(&self) -> usize {
        self.office.workers()
    }

    /// A pool with a worker on each rank.
    ///
    /// # Errors
    /// As [`Pool::new`](crate::Pool::new).
    pub fn pool(&self) -> Result<MpiPool, StartError> {
        self.builder().build()
    }

    /// A pool with options; workers sit on ranks 1 and up.
    pub fn builder(&self) -> Builder<MpiEngine> {
        MpiPool::builder().workers(self.workers()).options(MpiOptions {
            crew: Some(self.clone()),
            ..MpiOptions::default()
        })
    }
}

impl Communicator {
    /// All ranks call this together: rank 0 runs `program` with the others as its crew, and they serve until it returns. Rank 0 gets
    /// what `program` returns, the others get `None`.
    ///
    /// Before anything else is sent, the ranks check that they run the same program. Where there is one rank, a thread of this process
    /// works instead of the others.
    ///
    /// ```
    /// use par_mpi::{run, task};
    ///
    /// #[task]
    /// fn square(x: u64) -> u64 { x * x }
    ///
    /// let squares = run(3, |comm| {
    ///     comm.serve(|crew| crew.pool().unwrap().map::<square>(0..5).unwrap())
    /// })?;
    /// assert_eq!(squares, [Some(vec![0, 1, 4, 9, 16]), None, None]);
    /// # Ok::<(), par_mpi::MpiError>(())
    /// ```
    ///
    /// # Errors
    /// [`MpiError::OtherProgram`] on every rank if one runs another build; what the transport says.
    #[doc(alias = "MPICommExecutor")]
    pub fn serve<R>(&self, program: impl FnOnce(&Crew) -> R) -> Result<Option<R>, MpiError> {
        self.check_program(par_core::build_id().map_err(MpiError::Unusable)?)?;
        let failed = |error: io::Error| MpiError::Unusable(format!("cannot start a thread: {error}"));
        if self.size() == 1 {
            let (office, threads) = threads(1).map_err(failed)?;
            let ending = Ending {
                office: &office,
                threads: Some(threads),
            };
            let result = program(&Crew::over(Arc::clone(&office)));
            drop(ending);
            return Ok(Some(result));
        }
        if self.rank() != ROOT {
            serve(Arc::clone(self.transport()))?;
            return Ok(None);
        }
        let office = match Office::open(Arc::clone(self.transport())) {
            Ok(office) => office,
            Err(error) => {
                release(&**self.transport());
                return Err(failed(error));
            }
        };
        let ending = Ending {
            office: &office,
            threads: None,
        };
        let result = program(&Crew::over(Arc::clone(&office)));
        drop(ending);
        Ok(Some(result))
    }

    /// Checks that all ranks run the build of rank 0.
    fn check_program(&self, own: u64) -> Result<(), MpiError> {
        let builds = self.gather(ROOT, own)?;
        let other = builds.and_then(|builds| {
            let mut ranks = builds.into_iter().enumerate();
            ranks.find(|(_, build)| *build != own)
        });
        match self.bcast(ROOT, other.map(|(rank, theirs)| (rank, own, theirs)))? {
            None => Ok(()),
            Some((rank, ours, theirs)) => Err(MpiError::OtherProgram { rank, ours, theirs }),
        }
    }
}

/// Lets the ranks go, also when the program panics.
struct Ending<'a> {
    office: &'a Office,
    threads: Option<Threads>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        match self.threads.take() {
            Some(threads) => threads.end(self.office),
            None => self.office.close(),
        }
    }
}

/// Ranks that are threads, started for one pool or one crew.
pub(crate) struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Lets the ranks go, and waits for them. Threads that are inside tasks of theirs end by themselves.
    pub(crate) fn end(self, office: &Office) {
        office.close();
        for thread in self.0 {
            // What it panicked with was told to the pool.
            let _ = thread.join();
        }
    }
}

/// Starts so many ranks that serve, as threads.
pub(crate) fn threads(workers: usize) -> io::Result<(Arc<Office>, Threads)> {
    let mut ends = Local::group(workers + 1).into_iter();
    let Some(own) = ends.next() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let office = Office::open(Arc::new(own))?;
    let mut started = Threads(Vec::with_capacity(workers));
    for end in ends {
        let name = format!("par-rank-{}", end.rank());
        match thread::Builder::new().name(name).spawn(move || rank(end)) {
            Ok(thread) => started.0.push(thread),
            Err(error) => {
                started.end(&office);
                return Err(error);
            }
        }
    }
    Ok((office, started))
}

fn rank(end: Local) {
    let transport: Arc<dyn Transport> = Arc::new(end);
    let served = par_core::catch(|| serve(Arc::clone(&transport)));
    // Other ends were told already.
    if let Err(panic) = served {
        say_gone(&*transport, &panic.to_string());
    }
}

//! Communicating sequential processes: channels whose ends are given to processes, that stop by poison or retirement; choice among
//! several communications; networks of threads or of light tasks.
//!
//! A channel has writing and reading ends. Without a buffer a writer and a reader meet; with one, writers wait for room only. Where there is one
//! writer, or one reader, its end cannot be cloned, and the type keeps a second one out: [`one2one`], [`one2any`], [`any2one`],
//! [`any2any`].
//!
//! A network ends in two ways. [`poison`](Writer::poison) ends a channel at once, for all: every call at it, also one that waits, is a
//! [`Stop`]. An end that is dropped is retired: when the last writer has retired, readers get what is left in the buffer and then a `Stop`; when the
//! last reader has, writers get it. Both travel by themselves: a process that hands a `Stop` on with `?` drops its ends while it does, and ends that are
//! dropped under a poison are poison to their channels. So does a process that panics.
//!
//! ```
//! use par_sync::csp::{self, Stop};
//!
//! let (mut numbers, mut print) = csp::one2one();
//! let printed = csp::parallel(|network| {
//!     network.spawn("counter", move || {
//!         for number in 0..5 {
//!             numbers.write(number)?;
//!         }
//!         numbers.poison();
//!         Ok(())
//!     });
//!     let printer = network.spawn("printer", move || -> Result<(), Stop> {
//!         loop {
//!             println!("{}", print.read()?);
//!         }
//!     });
//!     printer.join()
//! });
//! // The poison ended it.
//! assert!(printed.unwrap().unwrap_err().is_poison());
//! ```
//!
//! Light tasks are futures on one thread, a fraction of a microsecond a communication:
//!
//! ```
//! use par_sync::csp::{self, Lights, Stop};
//!
//! let (mut numbers, mut sums) = csp::one2one();
//! let mut lights = Lights::new();
//! lights.spawn("numbers", async move {
//!     for number in 1..=10 {
//!         numbers.write_async(number).await?;
//!     }
//!     Ok(()) // and retires
//! });
//! lights.spawn("sums", async move {
//!     let mut sum = 0;
//!     while let Ok(number) = sums.read_async().await {
//!         sum += number;
//!     }
//!     assert_eq!(sum, 55);
//!     Ok::<(), Stop>(())
//! });
//! lights.run()?;
//! # Ok::<(), csp::ProcessError>(())
//! ```
//!
//! | PyCSP | here |
//! |---|---|
//! | `@process`, `Parallel(p(), q())` | [`parallel`], [`Network::spawn`]; light: [`Lights`] |
//! | `Sequence(p(), q())` | one call after the other |
//! | `Spawn(p())` | [`Network::spawn`] without a join; the network waits for it |
//! | `Channel()`, `chan.reader()`, `chan.writer()` | [`any2any`] and its relatives; ends of kind [`Any`] can be cloned |
//! | `Channel(buffer=n)` | [`any2any_buffered`] and its relatives |
//! | `cin()`, `cout(x)` | [`Reader::read`], [`Writer::write`] |
//! | `poison(c)`, `retire(c)` | [`Reader::poison`], [`Writer::poison`]; an end that is dropped retires |
//! | `ChannelPoisonException`, `ChannelRetireException` | [`Stop`] |
//! | `AltSelect(InputGuard(..), OutputGuard(..), TimeoutGuard(..), SkipGuard())` | [`Alternation`] |
//! | `PriSelect`, `FairSelect` | [`Alternation::prioritised`]; fair without it |
//! | `TraceInit(file)` | [`trace`] |

mod alternation;
mod barrier;
mod core;
mod ends;
mod light;
mod network;
mod offer;
mod stop;
pub mod trace;

pub use alternation::Alternation;
pub use barrier::CspBarrier;
pub use ends::{
    Any, One, Reader, Writer, any2any, any2any_buffered, any2one, any2one_buffered, one2any,
    one2any_buffered, one2one, one2one_buffered,
};
pub use light::Lights;
pub use network::{Network, Process, ProcessError, parallel};
pub use stop::{Stop, WriteError};

#[cfg(all(test, loom))]
mod models;

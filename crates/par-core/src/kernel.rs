//! Kernels: what a job does to one item. A task, a plain function, or nothing at all.

use crate::entry;
use crate::error::TaskError;
use crate::panics;
use crate::remote::{Call, Code, Run, RunFn, run_each};
use crate::task::{Data, Task};
use crate::wire;
use std::future::Future;
use std::marker::PhantomData;

pub(crate) trait Kernel: Copy + Send + Sync + 'static {
    type In: Data;
    type Out: Data;
    const NAME: &'static str;
    const IDEMPOTENT: bool;
    /// Whether `start` is more than a call that is over at its first poll.
    const ASYNC: bool = false;

    fn call(&self, input: Self::In) -> Result<Self::Out, TaskError>;
    /// As `call`, as a future.
    fn start(self, input: Self::In) -> impl Future<Output = Result<Self::Out, TaskError>> + Send + 'static {
        async move { self.call(input) }
    }
    /// The kernel as bytes, for a worker of the same build.
    fn to_data(&self) -> Vec<u8>;
    fn from_data(data: &[u8]) -> Result<Self, TaskError>;
    /// The call by name, if it has one.
    fn by_name() -> Option<Call>;

    /// The call by entry, for a worker of the same build.
    fn entry(&self) -> Call {
        let code = Code::Entry {
            offset: entry::offset_of::<Items<Self>>(),
            data: self.to_data(),
        };
        Call {
            code,
            all_outcomes: false,
            logs: false,
        }
    }

    /// The call that reaches it on an engine of that kind.
    fn call_for(&self, same_program: bool) -> Result<Call, TaskError> {
        match Self::by_name() {
            Some(call) => Ok(call),
            None if same_program => Ok(self.entry()),
            None => Err(TaskError::Rejected(format!(
                "{} has no name by which the workers of this engine could find it; make it a #[task]",
                Self::NAME
            ))),
        }
    }
}

/// The entry that runs a kernel over items.
struct Items<K>(PhantomData<K>);

impl<K: Kernel> entry::HasRun for Items<K> {
    const RUN: RunFn = run_kernel::<K>;
}

fn run_kernel<K: Kernel>(run: &mut Run<'_>) {
    match K::from_data(run.data) {
        Ok(kernel) => run_each(run, |item| kernel.call(item)),
        Err(error) => {
            run.reply.push(crate::remote::ITEMS);
            crate::remote::put_failure(run.reply, &error);
        }
    }
}

/// A task.
pub(crate) struct OfTask<T>(PhantomData<fn() -> T>);

impl<T> Clone for OfTask<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for OfTask<T> {}

impl<T> OfTask<T> {
    pub(crate) fn new() -> Self {
        OfTask(PhantomData)
    }
}

impl<T: Task> Kernel for OfTask<T> {
    type In = T::Input;
    type Out = T::Output;
    const NAME: &'static str = T::NAME;
    const IDEMPOTENT: bool = T::IDEMPOTENT;
    const ASYNC: bool = T::ASYNC;

    #[inline]
    fn call(&self, input: T::Input) -> Result<T::Output, TaskError> {
        T::call(input)
    }
    fn start(self, input: T::Input) -> impl Future<Output = Result<T::Output, TaskError>> + Send + 'static {
        T::call_async(input)
    }
    fn to_data(&self) -> Vec<u8> {
        Vec::new()
    }
    fn from_data(_: &[u8]) -> Result<Self, TaskError> {
        Ok(OfTask::new())
    }
    fn by_name() -> Option<Call> {
        Some(Call::to_task::<T>())
    }
}

/// A plain function; closures without captures become one.
pub(crate) struct OfFn<I, O>(pub(crate) fn(I) -> O);

impl<I, O> Clone for OfFn<I, O> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<I, O> Copy for OfFn<I, O> {}

impl<I: Data, O: Data> Kernel for OfFn<I, O> {
    type In = I;
    type Out = O;
    const NAME: &'static str = "fn";
    const IDEMPOTENT: bool = false;

    #[inline]
    fn call(&self, input: I) -> Result<O, TaskError> {
        Ok((self.0)(input))
    }
    fn to_data(&self) -> Vec<u8> {
        entry::distance(self.0 as *const () as usize)
            .to_le_bytes()
            .to_vec()
    }
    fn from_data(data: &[u8]) -> Result<Self, TaskError> {
        let bytes = data
            .try_into()
            .map_err(|_| TaskError::Rejected("a function is 8 bytes".to_owned()))?;
        let address = entry::resolve_code(u64::from_le_bytes(bytes)).map_err(TaskError::Rejected)?;
        // SAFETY: this code is the entry of `OfFn<I, O>`, found in a message whose sender runs the same build and made the
        // distance, in `to_data` above, from a function of exactly this type; it lies in the program's code, as checked.
        Ok(OfFn(unsafe { std::mem::transmute::<usize, fn(I) -> O>(address) }))
    }
    fn by_name() -> Option<Call> {
        None
    }
}

/// The item itself, for reductions of plain values.
pub(crate) struct Identity<T>(PhantomData<fn() -> T>);

impl<T> Clone for Identity<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Identity<T> {}

impl<T> Identity<T> {
    pub(crate) fn new() -> Self {
        Identity(PhantomData)
    }
}

impl<T: Data> Kernel for Identity<T> {
    type In = T;
    type Out = T;
    const NAME: &'static str = "reduce";
    const IDEMPOTENT: bool = true;

    #[inline]
    fn call(&self, input: T) -> Result<T, TaskError> {
        Ok(input)
    }
    fn to_data(&self) -> Vec<u8> {
        Vec::new()
    }
    fn from_data(_: &[u8]) -> Result<Self, TaskError> {
        Ok(Identity::new())
    }
    fn by_name() -> Option<Call> {
        None
    }
}

/// Appends items to a request. The user's own code for that may panic, which is the failure of the claim.
pub(crate) fn encode_items<'a, T: Data>(
    mut items: impl Iterator<Item = &'a T>,
    out: &mut Vec<u8>,
) -> Result<(), TaskError> {
    panics::catch(|| items.try_for_each(|item| wire::encode(item, out)))?
        .map_err(|e| TaskError::Codec(format!("input: {e}")))
}

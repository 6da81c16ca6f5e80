//! The encoding mode: each claim crosses as bytes, as it would to another process, so that faults of serde show here.

use par_core::TaskError;
use par_core::job::Claim;
use par_core::remote::Prepared;
use par_core::share::Recorder;
use std::time::Instant;

/// Runs a claim by way of its bytes, on this thread, which has put the token of the job in force.
pub(crate) fn run(mut claim: Claim, worker: usize) {
    let started = Instant::now();
    claim.delivered(worker);
    match reply(&mut claim) {
        Ok(reply) => claim.complete(&reply, worker, started, started.elapsed()),
        Err(error) => claim.fail(error),
    }
}

fn reply(claim: &mut Claim) -> Result<Vec<u8>, TaskError> {
    let prepared = Prepared::new(&claim.call(true)?)?;
    let (mut input, mut shares) = (Vec::new(), Recorder::new());
    let part = claim.encode(&mut input, &mut shares)?;
    for share in shares.take() {
        // The value itself stays where it is; that it could cross is what matters here.
        share.bytes()?;
    }
    claim.begun();
    let mut reply = Vec::new();
    prepared.run(part, &input, &mut reply);
    Ok(reply)
}

//! Tasks that wait for their time do not begin before it.

use par_dist::app::App;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// When it has begun, in microseconds of this machine's clock, that of the times of tasks.
#[par_dist::task(name = "eta.begins")]
pub(crate) fn begins() -> u64 {
    micros(SystemTime::now())
}

fn micros(time: SystemTime) -> u64 {
    let time = time.duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(time.as_micros()).expect("not so far")
}

/// Sends an app's tasks to wait for times that are no whole milliseconds; the app knows the task, and its worker runs.
pub(crate) fn none_is_early(app: &App) {
    let sent: Vec<_> = (0..200)
        .map(|step| {
            let pause = Duration::from_micros(50_000 + 2_137 * step);
            let soonest = micros(SystemTime::now() + pause);
            let call = app.call::<begins>(()).countdown(pause);
            (soonest, call.send().expect("sent"))
        })
        .collect();
    for (soonest, task) in sent {
        let began = task.get(Duration::from_secs(60)).expect("a value");
        assert!(began >= soonest, "{} us before its time", soonest - began);
    }
}

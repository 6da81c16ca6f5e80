//! The encoding mode where code of users for it fails or panics: the failure is that of the item, and nobody else's.

use par_sync::{ChunkPlan, Plan, TaskError, ThreadOptions, ThreadPool};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that panics while it is written or read.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Touchy(u8);

const PLAIN: u8 = 0;
const ON_WRITING: u8 = 1;
const ON_READING: u8 = 2;

impl Serialize for Touchy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.0 != ON_WRITING, "it does not want to be written");
        serializer.serialize_u8(self.0)
    }
}

impl<'de> Deserialize<'de> for Touchy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let kind = u8::deserialize(deserializer)?;
        assert!(kind != ON_READING, "it does not want to be read");
        Ok(Touchy(kind))
    }
}

#[par_sync::task]
fn make(kind: u8) -> Touchy {
    assert!(kind != 9, "nine");
    Touchy(kind)
}

#[par_sync::task]
fn kind(value: Touchy) -> u8 {
    value.0
}

fn pool() -> ThreadPool {
    let options = ThreadOptions {
        encode: true,
        ..Default::default()
    };
    ThreadPool::builder()
        .workers(1)
        .options(options)
        .build()
        .expect("starts")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(8)))
}

fn panicked<T>(outcome: &Result<T, TaskError>, text: &str) -> bool {
    matches!(outcome, Err(TaskError::Panicked(panic)) if panic.message.contains(text))
}

#[test]
fn of_outputs_only_the_one_that_panics_is_lost() {
    let kinds = [PLAIN, ON_WRITING, PLAIN, 9, 3, ON_WRITING, 4];
    let outcomes = pool().map_outcomes::<make>(kinds).expect("open");
    for (at, (kind, outcome)) in kinds.iter().zip(&outcomes).enumerate() {
        match *kind {
            ON_WRITING => assert!(panicked(outcome, "be written"), "{at}: {outcome:?}"),
            9 => assert!(panicked(outcome, "nine"), "{at}: {outcome:?}"),
            kind => assert_eq!(outcome, &Ok(Touchy(kind)), "{at}"),
        }
    }
    assert_eq!(outcomes.len(), kinds.len());
}

#[test]
fn after_an_output_that_cannot_be_read_nothing_more_of_the_chunk_is_known() {
    let kinds = [PLAIN, ON_READING, PLAIN];
    let outcomes = pool().map_outcomes::<make>(kinds).expect("open");
    assert_eq!(outcomes[0], Ok(Touchy(PLAIN)));
    assert!(panicked(&outcomes[1], "be read"), "{:?}", outcomes[1]);
    assert!(panicked(&outcomes[2], "be read"), "{:?}", outcomes[2]);
    let error = pool().map::<make>(kinds).expect_err("the second");
    assert_eq!(error.index, 1);
    assert!(panicked::<()>(&Err(error.error), "be read"));
}

#[test]
fn after_an_input_that_cannot_be_read_nothing_more_of_the_chunk_is_run() {
    let inputs = [PLAIN, ON_READING, 3].map(Touchy);
    let outcomes = pool().map_outcomes::<kind>(inputs).expect("open");
    assert_eq!(outcomes[0], Ok(PLAIN));
    assert!(panicked(&outcomes[1], "be read"), "{:?}", outcomes[1]);
    assert!(panicked(&outcomes[2], "be read"), "{:?}", outcomes[2]);
    let error = pool().map::<kind>(inputs).expect_err("the second");
    assert_eq!(error.index, 1);
    // The next chunk is another matter.
    let apart = pool().with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let outcomes = apart.map_outcomes::<kind>(inputs).expect("open");
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(PLAIN), &Ok(3)));
}

#[test]
fn an_input_that_cannot_be_written_fails_its_chunk() {
    let inputs = [PLAIN, ON_WRITING, 3].map(Touchy);
    let error = pool().map::<kind>(inputs).expect_err("the second");
    assert!(panicked::<()>(&Err(error.error), "be written"));
}

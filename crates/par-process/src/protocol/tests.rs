//! Tests of the protocol: what is written is read, and no bytes make a reader panic.

use super::*;
use proptest::prelude::*;

fn items_of(payload: &[u8]) -> Result<Vec<Item>, Bad> {
    let mut items = Items::new(payload)?;
    let mut all = Vec::new();
    while let Some(item) = items.next()? {
        all.push(item);
    }
    Ok(all)
}

fn replies_of(payload: &[u8]) -> Result<usize, Bad> {
    let mut replies = Replies::new(payload);
    let mut count = 0;
    while replies.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

#[test]
fn a_batch_is_read_as_it_was_written() {
    let mut batch = Batch::default();
    let part = Part { first: 7, items: 2 };
    batch.forget_calls();
    batch.call(3, b"code");
    batch.run(11, 3, part, b"ab");
    batch.run(12, 3, part, b"");
    let frame = batch.finish(5, 40).to_vec();
    let mut decoder = wire::FrameDecoder::new(1000);
    decoder.feed(&frame);
    let (kind, payload) = decoder.next_frame().expect("a frame").expect("whole");
    assert_eq!(kind, down::BATCH);
    assert_eq!(Items::new(payload).expect("a batch").generation, 5);
    let items = items_of(payload).expect("a batch");
    let text = |range: &Range<usize>| payload[range.clone()].to_vec();
    match &items[..] {
        [
            Item::ForgetCalls,
            Item::Call { number: 3, call },
            Item::Run {
                number: 40,
                job: 11,
                call: 3,
                part: a,
                input: Input::Here(input),
            },
            Item::Run {
                number: 41,
                job: 12,
                input: Input::Here(empty),
                ..
            },
        ] => assert_eq!(
            (text(call), *a, text(input), text(empty)),
            (b"code".to_vec(), part, b"ab".to_vec(), Vec::new())
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_and_answers_are_read_as_they_were_written() {
    let mut out = Vec::new();
    let start = begin_reply(&mut out);
    out.extend_from_slice(b"value");
    end_reply(&mut out, start, 9, 1234, false);
    let start = begin_reply(&mut out);
    put_error(&mut out, &TaskError::Cancelled);
    end_reply(&mut out, start, 10, 0, true);
    let mut replies = Replies::new(&out);
    assert_eq!(
        replies.next(),
        Ok(Some(Reply {
            number: 9,
            took_ns: 1234,
            ended: Ended::Reply(b"value")
        }))
    );
    assert_eq!(
        replies.next(),
        Ok(Some(Reply {
            number: 10,
            took_ns: 0,
            ended: Ended::Failed(TaskError::Cancelled)
        }))
    );
    assert_eq!(replies.next(), Ok(None));
    let mut out = Vec::new();
    put_answer(&mut out, 4, Ok(b"yes"));
    assert_eq!(read_answer(&out), Ok((4, Ended::Reply(b"yes"))));
    out.clear();
    put_answer(&mut out, 4, Err(&TaskError::Cancelled));
    assert_eq!(read_answer(&out), Ok((4, Ended::Failed(TaskError::Cancelled))));
}

#[test]
fn a_length_that_lies_is_refused() {
    let mut batch = Batch::default();
    batch.call(1, b"code");
    let mut payload = batch.finish(0, 0)[wire::FRAME_HEADER..].to_vec();
    let length = BATCH_HEAD + 1 + 4;
    payload[length..length + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
    assert_eq!(items_of(&payload), Err(Bad("a length reaches beyond its frame")));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Only that they return matters here.
        let _ = (items_of(&bytes), replies_of(&bytes), read_answer(&bytes), read_number(&bytes));
    }

    #[test]
    fn no_change_of_a_batch_makes_its_reader_panic(at in 0usize..80, to: u8) {
        let mut batch = Batch::default();
        batch.call(1, b"code");
        batch.run(1, 1, Part { first: 0, items: 1 }, b"input");
        let mut payload = batch.finish(0, 0)[wire::FRAME_HEADER..].to_vec();
        if let Some(byte) = payload.get_mut(at) {
            *byte = to;
        }
        if let Ok(items) = items_of(&payload) {
            for item in items {
                if let Item::Call { call: range, .. } | Item::Run {
                    input: Input::Here(range),
                    ..
                } = item
                {
                    prop_assert!(range.end <= payload.len());
                }
            }
        }
    }
}

//! The graph against a plain search: random holds and waits, and whether the last wait closes a cycle.

use super::Hold;
use super::graph::{Graph, Object, ThreadNumber, Wait};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::panic::Location;

#[derive(Debug, Clone, Copy)]
enum Step {
    Hold(ThreadNumber, Object),
    GiveBack(ThreadNumber, Object),
    Wait(ThreadNumber, Object, bool),
    Wake(ThreadNumber),
    End(ThreadNumber),
}

fn step() -> impl Strategy<Value = Step> {
    let (thread, object) = (1..7u64, 1..7u64);
    prop_oneof![
        5 => (thread.clone(), object.clone()).prop_map(|(thread, object)| Step::Hold(thread, object)),
        2 => (thread.clone(), object.clone()).prop_map(|(thread, object)| Step::GiveBack(thread, object)),
        5 => (thread.clone(), object, any::<bool>())
            .prop_map(|(thread, object, for_ever)| Step::Wait(thread, object, for_ever)),
        2 => thread.clone().prop_map(Step::Wake),
        1 => thread.prop_map(Step::End),
    ]
}

/// What the graph should know: how often who holds what alone, who waits for what, who has ended.
#[derive(Default)]
struct Model {
    held: HashMap<Object, (ThreadNumber, usize)>,
    waits: HashMap<ThreadNumber, (Object, bool)>,
    ended: HashSet<ThreadNumber>,
}

impl Model {
    /// Each thread waits for one object, which one thread has: from `me` there is one way only.
    fn goes_in_a_circle(&self, me: ThreadNumber) -> bool {
        let mut at = self.waits.get(&me).map(|(object, _)| *object);
        for _ in 0..self.waits.len() + 1 {
            let Some((holder, _)) = at.and_then(|object| self.held.get(&object)) else {
                return false;
            };
            if *holder == me || self.ended.contains(holder) {
                return true;
            }
            let next = self.waits.get(holder).filter(|(_, for_ever)| *for_ever);
            at = next.map(|(object, _)| *object);
        }
        false
    }
}

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut graph, mut model) = (Graph::default(), Model::default());
    let place = Location::caller();
    for thread in 1..7 {
        graph.threads.insert(thread, format!("thread {thread}"));
    }
    for step in steps {
        match *step {
            Step::Hold(thread, object) => {
                let free = model
                    .held
                    .get(&object)
                    .is_none_or(|(holder, _)| *holder == thread);
                if free && !model.ended.contains(&thread) && !model.waits.contains_key(&thread) {
                    graph.hold(object, thread, Hold::Exclusive, place);
                    model.held.entry(object).or_insert((thread, 0)).1 += 1;
                }
            }
            Step::GiveBack(thread, object) => {
                graph.give_back(object, thread);
                if let Some((holder, times)) = model.held.get_mut(&object)
                    && *holder == thread
                {
                    *times -= 1;
                    if *times == 0 {
                        model.held.remove(&object);
                    }
                }
            }
            Step::Wait(thread, object, for_ever) => {
                if model.ended.contains(&thread) {
                    continue;
                }
                let wait = Wait {
                    number: 0,
                    object,
                    how: Hold::Exclusive,
                    for_ever,
                    looks: false,
                    again: None,
                    place,
                };
                graph.enter_wait(thread, wait);
                model.waits.insert(thread, (object, for_ever));
                let cycle = graph.cycle(thread);
                prop_assert_eq!(cycle.is_some(), model.goes_in_a_circle(thread), "{:?}", step);
                for (at, (other, wait)) in cycle.iter().flat_map(|cycle| cycle.steps.iter().enumerate()) {
                    prop_assert_eq!(at == 0, *other == thread, "it begins with who asks");
                    prop_assert!(model.held.contains_key(&wait.object));
                }
            }
            Step::Wake(thread) => {
                graph.waits.remove(&thread);
                model.waits.remove(&thread);
            }
            Step::End(thread) => {
                model.waits.remove(&thread);
                let mine = |object: &Object| {
                    model
                        .held
                        .get(object)
                        .is_some_and(|(holder, _)| *holder == thread)
                };
                let told = model
                    .waits
                    .values()
                    .filter(|(object, for_ever)| *for_ever && mine(object));
                let expected = if model.ended.contains(&thread) {
                    0
                } else {
                    told.count()
                };
                prop_assert_eq!(graph.end(thread).len(), expected, "{:?}", step);
                model.ended.insert(thread);
            }
        }
        for thread in 1..7 {
            let held = model.held.iter().filter(|(_, (holder, _))| *holder == thread);
            let mut expected: Vec<Object> = held.map(|(object, _)| *object).collect();
            let mut known: Vec<Object> = graph.in_hand(thread).map(|(object, _)| object).collect();
            expected.sort_unstable();
            known.sort_unstable();
            prop_assert_eq!(known, expected);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_cycle_is_found_when_it_closes_and_not_before(steps in prop::collection::vec(step(), 1..60)) {
        play(&steps)?;
    }
}

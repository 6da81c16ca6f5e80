//! Finding out what a type is by handing its `Deserialize` made-up values and watching what it asks for.
//!
//! A type is probed several times. Every pass walks the same tree of [`Slot`]s: an enum shows a variant that was not
//! seen yet, a leaf whose value was refused gives another one, and where no value helps, an `Option` is `None`, a list is
//! empty and an enum shows another variant. It ends when nothing is open, when a pass brought nothing new, or at a
//! bound; what is not known then stays unknown. A type within itself is cut: its place names the outer one, and
//! the value there is made without recording anything.
//!
//! (The idea is that of the crate serde-reflection.)

mod access;
mod deserializer;

use super::probe::Probing;
use super::shape::{Shape, Slot};
use access::Parts;
use serde::de::{self, DeserializeOwned, Visitor};
use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bounds against types that would never end; far beyond what a task's arguments have.
const MAX_PASSES: usize = 500;
const MAX_STEPS: usize = 200_000;
const MAX_DEPTH: usize = 64;
/// Tuples longer than this share the slot of their last elements.
const MAX_SLOTS: usize = 32;

/// Traces `T`. Never fails: what cannot be found out stays unknown.
pub(super) fn trace<T: DeserializeOwned>() -> Slot {
    let _probing = Probing::begin();
    let mut root = Slot::default();
    let context = Context::default();
    for _ in 0..MAX_PASSES {
        context.news.set(false);
        context.blamed.set(false);
        context.path.borrow_mut().clear();
        let tracer = Tracer {
            slot: &mut root,
            context: &context,
            within: false,
        };
        // Somebody's Deserialize may well panic on values that nobody sends.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| T::deserialize(tracer).map(drop))) else {
            break;
        };
        let ended = match outcome {
            Ok(()) => !root.open(),
            Err(Refused) => {
                context.blame(&mut root);
                false
            }
        };
        if ended || !context.news.get() || context.steps.get() > MAX_STEPS {
            break;
        }
    }
    root
}

/// The type refused a value, or a bound was reached. What was seen is in the slots.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value made up to describe a type was refused")
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<M: fmt::Display>(_: M) -> Self {
        Refused
    }
}

/// A named type around the current place.
struct Around {
    /// Its path with its parameters: who it is in this program, which the text must not depend on.
    identity: &'static str,
    name: &'static str,
    within: bool,
}

/// What a whole trace shares.
#[derive(Default)]
struct Context {
    /// Whether this pass changed a slot.
    news: Cell<bool>,
    /// Whether the refusal of this pass has found its place.
    blamed: Cell<bool>,
    steps: Cell<usize>,
    /// The named types around the current place.
    path: RefCell<Vec<Around>>,
    /// For each enum that was met within itself, a variant that ends there.
    ends: RefCell<HashMap<&'static str, usize>>,
}

impl Context {
    /// Answers a refusal at the innermost place where something can be changed for the next pass.
    fn blame(&self, slot: &mut Slot) {
        if self.blamed.get() {
            return;
        }
        if !slot.next_probe() {
            // Out of values here, and already known: the place around it has to do without this one.
            if slot.failed {
                return;
            }
            slot.failed = true;
        }
        self.blamed.set(true);
        self.news.set(true);
    }
}

/// The deserializer at one place.
struct Tracer<'a> {
    slot: &'a mut Slot,
    context: &'a Context,
    /// Whether this is the inside of a type within itself, where the least value is wanted.
    within: bool,
}

impl Tracer<'_> {
    /// Counts a step, and records the shape where nothing is known yet.
    fn record(&mut self, shape: impl FnOnce() -> Shape) -> Result<(), Refused> {
        let steps = self.context.steps.get() + 1;
        self.context.steps.set(steps);
        if steps > MAX_STEPS {
            return Err(Refused);
        }
        if matches!(self.slot.shape, Shape::Unknown) {
            self.slot.shape = shape();
            self.news();
        }
        Ok(())
    }

    /// What is seen of a type within itself is thrown away, and is no news.
    fn news(&self) {
        if !self.within {
            self.context.news.set(true);
        }
    }

    fn leaf<T>(
        mut self,
        name: &'static str,
        visit: impl FnOnce(usize) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        self.record(|| Shape::Leaf(name))?;
        visit(usize::from(self.slot.probe))
    }

    /// Runs `inner` for the named type that `V` makes, at this place or, where the type is around it already, at a
    /// place that is thrown away.
    fn named<'de, V: Visitor<'de>>(
        mut self,
        name: &'static str,
        inner: impl FnOnce(Tracer<'_>) -> Result<V::Value, Refused>,
    ) -> Result<V::Value, Refused> {
        let identity = type_name::<V::Value>();
        let mut thrown_away = Slot::default();
        let mut within = self.within;
        if !within {
            let path = self.context.path.borrow();
            if let Some(at) = path.iter().rposition(|around| around.identity == identity) {
                let outward = path[at + 1..].iter().filter(|around| around.name == name).count();
                drop(path);
                self.record(|| Shape::Recursion(name, outward))?;
                within = true;
            }
        }
        let slot = if within && !self.within {
            &mut thrown_away
        } else {
            self.slot
        };
        if self.context.path.borrow().len() == MAX_DEPTH {
            return Err(Refused);
        }
        self.context.path.borrow_mut().push(Around {
            identity,
            name,
            within,
        });
        let result = inner(Tracer {
            slot,
            context: self.context,
            within,
        });
        self.context.path.borrow_mut().pop();
        result
    }

    /// A struct: its name at this place, its body one further in.
    fn structure<'de, V: Visitor<'de>>(
        self,
        name: &'static str,
        body: impl FnOnce(Tracer<'_>) -> Result<V::Value, Refused>,
    ) -> Result<V::Value, Refused> {
        self.named::<V>(name, |mut tracer| {
            tracer.record(|| Shape::Named(name, Box::default()))?;
            let Tracer {
                slot,
                context,
                within,
            } = tracer;
            let Shape::Named(_, inner) = &mut slot.shape else {
                return Err(Refused);
            };
            body(Tracer {
                slot: inner,
                context,
                within,
            })
        })
    }

    fn unit<'de, V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.record(|| Shape::Unit)?;
        visitor.visit_unit()
    }

    fn tuple<'de, V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.record(|| Shape::Tuple {
            slots: slots(length),
            length,
        })?;
        let Tracer {
            slot,
            context,
            within,
        } = self;
        let Shape::Tuple { slots, .. } = &mut slot.shape else {
            return Err(Refused);
        };
        visitor.visit_seq(Parts {
            slots,
            next: 0,
            count: length,
            context,
            within,
        })
    }

    fn fields<'de, V: Visitor<'de>>(
        mut self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.record(|| Shape::Fields {
            names,
            slots: names.iter().map(|_| Slot::default()).collect(),
        })?;
        let Tracer {
            slot,
            context,
            within,
        } = self;
        let Shape::Fields { slots, .. } = &mut slot.shape else {
            return Err(Refused);
        };
        visitor.visit_seq(Parts {
            slots,
            next: 0,
            count: names.len(),
            context,
            within,
        })
    }

    /// The variant to show. Within itself: one that is known to end, else another one at each level, of which one
    /// must end if the type has any value at all.
    fn choose_variant(&self, identity: &'static str) -> Result<usize, Refused> {
        if !self.within {
            return self.slot.variant_to_probe().ok_or(Refused);
        }
        if let Some(known) = self.context.ends.borrow().get(identity) {
            return Ok(*known);
        }
        let path = self.context.path.borrow();
        let levels = path
            .iter()
            .filter(|around| around.within && around.identity == identity)
            .count();
        // This place itself is on the path.
        levels.checked_sub(1).ok_or(Refused)
    }
}

fn slots(length: usize) -> Vec<Slot> {
    std::iter::repeat_with(Slot::default)
        .take(length.min(MAX_SLOTS))
        .collect()
}

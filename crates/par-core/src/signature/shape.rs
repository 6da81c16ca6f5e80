//! What is known of a type: a tree that grows while the type is probed.

use std::fmt::Write;

/// Values that a leaf is probed with before it is given up; see the tracer for what they are.
pub(super) const PROBES: u8 = 6;

/// A place in a type.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) shape: Shape,
    /// Which probe value a leaf gives.
    pub(super) probe: u8,
    /// Whether no value could be made here.
    pub(super) failed: bool,
}

/// What stands at a place.
#[derive(Debug, Default)]
pub(super) enum Shape {
    #[default]
    Unknown,
    Unit,
    /// A type without parts, under its own name.
    Leaf(&'static str),
    Option(Box<Slot>),
    List(Box<Slot>),
    Map(Box<(Slot, Slot)>),
    /// The slots of a long tuple end with one that all later elements share.
    Tuple {
        slots: Vec<Slot>,
        length: usize,
    },
    /// A struct with a name and a body, which is a unit, a tuple or fields.
    Named(&'static str, Box<Slot>),
    Fields {
        names: &'static [&'static str],
        slots: Vec<Slot>,
    },
    Enum {
        name: &'static str,
        variants: Vec<Variant>,
    },
    /// The type of that name around this place, so many of them further out.
    Recursion(&'static str, usize),
}

/// A variant of an enum.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// Its content: a unit, a tuple or fields.
    pub(super) content: Slot,
    /// Whether a value of it was made.
    pub(super) good: bool,
}

impl Variant {
    /// Whether probing it again could show more.
    fn open(&self) -> bool {
        !self.content.failed && (!self.good || self.content.open())
    }
}

impl Slot {
    fn parts(&self) -> Vec<&Slot> {
        match &self.shape {
            Shape::Option(inner) | Shape::List(inner) | Shape::Named(_, inner) => vec![inner],
            Shape::Map(pair) => vec![&pair.0, &pair.1],
            Shape::Tuple { slots, .. } | Shape::Fields { slots, .. } => slots.iter().collect(),
            Shape::Enum { variants, .. } => variants.iter().map(|variant| &variant.content).collect(),
            Shape::Unknown | Shape::Unit | Shape::Leaf(_) | Shape::Recursion(..) => Vec::new(),
        }
    }

    fn parts_mut(&mut self) -> Vec<&mut Slot> {
        match &mut self.shape {
            Shape::Option(inner) | Shape::List(inner) | Shape::Named(_, inner) => vec![inner],
            Shape::Map(pair) => vec![&mut pair.0, &mut pair.1],
            Shape::Tuple { slots, .. } | Shape::Fields { slots, .. } => slots.iter_mut().collect(),
            Shape::Enum { variants, .. } => variants.iter_mut().map(|variant| &mut variant.content).collect(),
            Shape::Unknown | Shape::Unit | Shape::Leaf(_) | Shape::Recursion(..) => Vec::new(),
        }
    }

    /// Whether probing again could show more: a variant that was not seen yet, here or within.
    pub(super) fn open(&self) -> bool {
        match &self.shape {
            Shape::Enum { variants, .. } => variants.iter().any(Variant::open),
            _ => self.parts().into_iter().any(Slot::open),
        }
    }

    /// Moves every leaf here and within to its next probe value; false where all are at their last.
    pub(super) fn next_probe(&mut self) -> bool {
        if matches!(self.shape, Shape::Leaf(_)) && self.probe + 1 < PROBES {
            self.probe += 1;
            return true;
        }
        let mut moved = false;
        for part in self.parts_mut() {
            moved |= part.next_probe();
        }
        moved
    }

    /// The variant to probe now: the first that may show more, else the first that is known to work.
    pub(super) fn variant_to_probe(&self) -> Option<usize> {
        let Shape::Enum { variants, .. } = &self.shape else {
            return None;
        };
        variants
            .iter()
            .position(Variant::open)
            .or_else(|| variants.iter().position(|variant| variant.good))
    }

    /// The type at this place as text.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match &self.shape {
            Shape::Unknown => out.push('?'),
            Shape::Unit => out.push_str("()"),
            Shape::Leaf(name) => out.push_str(name),
            Shape::Option(inner) => surround(out, "Option<", ">", |out| inner.write(out)),
            Shape::List(inner) => surround(out, "[", "]", |out| inner.write(out)),
            Shape::Map(pair) => surround(out, "{", "}", |out| {
                pair.0.write(out);
                out.push_str(": ");
                pair.1.write(out);
            }),
            Shape::Tuple { slots, length } => write_tuple(out, slots, *length),
            Shape::Named(name, body) => {
                out.push_str(name);
                body.write_body(out);
            }
            Shape::Fields { names, slots } => surround(out, "{", "}", |out| {
                join(out, names.iter().zip(slots), |out, (name, slot)| {
                    out.push_str(name);
                    out.push_str(": ");
                    slot.write(out);
                });
            }),
            Shape::Enum { name, variants } => {
                out.push_str("enum ");
                out.push_str(name);
                surround(out, " {", "}", |out| {
                    join(out, variants.iter(), |out, variant| {
                        out.push_str(variant.name);
                        variant.content.write_body(out);
                    });
                });
            }
            Shape::Recursion(name, outward) => {
                out.extend(std::iter::repeat_n('^', outward + 1));
                out.push_str(name);
            }
        }
    }

    /// What follows the name of a struct or a variant.
    fn write_body(&self, out: &mut String) {
        match &self.shape {
            Shape::Unit => {}
            Shape::Unknown => out.push_str("(?)"),
            Shape::Fields { .. } => {
                out.push(' ');
                self.write(out);
            }
            Shape::Tuple { slots, length } if slots.len() == *length => {
                surround(out, "(", ")", |out| {
                    join(out, slots.iter(), |out, slot| slot.write(out))
                });
            }
            _ => surround(out, "(", ")", |out| self.write(out)),
        }
    }
}

fn write_tuple(out: &mut String, slots: &[Slot], length: usize) {
    let texts: Vec<_> = slots.iter().map(Slot::text).collect();
    // Serde sees an array as a tuple; a long one is shown as what it is.
    if length > 4 && texts.iter().all(|text| *text == texts[0]) {
        let _ = write!(out, "[{}; {length}]", texts[0]);
        return;
    }
    surround(out, "(", ")", |out| {
        join(out, texts.iter(), |out, text| out.push_str(text))
    });
    if slots.len() < length {
        let _ = write!(out, "[..{length}]");
    }
}

fn surround(out: &mut String, open: &str, close: &str, inner: impl FnOnce(&mut String)) {
    out.push_str(open);
    inner(out);
    out.push_str(close);
}

fn join<T>(out: &mut String, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write(out, item);
    }
}

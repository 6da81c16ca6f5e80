//! The orders in which locks were taken, and warnings of those that could meet some day.

use super::graph::{Graph, Object, ThreadNumber};
use std::collections::{HashMap, HashSet};
use std::panic::Location;

/// One lock was taken while another was held.
#[derive(Debug, Clone)]
struct Order {
    first: &'static Location<'static>,
    then: &'static Location<'static>,
    /// What was held besides: two orders with such a gate in common cannot meet.
    gates: HashSet<Object>,
}

#[derive(Debug, Default)]
pub(super) struct Orders {
    after: HashMap<Object, HashMap<Object, Order>>,
    warned: HashSet<(Object, Object)>,
}

impl Orders {
    pub(super) fn forget(&mut self, object: Object) {
        // What is no lock, and what was never held with another, is in no order.
        if self.after.is_empty() {
            return;
        }
        self.after.remove(&object);
        self.after.values_mut().for_each(|after| {
            after.remove(&object);
        });
        self.warned.retain(|(a, b)| *a != object && *b != object);
    }

    /// Whether locks were taken in an order from the end of the path to `goal`, without a gate in common.
    fn leads(
        &self,
        from: Object,
        goal: Object,
        gates: &HashSet<Object>,
        path: &mut Vec<Object>,
        seen: &mut HashSet<Object>,
    ) -> bool {
        for (next, order) in self.after.get(&from).into_iter().flatten() {
            if !order.gates.is_disjoint(gates) || !seen.insert(*next) {
                continue;
            }
            path.push(*next);
            if *next == goal || self.leads(*next, goal, gates, path, seen) {
                return true;
            }
            path.pop();
        }
        false
    }
}

impl Graph {
    /// Notes that `thread` took `object` with others in hand. The orders that could meet it, if it is the first to be told of them.
    pub(super) fn order(
        &mut self,
        object: Object,
        thread: ThreadNumber,
        then: &'static Location<'static>,
    ) -> Vec<String> {
        let in_hand: Vec<_> = self
            .in_hand(thread)
            .filter(|(other, _)| self.is_lock(*other))
            .collect();
        // Who has it does not wait for it.
        if in_hand.iter().any(|(other, _)| *other == object) {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        for (first, place) in &in_hand {
            let gates: HashSet<Object> = in_hand
                .iter()
                .map(|(other, _)| *other)
                .filter(|other| other != first)
                .collect();
            let known = self.orders.after.entry(*first).or_default().entry(object);
            let order = known.and_modify(|order| order.gates.retain(|gate| gates.contains(gate)));
            order.or_insert_with(|| Order {
                first: place,
                then,
                gates: gates.clone(),
            });
            if self.orders.warned.contains(&(*first, object)) {
                continue;
            }
            let mut path = vec![object];
            let mut seen = HashSet::from([object]);
            if self.orders.leads(object, *first, &gates, &mut path, &mut seen) {
                self.orders.warned.insert((*first, object));
                self.orders.warned.insert((object, *first));
                path.insert(0, *first);
                warnings.push(self.tell_order(&path));
            }
        }
        warnings
    }

    fn tell_order(&self, path: &[Object]) -> String {
        let mut text = "locks are taken in orders that could meet in a deadlock:".to_owned();
        for pair in path.windows(2) {
            let after = self.orders.after.get(&pair[0]);
            if let Some(order) = after.and_then(|after| after.get(&pair[1])) {
                text += &format!(
                    "\n  {} at {}, then {} at {}",
                    self.called(pair[0]),
                    order.first,
                    self.called(pair[1]),
                    order.then
                );
            }
        }
        text
    }
}

//! What a worker remembers of revocations.

use super::broker::Revocation;
use std::collections::{HashMap, VecDeque};

/// How many are remembered, as by Celery's workers.
const REMEMBERED: usize = 50_000;

/// The ids that were revoked, and whether also if they run.
#[derive(Default)]
pub(super) struct Revoked {
    ids: HashMap<String, bool>,
    order: VecDeque<String>,
}

impl Revoked {
    pub(super) fn add(&mut self, heard: &[Revocation]) {
        for Revocation { id, terminate } in heard {
            if let Some(known) = self.ids.get_mut(id) {
                *known |= terminate;
                continue;
            }
            self.ids.insert(id.clone(), *terminate);
            self.order.push_back(id.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.ids.remove(&oldest);
            }
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.ids.contains_key(id)
    }

    /// Also if it runs.
    pub(super) fn is_terminated(&self, id: &str) -> bool {
        self.ids.get(id) == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_word_takes_nothing_back_and_the_oldest_are_forgotten() {
        let one = |id: usize, terminate| Revocation {
            id: id.to_string(),
            terminate,
        };
        let mut revoked = Revoked::default();
        revoked.add(&[
            one(0, true),
            one(1, false),
            one(0, false),
            one(2, false),
            one(2, true),
        ]);
        assert!(revoked.is_terminated("0") && !revoked.is_terminated("1") && revoked.is_terminated("2"));
        let more: Vec<_> = (3..=REMEMBERED).map(|id| one(id, false)).collect();
        revoked.add(&more);
        assert!(!revoked.has("0") && revoked.has("1") && !revoked.has("9999999"));
    }
}

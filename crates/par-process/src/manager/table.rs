//! The objects of a manager, who refers to them, and their names.
//!
//! 1. An object lives while it has a reference. References are a session's, a name's, or lent: on their way in bytes that a
//!    session has made of a proxy.
//! 2. A session is a client process. It begins with its first connection and ends with its last, however the process ended;
//!    with it go its references, and what it has lent.
//! 3. Adopting an object that a session has lent takes over what was lent, or, where that was taken over before, makes a new
//!    reference, if the object still lives. Numbers of objects are never used again.
//! 4. Objects are dropped by the caller, outside the lock of the table: their code is the user's.

use super::error::Fault;
use super::object::Object;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Table {
    objects: HashMap<u64, Referred>,
    sessions: HashMap<u128, Session>,
    names: HashMap<String, u64>,
    last: u64,
}

struct Referred {
    object: Arc<dyn Object>,
    kind: String,
    references: u64,
}

#[derive(Default)]
struct Session {
    connections: u64,
    references: HashMap<u64, u64>,
    lent: HashMap<u64, u64>,
}

/// What is to be dropped outside the lock.
pub(super) type Gone = Option<Arc<dyn Object>>;

fn no_object(number: u64) -> Fault {
    Fault::NoObject(format!(
        "object {number} of the manager is gone: nobody held a proxy of it any more"
    ))
}

/// Takes one from a count; false if there was none.
fn take(counts: &mut HashMap<u64, u64>, number: u64) -> bool {
    match counts.entry(number) {
        Entry::Occupied(mut count) => {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
            true
        }
        Entry::Vacant(_) => false,
    }
}

impl Table {
    /// A connection of the session begins.
    pub(super) fn enter(&mut self, session: u128) {
        self.sessions.entry(session).or_default().connections += 1;
    }

    /// A connection of the session has ended.
    pub(super) fn leave(&mut self, session: u128) -> Vec<Arc<dyn Object>> {
        let Entry::Occupied(mut found) = self.sessions.entry(session) else {
            return Vec::new();
        };
        found.get_mut().connections -= 1;
        if found.get().connections > 0 {
            return Vec::new();
        }
        let Session { references, lent, .. } = found.remove();
        let counts = references.into_iter().chain(lent);
        counts
            .filter_map(|(number, count)| self.release(number, count))
            .collect()
    }

    /// A new object, with a reference of the session.
    pub(super) fn create(&mut self, session: u128, kind: &str, object: Arc<dyn Object>) -> u64 {
        self.last += 1;
        let referred = Referred {
            object,
            kind: kind.to_owned(),
            references: 1,
        };
        self.objects.insert(self.last, referred);
        self.count(session, self.last);
        self.last
    }

    fn count(&mut self, session: u128, number: u64) {
        let session = self.sessions.entry(session).or_default();
        *session.references.entry(number).or_default() += 1;
    }

    pub(super) fn object(&self, number: u64) -> Result<Arc<dyn Object>, Fault> {
        match self.objects.get(&number) {
            Some(referred) => Ok(Arc::clone(&referred.object)),
            None => Err(no_object(number)),
        }
    }

    fn refer(&mut self, number: u64) -> Result<&mut Referred, Fault> {
        let referred = self.objects.get_mut(&number).ok_or_else(|| no_object(number))?;
        referred.references += 1;
        Ok(referred)
    }

    fn release(&mut self, number: u64, count: u64) -> Gone {
        let Entry::Occupied(mut referred) = self.objects.entry(number) else {
            return None;
        };
        let references = &mut referred.get_mut().references;
        *references = references.saturating_sub(count);
        (*references == 0).then(|| referred.remove().object)
    }

    /// The session has made bytes of a proxy.
    pub(super) fn lend(&mut self, session: u128, number: u64) -> Result<(), Fault> {
        self.refer(number)?;
        let session = self.sessions.entry(session).or_default();
        *session.lent.entry(number).or_default() += 1;
        Ok(())
    }

    /// The session has made a proxy of bytes.
    pub(super) fn adopt(&mut self, session: u128, lender: u128, number: u64) -> Result<(), Fault> {
        self.refer(number)?;
        self.count(session, number);
        let lent = self
            .sessions
            .get_mut(&lender)
            .is_some_and(|lender| take(&mut lender.lent, number));
        if lent {
            // Not the last: there is the new one.
            self.release(number, 1);
        }
        Ok(())
    }

    /// The session has dropped a proxy.
    pub(super) fn forget(&mut self, session: u128, number: u64) -> Gone {
        let counted = self
            .sessions
            .get_mut(&session)
            .is_some_and(|session| take(&mut session.references, number));
        if counted { self.release(number, 1) } else { None }
    }

    /// Gives the object a name, which keeps it; another that had the name loses it.
    pub(super) fn publish(&mut self, name: String, number: u64) -> Result<Gone, Fault> {
        self.refer(number)?;
        match self.names.insert(name, number) {
            Some(before) => Ok(self.release(before, 1)),
            None => Ok(None),
        }
    }

    /// The object of that name and kind, with a new reference of the session.
    pub(super) fn find(&mut self, session: u128, name: &str, kind: &str) -> Result<u64, Fault> {
        let Some(&number) = self.names.get(name) else {
            let mut known: Vec<_> = self.names.keys().map(String::as_str).collect();
            known.sort_unstable();
            let text = format!("no object of the manager is named {name:?}; it knows {known:?}");
            return Err(Fault::NoObject(text));
        };
        let found = self.refer(number)?;
        if found.kind != kind {
            let text = format!("the object named {name:?} is of kind {}, not {kind}", found.kind);
            self.release(number, 1);
            return Err(Fault::NoObject(text));
        }
        self.count(session, number);
        Ok(number)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::object::Caller;
    use super::*;

    struct Nothing;

    impl Object for Nothing {
        fn call(&self, _: &str, _: &[u8], _: &mut Vec<u8>, _: &mut Caller<'_>) -> Result<(), Fault> {
            Ok(())
        }
    }

    fn with_object() -> (Table, u64) {
        let mut table = Table::default();
        table.enter(1);
        table.enter(2);
        let number = table.create(1, "nothing", Arc::new(Nothing));
        (table, number)
    }

    #[test]
    fn an_object_goes_with_its_last_reference() {
        let (mut table, number) = with_object();
        table.lend(1, number).expect("it lives");
        assert!(table.forget(1, number).is_none());
        // Nobody has it now, but for what is on its way.
        table.adopt(2, 1, number).expect("it lives");
        table.adopt(2, 1, number).expect("a second time");
        assert!(table.forget(2, number).is_none());
        assert!(table.forget(2, number).is_some());
        assert!(table.adopt(2, 1, number).is_err() && table.object(number).is_err());
        assert!(table.forget(2, number).is_none() && table.forget(9, number).is_none());
    }

    #[test]
    fn a_session_takes_its_references_along() {
        let (mut table, number) = with_object();
        table.enter(1);
        table.lend(1, number).expect("it lives");
        table.adopt(2, 7, number).expect("it lives");
        assert!(table.leave(1).is_empty());
        assert!(table.leave(1).is_empty(), "another session has it");
        assert_eq!(table.len(), 1);
        assert_eq!(table.leave(2).len(), 1);
        assert_eq!(table.len(), 0);
        assert!(table.leave(2).is_empty());
    }

    #[test]
    fn a_name_keeps_its_object() {
        let (mut table, number) = with_object();
        table.publish("n".to_owned(), number).expect("it lives");
        assert!(table.leave(1).is_empty());
        assert_eq!(table.find(2, "n", "nothing"), Ok(number));
        let text = |result: Result<u64, Fault>| format!("{:?}", result.expect_err("none"));
        assert!(text(table.find(2, "n", "other")).contains("is of kind nothing, not other"));
        assert!(text(table.find(2, "m", "nothing")).contains("it knows [\\\"n\\\"]"));
        let other = table.create(2, "nothing", Arc::new(Nothing));
        assert!(table.publish("n".to_owned(), other).expect("it lives").is_none());
        assert_eq!(table.leave(2).len(), 1, "the other one has the name");
    }
}

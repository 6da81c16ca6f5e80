//! Objects of a manager that are collections: dictionaries, lists and counters. Keys and values are kept as they were encoded.

use super::blob::Blob;
use std::collections::HashMap;

/// A dictionary in the order in which its keys came. A namespace is one with names for keys.
#[derive(Default)]
pub(super) struct DictObject {
    /// A value, and when its key came.
    values: HashMap<Blob, (u64, Blob)>,
    last: u64,
}

impl DictObject {
    fn insert(&mut self, key: Blob, value: Blob) -> Option<Blob> {
        self.last += 1;
        let entry = self.values.entry(key).or_insert((self.last, Blob::default()));
        let before = std::mem::replace(&mut entry.1, value);
        (entry.0 != self.last).then_some(before)
    }

    fn set(&mut self, key: Blob, value: Blob) {
        self.insert(key, value);
    }

    fn extend(&mut self, pairs: Vec<(Blob, Blob)>) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }

    fn get(&self, key: Blob) -> Option<Blob> {
        self.values.get(&key).map(|(_, value)| value.clone())
    }

    fn get_or_insert(&mut self, key: Blob, value: Blob) -> Blob {
        match self.get(key.clone()) {
            Some(value) => value,
            None => {
                self.insert(key, value.clone());
                value
            }
        }
    }

    fn remove(&mut self, key: Blob) -> Option<Blob> {
        self.values.remove(&key).map(|(_, value)| value)
    }

    fn contains(&self, key: Blob) -> bool {
        self.values.contains_key(&key)
    }

    /// Changes a value only if it is as expected; `None` is that there is none.
    fn compare_exchange(
        &mut self,
        key: Blob,
        expected: Option<Blob>,
        new: Option<Blob>,
    ) -> Result<(), Option<Blob>> {
        let found = self.get(key.clone());
        if found != expected {
            return Err(found);
        }
        match new {
            Some(value) => self.set(key, value),
            None => drop(self.remove(key)),
        }
        Ok(())
    }

    fn items(&self) -> Vec<(Blob, Blob)> {
        let mut items: Vec<_> = self.values.iter().collect();
        items.sort_unstable_by_key(|(_, (order, _))| *order);
        items
            .into_iter()
            .map(|(key, (_, value))| (key.clone(), value.clone()))
            .collect()
    }

    fn keys(&self) -> Vec<Blob> {
        self.items().into_iter().map(|(key, _)| key).collect()
    }

    fn len(&self) -> u64 {
        self.values.len() as u64
    }

    fn clear(&mut self) {
        self.values.clear();
    }
}

crate::__managed_dispatch! { DictObject, "dict", {
    fn insert(key: Blob, value: Blob) -> Option<Blob>;
    fn set(key: Blob, value: Blob);
    fn extend(pairs: Vec<(Blob, Blob)>);
    fn get(key: Blob) -> Option<Blob>;
    fn get_or_insert(key: Blob, value: Blob) -> Blob;
    fn remove(key: Blob) -> Option<Blob>;
    fn contains(key: Blob) -> bool;
    fn compare_exchange(key: Blob, expected: Option<Blob>, new: Option<Blob>) -> Result<(), Option<Blob>>;
    fn items() -> Vec<(Blob, Blob)>;
    fn keys() -> Vec<Blob>;
    fn len() -> u64;
    fn clear();
}}

/// A list.
#[derive(Default)]
pub(super) struct ListObject(Vec<Blob>);

impl ListObject {
    fn push(&mut self, value: Blob) {
        self.0.push(value);
    }

    fn extend(&mut self, values: Vec<Blob>) {
        self.0.extend(values);
    }

    fn pop(&mut self) -> Option<Blob> {
        self.0.pop()
    }

    fn get(&self, index: u64) -> Option<Blob> {
        self.0.get(usize::try_from(index).ok()?).cloned()
    }

    /// The value that was there; `None` if there is no such place.
    fn set(&mut self, index: u64, value: Blob) -> Option<Blob> {
        let place = self.0.get_mut(usize::try_from(index).ok()?)?;
        Some(std::mem::replace(place, value))
    }

    /// False if the place is beyond the end.
    fn insert(&mut self, index: u64, value: Blob) -> bool {
        let place = usize::try_from(index).ok().filter(|index| *index <= self.0.len());
        if let Some(index) = place {
            self.0.insert(index, value);
        }
        place.is_some()
    }

    fn remove(&mut self, index: u64) -> Option<Blob> {
        let index = usize::try_from(index)
            .ok()
            .filter(|index| *index < self.0.len())?;
        Some(self.0.remove(index))
    }

    fn items(&self) -> Vec<Blob> {
        self.0.clone()
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

crate::__managed_dispatch! { ListObject, "list", {
    fn push(value: Blob);
    fn extend(values: Vec<Blob>);
    fn pop() -> Option<Blob>;
    fn get(index: u64) -> Option<Blob>;
    fn set(index: u64, value: Blob) -> Option<Blob>;
    fn insert(index: u64, value: Blob) -> bool;
    fn remove(index: u64) -> Option<Blob>;
    fn items() -> Vec<Blob>;
    fn len() -> u64;
    fn clear();
}}

/// A counter.
pub(super) struct CounterObject(pub(super) i64);

impl CounterObject {
    /// The sum, which goes around at the ends of its range, as an atomic does.
    fn add(&mut self, number: i64) -> i64 {
        self.0 = self.0.wrapping_add(number);
        self.0
    }

    fn get(&self) -> i64 {
        self.0
    }

    fn set(&mut self, number: i64) -> i64 {
        std::mem::replace(&mut self.0, number)
    }
}

crate::__managed_dispatch! { CounterObject, "counter", {
    fn add(number: i64) -> i64;
    fn get() -> i64;
    fn set(number: i64) -> i64;
}}

//! How a queue puts and gets, and who sleeps and wakes meanwhile: the rules of its module.

#[cfg(not(loom))]
use super::Poke;
use super::bell::Bell;
use super::ring::Not;
use super::{Back, GetError, Order, OrderedQueue, PutError};
use crate::sync_seam::{Locked, Ordering, Until};
use crate::watch::{self, Hold};

impl<T, O: Order<T>> OrderedQueue<T, O> {
    /// How many were put.
    #[inline]
    pub(super) fn puts(&self) -> u64 {
        let locked = || self.put.load(Ordering::SeqCst);
        self.ring.as_ref().map_or_else(locked, |ring| ring.put())
    }

    /// How many were got.
    #[inline]
    pub(super) fn gots(&self) -> u64 {
        let locked = || self.got.load(Ordering::SeqCst);
        self.ring.as_ref().map_or_else(locked, |ring| ring.got())
    }

    /// Takes all that is there, and lets nobody put more.
    pub(super) fn take_all(&self) -> (Vec<T>, Locked<'_, Back<T, O>>) {
        if let Some(ring) = &self.ring {
            ring.shut();
            let left = std::iter::from_fn(|| ring.pop().ok()).collect();
            return (left, self.back.lock());
        }
        let mut front = self.front.lock();
        let mut back = self.back.lock();
        let mut left: Vec<T> = std::iter::from_fn(|| front.pop()).collect();
        left.extend(std::iter::from_fn(|| back.items.pop()));
        let got = self.got.load(Ordering::Relaxed) + left.len() as u64;
        self.got.store(got, Ordering::SeqCst);
        (left, back)
    }

    pub(super) fn shut(&self, mut back: Locked<'_, Back<T, O>>) {
        if let Some(ring) = &self.ring {
            ring.shut();
        }
        self.shut.store(true, Ordering::SeqCst);
        let watchers = back.watchers.all();
        self.items.ring_all(&mut back);
        self.room.ring_all(&mut back);
        self.all_done.notify_all();
        drop(back);
        watchers.poke();
    }

    /// Tells the watch of a sleep until it is `ready`, or shut down.
    #[track_caller]
    pub(super) fn sleeps(&self, until: Until, ready: impl Fn() -> bool) -> watch::Waiting<'_> {
        let ready = || ready() || self.is_shut_down();
        watch::surely(self.watch.wait(Hold::Shared, until, ready))
    }

    /// Looks for a moment whether it `suits` (rule 3).
    #[inline]
    fn glance(&self, suits: impl Fn() -> bool) -> bool {
        #[cfg(not(loom))]
        {
            let moment = crossbeam_utils::Backoff::new();
            while !moment.is_completed() {
                moment.snooze();
                if suits() || self.is_shut_down() {
                    return true;
                }
            }
        }
        // Under loom nobody acts while another looks.
        #[cfg(loom)]
        let _ = suits;
        false
    }

    #[inline]
    #[track_caller]
    pub(super) fn put_until(&self, item: T, until: Until) -> Result<(), PutError<T>> {
        match self.push(item) {
            Err(PutError::Full(item)) if until != Until::Now => self.put_later(item, until),
            put => put,
        }
    }

    #[track_caller]
    fn put_later(&self, mut item: T, until: Until) -> Result<(), PutError<T>> {
        loop {
            let mut in_time = true;
            if !self.glance(|| !self.is_full()) {
                in_time = self.wait_while(&self.room, until, || self.is_full());
            }
            match self.push(item) {
                Err(PutError::Full(back)) if in_time && !until.is_over() => item = back,
                put => return put,
            }
        }
    }

    /// Sleeps while it `is_so` and the queue is not shut down; false when the time is over.
    #[track_caller]
    fn wait_while(&self, bell: &Bell, until: Until, is_so: impl Fn() -> bool) -> bool {
        let waiting = self.sleeps(until, || !is_so());
        let mut back = self.back.lock();
        let in_time = bell.wait_while(&mut back, until, || is_so() && !self.is_shut_down());
        drop(back);
        waiting.over();
        in_time
    }

    /// Puts an item if there is room.
    #[inline]
    fn push(&self, item: T) -> Result<(), PutError<T>> {
        if let Some(ring) = &self.ring {
            return match ring.push(item) {
                Ok(()) => {
                    self.tell(&self.items);
                    Ok(())
                }
                Err(Not::Now(item)) => Err(PutError::Full(item)),
                Err(Not::Ever(item)) => Err(PutError::ShutDown(item)),
            };
        }
        let mut back = self.back.lock();
        if self.shut.load(Ordering::Relaxed) {
            drop(back);
            return Err(PutError::ShutDown(item));
        }
        if !self.has_room(&mut back) {
            drop(back);
            return Err(PutError::Full(item));
        }
        back.items.push(item);
        self.put
            .store(self.put.load(Ordering::Relaxed) + 1, Ordering::Release);
        drop(back);
        self.tell(&self.items);
        Ok(())
    }

    /// Rule 2.
    #[inline]
    fn has_room(&self, back: &mut Back<T, O>) -> bool {
        let put = self.put.load(Ordering::Relaxed);
        if put - back.got >= self.capacity {
            back.got = self.got.load(Ordering::SeqCst);
        }
        put - back.got < self.capacity
    }

    /// Wakes one who waits for what has changed (rule 4).
    #[inline]
    fn tell(&self, bell: &Bell) {
        if bell.is_wanted() {
            self.tell_one(bell);
        }
    }

    #[cold]
    fn tell_one(&self, bell: &Bell) {
        let mut back = self.back.lock();
        let watchers = back.watchers.all();
        bell.ring(&mut back);
        drop(back);
        watchers.poke();
    }

    #[inline]
    #[track_caller]
    pub(super) fn get_until(&self, until: Until) -> Result<T, GetError> {
        match self.pop() {
            Err(GetError::Empty) if until != Until::Now => self.get_later(until),
            got => got,
        }
    }

    #[track_caller]
    fn get_later(&self, until: Until) -> Result<T, GetError> {
        loop {
            if !self.glance(|| !self.is_empty()) {
                self.wait_while(&self.items, until, || self.is_empty());
            }
            match self.pop() {
                Err(GetError::Empty) if !until.is_over() => {}
                got => return got,
            }
        }
    }

    /// Gets an item that is there (rule 1).
    #[inline]
    fn pop(&self) -> Result<T, GetError> {
        if let Some(ring) = &self.ring {
            return match ring.pop() {
                Ok(item) => Ok(self.popped(item)),
                Err(Not::Now(())) => Err(GetError::Empty),
                Err(Not::Ever(())) => Err(GetError::ShutDown),
            };
        }
        if !O::IN_TURN {
            let mut back = self.back.lock();
            return match back.items.pop() {
                Some(item) => {
                    self.count_got();
                    drop(back);
                    Ok(self.popped(item))
                }
                None => Err(self.nothing()),
            };
        }
        let mut front = self.front.lock();
        if front.is_empty() {
            let mut back = self.back.lock();
            std::mem::swap(&mut *front, &mut back.items);
            if front.is_empty() {
                return Err(self.nothing());
            }
        }
        match front.pop() {
            Some(item) => {
                self.count_got();
                drop(front);
                Ok(self.popped(item))
            }
            None => Err(GetError::Empty),
        }
    }

    /// Why nothing is there; with the back locked.
    fn nothing(&self) -> GetError {
        if self.shut.load(Ordering::Relaxed) {
            GetError::ShutDown
        } else {
            GetError::Empty
        }
    }

    /// With what the item was got from locked.
    #[inline]
    fn count_got(&self) {
        let got = self.got.load(Ordering::Relaxed) + 1;
        // Without a bound nobody waits for room.
        let bounded = self.capacity < u64::MAX;
        self.got.store(
            got,
            if bounded {
                Ordering::SeqCst
            } else {
                Ordering::Release
            },
        );
    }

    #[inline]
    fn popped(&self, item: T) -> T {
        if self.capacity < u64::MAX {
            self.tell(&self.room);
        }
        item
    }

    /// From now on `poke` hears of each change, until it is let go.
    #[cfg(not(loom))]
    pub(super) fn watch(&self, poke: &Poke) {
        let mut back = self.back.lock();
        back.watchers.add(poke);
        self.room.watched();
        self.items.watched();
    }

    #[cfg(not(loom))]
    pub(super) fn unwatch(&self, poke: &Poke) {
        let mut back = self.back.lock();
        back.watchers.remove(poke);
        self.room.unwatched();
        self.items.unwatched();
    }
}

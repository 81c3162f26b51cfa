//! A hierarchical timing wheel: deadlines in order, in constant time, linked through entries that lie wherever their owners keep them.
//!
//! Time is counted in ticks. Each level has 64 slots; a slot of level 0 is one tick, one of level 1 is 64, and so on. An entry is
//! filed by the highest digit, to the base of 64, in which its tick differs from the tick up to which the wheel has gone:
//!
//! ```text
//! level 2   digit 2 differs         0 ....... 63     slots of 4 096 ticks
//! level 1   digit 1 does            0 ....... 63     slots of 64
//! level 0   only the last, or none  0 ....... 63     slots of 1
//! ```
//!
//! So everything on a level is due before anything on the levels above, and on one level the slots are due in order: all of them lie
//! ahead. Whenever the wheel has gone up to the beginning of a slot, the slot's entries are filed anew, each on a lower level, and those of
//! level 0 are due. Nine levels take every tick there can be.
//!
//! An entry is in the wheel from [`add`](Wheel::add) until it is removed or given out, and its owner keeps it where it is for that
//! time. Each slot knows the least tick that was filed there: so a worker sleeps until a deadline, not until a slot begins.

#![expect(
    unsafe_code,
    reason = "entries are linked by address while they are in the wheel"
)]

use std::cell::Cell;
use std::ptr::NonNull;

/// Bits of one digit of a tick.
const DIGIT: u32 = 6;
/// Slots of one level.
const SLOTS: usize = 1 << DIGIT;
/// Levels: as many digits as a tick has.
const LEVELS: usize = (TICK_BITS as usize).div_ceil(DIGIT as usize);
/// Bits of a tick that are used.
const TICK_BITS: u32 = 54;
/// The last tick there is.
pub(super) const TICK_MAX: u64 = (1 << TICK_BITS) - 1;

/// What is in a wheel: a deadline, and what its owner wants to know when it is due.
#[derive(Debug)]
pub(super) struct Entry<T> {
    /// The links are meaningful while it is in the wheel.
    is_filed: Cell<bool>,
    tick: Cell<u64>,
    /// Its neighbours in the list of its slot.
    older: Link<T>,
    newer: Link<T>,
    pub(super) what: T,
}

type Link<T> = Cell<Option<NonNull<Entry<T>>>>;

impl<T> Entry<T> {
    pub(super) fn new(what: T) -> Self {
        Self {
            is_filed: Cell::new(false),
            tick: Cell::new(0),
            older: Cell::new(None),
            newer: Cell::new(None),
            what,
        }
    }

    pub(super) fn is_filed(&self) -> bool {
        self.is_filed.get()
    }
}

/// Entries by their ticks; those of one tick in the order in which they were added.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    /// Up to where it has gone: everything in it is due at this tick or later.
    now: u64,
    /// Bit n: whether anything is on level n.
    used: u16,
    /// Made when they are first needed: most wheels need three or four.
    levels: [Option<Box<Level<T>>>; LEVELS],
}

const _: () = assert!(LEVELS == 9);

#[derive(Debug)]
struct Level<T> {
    /// Bit n: whether anything is in slot n.
    used: u64,
    slots: [Slot<T>; SLOTS],
}

#[derive(Debug)]
struct Slot<T> {
    oldest: Option<NonNull<Entry<T>>>,
    newest: Option<NonNull<Entry<T>>>,
    /// No tick in it is less; what had this one may have been removed.
    least: u64,
}

impl<T> Slot<T> {
    const EMPTY: Self = Self {
        oldest: None,
        newest: None,
        least: u64::MAX,
    };
}

impl<T> Level<T> {
    fn new() -> Box<Self> {
        Box::new(Self {
            used: 0,
            slots: [Slot::EMPTY; SLOTS],
        })
    }
}

impl<T> Wheel<T> {
    pub(super) const fn new() -> Self {
        Self {
            now: 0,
            used: 0,
            levels: [const { None }; LEVELS],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Files an entry under `tick`, or as due if that is past.
    ///
    /// # Safety
    ///
    /// - The entry is in no wheel, and stays where it is, alive, until it is removed or given out.
    pub(super) unsafe fn add(&mut self, entry: NonNull<Entry<T>>, tick: u64) {
        // SAFETY: alive, by the caller's promise.
        let it = unsafe { entry.as_ref() };
        debug_assert!(!it.is_filed());
        it.is_filed.set(true);
        it.tick.set(tick.clamp(self.now, TICK_MAX));
        // SAFETY: in no list, and alive.
        unsafe { self.file(entry) };
    }

    /// Takes an entry out.
    ///
    /// # Safety
    ///
    /// - The entry is in this wheel.
    pub(super) unsafe fn remove(&mut self, entry: NonNull<Entry<T>>) {
        // SAFETY: in the wheel, and so alive.
        let it = unsafe { entry.as_ref() };
        debug_assert!(it.is_filed());
        let (level, slot) = self.place(it.tick.get());
        let (older, newer) = (it.older.get(), it.newer.get());
        let (used, list) = self.slot(level, slot);
        match older {
            // SAFETY: linked, and so in the wheel and alive.
            Some(older) => unsafe { older.as_ref() }.newer.set(newer),
            None => list.oldest = newer,
        }
        match newer {
            // SAFETY: as above.
            Some(newer) => unsafe { newer.as_ref() }.older.set(older),
            None => list.newest = older,
        }
        if list.oldest.is_none() {
            list.least = u64::MAX;
            *used &= !(1 << slot);
            if *used == 0 {
                self.used &= !(1 << level);
            }
        }
        it.is_filed.set(false);
    }

    /// The tick before which nothing is due; none if there is nothing. Later than some deadline never, earlier only if that one was removed.
    pub(super) fn nearest(&self) -> Option<u64> {
        let (level, slot) = self.first()?;
        let level = self.levels[level].as_deref().expect("it is used");
        Some(level.slots[slot].least)
    }

    /// Goes up to `tick`, or to the first entry that is due until then, and gives that out.
    pub(super) fn pop_due(&mut self, tick: u64) -> Option<NonNull<Entry<T>>> {
        while let Some((level, slot)) = self.first() {
            let begin = self.begin(level, slot);
            if begin > tick {
                break;
            }
            self.now = begin;
            if level == 0 {
                let oldest = self.slot(0, slot).1.oldest.expect("the slot is used");
                // SAFETY: it is in the slot.
                unsafe { self.remove(oldest) };
                return Some(oldest);
            }
            self.spread(level, slot);
        }
        // All slots that are used begin later, so everything stays where it is.
        self.now = self.now.max(tick.min(TICK_MAX));
        None
    }

    /// The slot that comes first: everything in it is due before everything elsewhere.
    fn first(&self) -> Option<(usize, usize)> {
        if self.used == 0 {
            return None;
        }
        let level = self.used.trailing_zeros() as usize;
        let used = self.levels[level].as_deref().expect("it is used").used;
        Some((level, used.trailing_zeros() as usize))
    }

    /// Files the entries of a slot that begins now anew. They go to lower levels: with the slot's digit they have those above in common
    /// with now.
    fn spread(&mut self, level: usize, slot: usize) {
        let (used, list) = self.slot(level, slot);
        let mut next = std::mem::replace(list, Slot::EMPTY).oldest;
        *used &= !(1 << slot);
        if *used == 0 {
            self.used &= !(1 << level);
        }
        while let Some(entry) = next {
            // SAFETY: it was in the slot, and so it is alive.
            next = unsafe { entry.as_ref() }.newer.get();
            // SAFETY: alive, and its list is no more.
            unsafe { self.file(entry) };
        }
    }

    /// Links an entry into the list of its slot, as the newest.
    ///
    /// # Safety
    ///
    /// - As for `add`; its tick is set, and not past.
    unsafe fn file(&mut self, entry: NonNull<Entry<T>>) {
        // SAFETY: the caller's promise.
        let it = unsafe { entry.as_ref() };
        let tick = it.tick.get();
        let (level, slot) = self.place(tick);
        self.used |= 1 << level;
        let (used, list) = self.slot(level, slot);
        *used |= 1 << slot;
        list.least = list.least.min(tick);
        it.newer.set(None);
        it.older.set(list.newest.replace(entry));
        match it.older.get() {
            // SAFETY: linked, and so in the wheel and alive.
            Some(older) => unsafe { older.as_ref() }.newer.set(Some(entry)),
            None => list.oldest = Some(entry),
        }
    }

    /// Where a tick that is not past is filed.
    fn place(&self, tick: u64) -> (usize, usize) {
        debug_assert!(tick >= self.now && tick <= TICK_MAX);
        // One bit for the case that no digit differs.
        let highest = 63 - ((tick ^ self.now) | 1).leading_zeros();
        let level = highest / DIGIT;
        let slot = (tick >> (level * DIGIT)) as usize % SLOTS;
        (level as usize, slot)
    }

    /// The first tick of a slot that lies ahead.
    fn begin(&self, level: usize, slot: usize) -> u64 {
        let shift = level as u32 * DIGIT;
        let above = shift + DIGIT;
        (self.now >> above << above) | (slot as u64) << shift
    }

    /// A slot, and which slots of its level are used.
    fn slot(&mut self, level: usize, slot: usize) -> (&mut u64, &mut Slot<T>) {
        let level = self.levels[level].get_or_insert_with(Level::new);
        (&mut level.used, &mut level.slots[slot])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A wheel, and beside it a map that says what it should do.
    struct Pair {
        wheel: Wheel<u64>,
        /// By tick, then by the order of adding.
        model: BTreeMap<(u64, u64), NonNull<Entry<u64>>>,
        now: u64,
        next: u64,
    }

    impl Pair {
        fn new() -> Self {
            Self {
                wheel: Wheel::new(),
                model: BTreeMap::new(),
                now: 0,
                next: 0,
            }
        }

        fn add(&mut self, tick: u64) {
            let nth = self.next;
            self.next += 1;
            let entry = NonNull::from(Box::leak(Box::new(Entry::new(nth))));
            // SAFETY: leaked, and freed by `take` once it is out of the wheel.
            unsafe { self.wheel.add(entry, tick) };
            self.model.insert((tick.max(self.now), nth), entry);
        }

        fn remove(&mut self, nth: usize) {
            let key = *self.model.keys().nth(nth).expect("there are as many");
            let entry = self.model.remove(&key).expect("just seen");
            // SAFETY: in the model, and so in the wheel.
            unsafe { self.wheel.remove(entry) };
            Self::take(entry);
        }

        fn take(entry: NonNull<Entry<u64>>) -> u64 {
            // SAFETY: leaked by `add`, and out of the wheel.
            let entry = unsafe { Box::from_raw(entry.as_ptr()) };
            assert!(!entry.is_filed());
            entry.what
        }

        fn go_to(&mut self, tick: u64) {
            while let Some(entry) = self.wheel.pop_due(tick) {
                let given = Self::take(entry);
                let ((due, nth), _) = self.model.pop_first().expect("the wheel gave one more");
                assert_eq!(given, nth, "due at {due}, gone to {tick}");
                assert!(due <= tick);
            }
            self.now = self.now.max(tick);
            self.check();
        }

        fn check(&self) {
            let first = self.model.first_key_value().map(|(&(tick, _), _)| tick);
            assert!(
                first.is_none_or(|first| first > self.now),
                "one was not given out"
            );
            assert_eq!(self.wheel.is_empty(), first.is_none());
            let nearest = self.wheel.nearest();
            assert_eq!(nearest.is_some(), first.is_some());
            assert!(
                nearest <= first,
                "{nearest:?} is later than {first:?}: somebody oversleeps"
            );
        }
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            for entry in std::mem::take(&mut self.model).into_values() {
                Self::take_filed(entry);
            }
        }
    }

    impl Pair {
        fn take_filed(entry: NonNull<Entry<u64>>) {
            // SAFETY: leaked by `add`; the wheel is not used any more.
            drop(unsafe { Box::from_raw(entry.as_ptr()) });
        }
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, end: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % end
        }

        /// Mostly small, of any size now and then.
        fn size(&mut self) -> u64 {
            let bits = self.below(40);
            self.below(1 << bits)
        }
    }

    #[test]
    fn wheel_does_as_a_sorted_map_for_any_operations() {
        for seed in 1..60 {
            let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            let mut pair = Pair::new();
            for _ in 0..2_000 {
                match random.below(10) {
                    0..5 => pair.add(pair.now + 1 + random.size()),
                    5..8 if !pair.model.is_empty() => {
                        let nth = random.below(pair.model.len() as u64);
                        pair.remove(nth as usize);
                        pair.check();
                    }
                    _ => {
                        // Near the next deadline, so that all sides of it are seen.
                        let first = pair.model.first_key_value().map(|(&(tick, _), _)| tick);
                        let tick = match (first, random.below(4)) {
                            (Some(first), 0) => first - 1,
                            (Some(first), 1) => first,
                            (Some(first), 2) => first + random.below(5_000),
                            _ => pair.now + random.size(),
                        };
                        pair.go_to(tick.max(pair.now));
                    }
                }
            }
        }
    }

    #[test]
    fn tick_that_is_past_is_due_at_once() {
        let mut pair = Pair::new();
        pair.go_to(100_000);
        pair.add(5);
        pair.add(100_000);
        pair.add(100_001);
        pair.go_to(100_000);
        assert_eq!(pair.model.len(), 1);
    }

    #[test]
    fn ticks_at_the_end_of_time_stay_in_order() {
        let mut pair = Pair::new();
        pair.add(TICK_MAX);
        pair.add(TICK_MAX - 1);
        pair.add(1);
        pair.go_to(TICK_MAX - 2);
        assert_eq!(pair.model.len(), 2);
        pair.go_to(TICK_MAX - 1);
        assert_eq!(pair.model.len(), 1);
        pair.go_to(TICK_MAX);
        assert!(pair.model.is_empty());
        let mut wheel = Wheel::new();
        let entry = Box::new(Entry::new(()));
        // SAFETY: it is taken out below.
        unsafe { wheel.add(NonNull::from(&*entry), u64::MAX) };
        assert_eq!(wheel.nearest(), Some(TICK_MAX));
        assert!(wheel.pop_due(u64::MAX).is_some());
        assert!(wheel.is_empty());
    }

    #[test]
    fn nearest_is_the_deadline_and_not_the_beginning_of_its_slot() {
        let mut pair = Pair::new();
        pair.add(1_000_003);
        pair.add(1_000_001);
        assert_eq!(pair.wheel.nearest(), Some(1_000_001));
        // The nearest was removed: one look too many at most.
        pair.remove(0);
        assert_eq!(pair.wheel.nearest(), Some(1_000_001));
        pair.go_to(1_000_002);
        assert_eq!(pair.wheel.nearest(), Some(1_000_003));
        pair.go_to(1_000_003);
    }
}

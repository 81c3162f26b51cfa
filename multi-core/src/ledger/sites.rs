//! Where tasks were started, by a small number.

use std::collections::HashMap;
use std::panic::Location;
use std::ptr;

/// The start sites a group has seen. There are as many as lines of code that start its tasks.
#[derive(Default)]
pub(super) struct Sites {
    known: Vec<&'static Location<'static>>,
    /// Index by address, for groups with more than a few.
    by_address: HashMap<usize, u16>,
    /// The index that was asked for last.
    last: u16,
}

impl Sites {
    /// The number of every site beyond the first 65 535: they are not told apart here.
    pub(super) const UNTOLD: u16 = u16::MAX;

    /// The number of `site`.
    pub(super) fn index(&mut self, site: &'static Location<'static>) -> u16 {
        match self.known.get(usize::from(self.last)) {
            Some(last) if ptr::eq(*last, site) => self.last,
            _ => self.find(site),
        }
    }

    fn find(&mut self, site: &'static Location<'static>) -> u16 {
        let address = ptr::from_ref(site).addr();
        let next = self.known.len();
        self.last = *self.by_address.entry(address).or_insert_with(|| {
            if next < usize::from(Self::UNTOLD) {
                self.known.push(site);
            }
            u16::try_from(next).unwrap_or(Self::UNTOLD)
        });
        self.last
    }

    /// The site of that number; none for [`UNTOLD`](Self::UNTOLD).
    pub(super) fn get(&self, index: u16) -> Option<&'static Location<'static>> {
        self.known.get(usize::from(index)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_number_of_its_own() {
        let mut sites = Sites::default();
        let (here, there) = (Location::caller(), of_next_line());
        let numbers = [here, there, there, here].map(|site| sites.index(site));
        assert_eq!(numbers, [0, 1, 1, 0]);
        assert_eq!(sites.get(1), Some(there));
    }

    #[track_caller]
    fn of_next_line() -> &'static Location<'static> {
        Location::caller()
    }
}

//! A place deep down a stack.

use std::hint;

/// Uses some stack, calls `then` below it, and looks at it again afterwards.
pub(crate) fn deep(depth: usize, then: &mut dyn FnMut()) {
    let here = hint::black_box([depth; 32]);
    if depth == 0 {
        then();
    } else {
        deep(depth - 1, then);
    }
    assert_eq!(hint::black_box(here), [depth; 32]);
}

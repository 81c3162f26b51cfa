//! Sorts a million numbers with `join`: the halves of each half, down to pieces that are not worth it.

use multi_goro::{Runtime, join};

/// Numbers that are sorted in one piece.
const PIECE: usize = 2_000;

fn sort(numbers: &mut [u64], spare: &mut [u64]) {
    if numbers.len() <= PIECE {
        numbers.sort_unstable();
        return;
    }
    let middle = numbers.len() / 2;
    let (left, right) = numbers.split_at_mut(middle);
    let (left_spare, right_spare) = spare.split_at_mut(middle);
    join(|| sort(left, left_spare), || sort(right, right_spare));
    merge(left, right, spare);
    numbers.copy_from_slice(spare);
}

fn merge<'a>(mut left: &'a [u64], mut right: &'a [u64], into: &mut [u64]) {
    for place in into {
        let from = match (left.first(), right.first()) {
            (Some(l), Some(r)) if l <= r => &mut left,
            (Some(_), None) => &mut left,
            _ => &mut right,
        };
        *place = from[0];
        *from = &from[1..];
    }
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn main() -> multi_goro::Result {
    let runtime = Runtime::builder().build()?;
    let mut state = 1u64;
    let mut numbers: Vec<u64> = (0..1_000_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 33
        })
        .collect();
    let mut spare = vec![0; numbers.len()];
    runtime.run(|| sort(&mut numbers, &mut spare));
    assert!(numbers.is_sorted());
    println!(
        "{} numbers in order, by {} workers",
        numbers.len(),
        runtime.workers()
    );
    Ok(())
}

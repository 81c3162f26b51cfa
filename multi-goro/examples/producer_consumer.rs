//! Producers and consumers around a small buffer, each with a time limit: a producer gives a parcel up when nobody makes room in
//! time, a consumer goes home when nothing has come for a while. No parcel gets lost in between.
//!
//!     cargo run -p multi-goro --example producer_consumer -- 3 2 20
//!
//! The arguments: producers, consumers, parcels of each producer.

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::Duration;

use multi_goro::{Group, Receiver, Result, Sender, chan, select, sleep};

/// What waits between the two sides at most.
const SHELF: usize = 4;
/// How long a producer tries to get rid of a parcel.
const OFFER: Duration = Duration::from_millis(2);
/// How long a consumer waits for the next.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a consumer is busy with one.
const WORK: Duration = Duration::from_millis(1);

fn main() -> Result {
    let mut args = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut next = |default| args.next().unwrap_or(Ok(default));
    let (producers, consumers, parcels) = (next(3)?, next(2)?, next(20)?);

    let mut group = Group::new();
    let (tx, shelf) = chan(SHELF);
    let (close, closing) = chan::<()>(0);
    let producing: Vec<_> = (0..producers)
        .map(|_| {
            let tx = tx.clone();
            group.spawn(move || produce(parcels, &tx))
        })
        .collect();
    let consuming: Vec<_> = (0..consumers)
        .map(|_| {
            let (shelf, closing) = (shelf.clone(), closing.clone());
            group.spawn(move || consume(&shelf, &closing))
        })
        .collect();

    let mut delivered = 0;
    for producer in producing {
        delivered += producer.join()?;
    }
    // The last one has gone home: so may the consumers, once the shelf is empty.
    drop(close);
    let mut consumed = 0;
    for consumer in consuming {
        consumed += consumer.join()?;
    }
    group.wait()?;
    let left = shelf.try_iter().count() as u64;
    println!(
        "{} parcels: {delivered} delivered, {consumed} consumed, {left} left",
        producers * parcels
    );
    assert_eq!(delivered, consumed + left);
    Ok(())
}

/// Offers so many parcels; returns how many were taken.
fn produce(parcels: u64, shelf: &Sender<u64>) -> Result<u64> {
    let mut delivered = 0;
    for parcel in 0..parcels {
        select! {
            send(shelf, parcel) -> sent => {
                sent?;
                delivered += 1;
            }
            after(OFFER) => {}
        }
    }
    Ok(delivered)
}

/// Consumes until told that no more will come, or until nothing has come for too long.
fn consume(shelf: &Receiver<u64>, closing: &Receiver<()>) -> Result<u64> {
    let mut consumed = 0;
    loop {
        select! {
            recv(shelf) -> parcel => {
                parcel?;
                consumed += 1;
                sleep(WORK);
            }
            recv(closing) -> _closed => return Ok(consumed + shelf.try_iter().count() as u64),
            after(PATIENCE) => return Ok(consumed),
        }
    }
}

//! Producers, a consumer with a time limit, and a word to stop: what `select!` is for.
//!
//!     cargo run -p multi-goro --example select

#![expect(clippy::print_stdout, reason = "prints its result")]

use std::time::Duration;

use multi_goro::{Group, Receiver, Result, Sender, chan, select, sleep};

const PATIENCE: Duration = Duration::from_millis(50);

fn main() -> Result {
    let (tx, parcels) = chan(2);
    let (stop, stopped) = chan::<()>(0);
    let mut group = Group::new();
    for (name, pause) in [("slow", 7), ("quick", 3)] {
        let (tx, stopped) = (tx.clone(), stopped.clone());
        group.go(move || produce(name, Duration::from_millis(pause), &tx, &stopped));
    }
    let consumer = group.spawn(move || consume(&parcels, 20));
    let count = consumer.join()?;
    // Everybody who listens to it hears of its end.
    drop(stop);
    group.wait()?;
    println!("{count} parcels");
    Ok(())
}

/// Sends until told to stop. A full channel does not keep it from hearing that.
fn produce(name: &str, pause: Duration, tx: &Sender<String>, stopped: &Receiver<()>) -> Result {
    for n in 1.. {
        let mut parcel = Some(format!("{name} {n}"));
        select! {
            send(tx, in parcel) -> sent => {
                if sent.is_err() {
                    break;
                }
            }
            recv(stopped) -> _ended => {
                println!("not sent: {}", parcel.as_deref().unwrap_or("nothing"));
                break;
            }
        }
        sleep(pause);
    }
    Ok(())
}

/// Takes that many parcels, or as many as come in time.
fn consume(parcels: &Receiver<String>, most: usize) -> Result<usize> {
    for count in 0..most {
        select! {
            recv(parcels) -> parcel => println!("got {}", parcel?),
            after(PATIENCE) => return Ok(count),
        }
    }
    Ok(most)
}

//! A steady rate.

mod common;

use std::time::{Duration, Instant};

use common::watchdog;
use multi_goro::Runtime;

#[test]
fn ticker_keeps_its_rate_and_counts_what_was_missed() {
    let _dog = watchdog(60);
    let period = Duration::from_millis(4);
    let check = || {
        let start = Instant::now();
        let mut ticker = multi_goro::Ticker::new(period);
        let mut ended = 0;
        for _ in 0..4 {
            ended += ticker.tick();
            assert!(
                start.elapsed() >= period * u32::try_from(ended).unwrap(),
                "early"
            );
        }
        multi_goro::sleep(3 * period);
        assert_eq!(ticker.left(), Duration::ZERO);
        let missed = ticker.tick();
        assert!(missed >= 2, "one tick for all that passed");
        ended += missed;
        assert!(
            start.elapsed() >= period * u32::try_from(ended).unwrap(),
            "early"
        );
        assert!(ticker.left() <= period);
        ticker.reset();
        assert_eq!((ticker.tick() >= 1, ticker.period()), (true, period));
    };
    check();
    Runtime::builder().workers(1).build().unwrap().run(check);
}

//! One kill: a channel, sleepers, a victim that dies after its n-th write, and what becomes of the rest.
//!
//! The survivors are left alone as long as there is anything that they must notice by themselves: a message while
//! receivers are waiting, room while senders are. A wake that died with the victim is therefore missed, not
//! replaced by the next one. `LATE` is below the second after which every sleeper looks round as a matter of routine.

use crate::ledger::{Ledger, Message, SENDERS, Sums, be_exempt, ledger};
use crate::support::{self, Child, End, Random, fork, monotonic, pause_us};
use std::panic::Location;
use std::thread;
use std::time::Duration;

/// A survivor that takes this long was not woken: it looked round on its own.
const LATE: Duration = Duration::from_millis(700);
/// How long the first of two victims may wait for somebody who will not come.
const IN_VAIN: Duration = Duration::from_millis(8);
/// How long the harness tries at a time where it is its turn.
const TURN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Sender,
    Receiver,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried<T> {
    Done(T),
    /// Nothing to receive, or no room, for as long as was allowed.
    NotNow,
    /// Closed, or nobody on the other side.
    Over,
}

/// A channel as the harness sees it; besides ours, one that is known to hang.
pub(crate) trait Subject {
    /// A survivor that takes this long will never be done.
    const HUNG: Duration = Duration::from_secs(4);

    /// A side belongs to the process that uses it.
    const ONE_USER: bool = false;

    /// A message that comes again may come behind newer ones.
    const COMES_AGAIN: bool = false;

    fn new(capacity: usize) -> Self;
    /// Waits for ever without a limit.
    fn send(&self, message: Message, limit: Option<Duration>) -> Tried<()>;
    fn recv(&self, limit: Option<Duration>) -> Tried<Message>;
    fn len(&self) -> usize;
    /// True once nobody can send any more.
    fn is_closed(&self) -> bool;

    /// All of the shared state in words, for who has to explain a hang; nothing where hangs are expected.
    fn state(&self) -> String {
        String::new()
    }

    /// Bytes in use beside the ring, when it is empty.
    fn left_over(&self) -> usize {
        0
    }
}

/// The channel of one run and the record of what happens to it.
pub(crate) struct Stage<S> {
    pub(crate) subject: S,
    pub(crate) capacity: usize,
    pub(crate) ledger: &'static Ledger,
}

/// What a victim does, beside whom.
pub(crate) struct Scene<S> {
    pub(crate) name: &'static str,
    pub(crate) capacity: usize,
    /// Messages in the channel before anything else.
    pub(crate) filled: usize,
    /// Processes asleep in a blocking operation, which each wants done once.
    pub(crate) sleepers: Option<(Side, usize)>,
    /// On whose side the victim waits, if it has to.
    pub(crate) waits_as: Side,
    pub(crate) act: fn(&Stage<S>, who: usize),
    /// What the harness does between the sleepers' falling asleep and the victim's going.
    pub(crate) before: fn(&Stage<S>),
    /// The forked process itself is the victim, from its very first step.
    pub(crate) at_birth: bool,
    /// Messages that may die with the victim.
    pub(crate) in_hand: u32,
    /// Whether the channel can be used afterwards.
    pub(crate) goes_on: bool,
    /// Whether it leaves anything in the channel that only its death can leave, for others to see to.
    pub(crate) leaves_something: bool,
}

/// What became of one kill.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Where the victim died; `None` if it reached its end.
    pub(crate) site: Option<&'static Location<'static>>,
    /// From the death to the last survivor's end.
    pub(crate) resumed: Duration,
    pub(crate) result: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Whole,
    Late,
    Hung,
    Broken(String),
}

impl<S> Scene<S> {
    /// Nothing happens, to nobody.
    pub(crate) fn quiet(capacity: usize) -> Scene<S> {
        Scene {
            name: "",
            capacity,
            filled: 0,
            sleepers: None,
            waits_as: Side::Sender,
            act: |_, _| {},
            before: |_| {},
            at_birth: false,
            in_hand: 0,
            goes_on: true,
            leaves_something: true,
        }
    }
}

impl<S: Subject> Stage<S> {
    fn new(capacity: usize) -> Stage<S> {
        let ledger = ledger();
        ledger.reset();
        Stage {
            subject: S::new(capacity),
            capacity,
            ledger,
        }
    }

    pub(crate) fn send(&self, who: usize, limit: Option<Duration>) -> Tried<()> {
        let message = self.ledger.try_next(who);
        let sent = self.subject.send(message, limit);
        if sent == Tried::Done(()) {
            self.ledger.has_sent(message);
        } else {
            self.ledger.has_not_sent(who);
        }
        sent
    }

    pub(crate) fn recv(
        &self,
        last: &mut [u64; SENDERS],
        limit: Option<Duration>,
    ) -> Tried<Message> {
        let got = self.subject.recv(limit);
        if let Tried::Done(message) = got {
            self.ledger.has_received(message, last);
        }
        got
    }

    /// A forked process that does one operation and is entered in the ledger as `who`.
    fn sleeper(&self, side: Side, who: usize) -> Child {
        fork(|| {
            be_exempt();
            match side {
                Side::Sender => drop(self.send(who, None)),
                Side::Receiver => drop(self.recv(&mut [0; SENDERS], None)),
            }
        })
    }
}

/// The process that has died before: what it did, and after which write it died.
pub(crate) type First<'a, S> = (&'a Scene<S>, u32);

/// A forked process of a run.
struct Member {
    child: Child,
    side: Side,
    is_victim: bool,
}

/// Plays `scene` with its victim killed after `writes` writes; with `first`, in the wake of that other death.
pub(crate) fn perform<S: Subject>(
    scene: &Scene<S>,
    writes: u32,
    first: Option<First<'_, S>>,
    random: &mut Random,
) -> Shown {
    support::arm_watchdog();
    let stage = Stage::<S>::new(scene.capacity);
    let ledger = stage.ledger;
    let fill = || {
        for _ in 0..first.map_or(scene.filled, |(scene, _)| scene.filled) {
            assert_eq!(stage.send(0, Some(Duration::ZERO)), Tried::Done(()));
        }
    };
    if S::ONE_USER {
        fork(fill).join();
    } else {
        fill();
    }
    let mut crew: Vec<Member> = Vec::new();
    if let Some((side, count)) = scene.sleepers {
        crew.extend((0..count).map(|n| Member {
            child: stage.sleeper(side, 2 + n),
            side,
            is_victim: false,
        }));
        for sleeper in &crew {
            await_that(|| sleeper.child.is_asleep());
        }
        // Some are in their first nap then, some in the sleep after it.
        pause_us(random.below(4_000));
    }
    let victim = if scene.at_birth {
        (scene.before)(&stage);
        ledger.aim(0, -i64::from(std::process::id()), writes);
        fork(|| {
            ledger.has_begun();
            (scene.act)(&stage, 1);
            ledger.spare(0);
        })
    } else {
        // Forked before the first one dies: a fork sees to the dead, too.
        let victim = fork(|| {
            ledger.await_go();
            ledger.aim(0, std::process::id().into(), writes);
            ledger.has_begun();
            (scene.act)(&stage, 1);
            ledger.spare(0);
        });
        if let Some((before, its_writes)) = first {
            let began = monotonic();
            let dead = fork(|| {
                ledger.aim(1, std::process::id().into(), its_writes);
                (before.act)(&stage, 4);
                ledger.spare(1);
            });
            // One that waits for somebody dies in its sleep.
            await_that(|| dead.has_ended() || dead.is_asleep() && monotonic() - began > IN_VAIN);
            dead.kill_if_alive();
        }
        (scene.before)(&stage);
        ledger.go();
        victim
    };
    // Until it is dead, done, or needs the others to go on.
    await_that(|| victim.has_ended() || (ledger.is_begun() && victim.is_asleep()));
    crew.push(Member {
        child: victim,
        side: scene.waits_as,
        is_victim: true,
    });
    let mut last = [0; SENDERS];
    let mut result = rest(&stage, crew, &mut last);
    let death = ledger.death(0);
    ledger.spare(0);
    let resumed = death.map_or(Duration::ZERO, |(_, died)| monotonic().saturating_sub(died));
    let in_hand = scene.in_hand + first.map_or(0, |(scene, _)| scene.in_hand);
    let goes_on = scene.goes_on && first.is_none_or(|(scene, _)| scene.goes_on);
    if matches!(result, Outcome::Whole | Outcome::Late)
        && let Err(why) = aftermath(&stage, goes_on, in_hand, &mut last)
    {
        result = Outcome::Broken(why);
    }
    Shown {
        site: death.map(|(site, _)| site),
        resumed,
        result,
    }
}

/// Gives everybody who is left what they wait for, but nothing that is there for them already.
fn rest<S: Subject>(stage: &Stage<S>, mut crew: Vec<Member>, last: &mut [u64; SENDERS]) -> Outcome {
    let began = monotonic();
    let mut moved = began;
    let mut late = false;
    let mut failure = None;
    loop {
        let before = crew.len();
        crew.retain_mut(|member| match member.child.ended() {
            None => true,
            Some(End::Exited(0)) => false,
            Some(End::Signaled(libc::SIGKILL)) if member.is_victim => false,
            Some(other) => {
                failure = Some(format!("a survivor ended with {other:?}"));
                false
            }
        });
        if let Some(failure) = failure {
            return Outcome::Broken(failure);
        }
        if crew.is_empty() {
            return if late { Outcome::Late } else { Outcome::Whole };
        }
        let now = monotonic();
        if crew.len() < before {
            moved = now;
        }
        late |= now - moved > LATE;
        if now - began > S::HUNG {
            tell_of_hang(stage, &crew);
            return Outcome::Hung;
        }
        let waits = |side| crew.iter().any(|member| member.side == side);
        let (receivers, senders) = (waits(Side::Receiver), waits(Side::Sender));
        let len = stage.subject.len();
        let theirs = stage.subject.is_closed()
            || stage.capacity > 0 && (receivers && len > 0 || senders && len < stage.capacity);
        let answer = if theirs {
            thread::yield_now();
            continue;
        } else if receivers {
            stage.send(0, Some(TURN))
        } else {
            match stage.recv(last, Some(TURN)) {
                Tried::Done(_) => Tried::Done(()),
                Tried::NotNow => Tried::NotNow,
                Tried::Over => Tried::Over,
            }
        };
        match answer {
            Tried::Done(()) => moved = monotonic(),
            // It may be just ending; and who finds the end before us will find it, too.
            Tried::NotNow | Tried::Over => thread::yield_now(),
        }
    }
}

/// Puts what a hang looks like into words: who is left and where each of its threads sleeps, and all shared state.
fn tell_of_hang<S: Subject>(stage: &Stage<S>, crew: &[Member]) {
    let state = stage.subject.state();
    if state.is_empty() {
        return;
    }
    println!("hung: this is process {}", std::process::id());
    for member in crew {
        let role = if member.is_victim {
            "victim"
        } else {
            "survivor"
        };
        println!("{role}, {:?}: {}", member.side, member.child.whereabouts());
    }
    println!("{state}");
}

/// Takes what is left, sees whether the channel is whole, and adds up.
fn aftermath<S: Subject>(
    stage: &Stage<S>,
    goes_on: bool,
    in_hand: u32,
    last: &mut [u64; SENDERS],
) -> Result<(), String> {
    while let Tried::Done(_) = stage.recv(last, Some(Duration::ZERO)) {}
    if goes_on && stage.capacity > 0 {
        for n in 0..stage.capacity {
            if stage.send(0, Some(Duration::ZERO)) != Tried::Done(()) {
                return Err(format!("room for {n} only of {}", stage.capacity));
            }
        }
        if stage.send(0, Some(Duration::ZERO)) != Tried::NotNow {
            return Err(format!("room for more than {}", stage.capacity));
        }
        for n in 0..stage.capacity {
            if !matches!(stage.recv(last, Some(Duration::ZERO)), Tried::Done(_)) {
                return Err(format!("{n} only of {} came out", stage.capacity));
            }
        }
    }
    let left_over = stage.subject.left_over();
    if goes_on && left_over > 0 {
        return Err(format!("{left_over} bytes are nobody's"));
    }
    let sums = stage.ledger.sums();
    let Sums {
        lost,
        doubled,
        torn,
        disordered,
        ..
    } = sums;
    let disordered = if S::COMES_AGAIN { 0 } else { disordered };
    if lost > in_hand || doubled + torn + disordered > 0 {
        return Err(format!("{sums:?}"));
    }
    Ok(())
}

fn await_that(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

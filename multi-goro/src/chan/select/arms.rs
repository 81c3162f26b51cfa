//! The macro: reads the arms, gives each case a name, and writes one match over what was chosen.

/// Waits until one of several channel operations can go on, carries out that one, and runs its arm.
///
/// ```
/// use std::time::Duration;
/// use multi_goro::{chan, select};
///
/// let (tx, rx) = chan(1);
/// let (full, _other_end) = chan(0);
/// tx.send(7)?;
/// let got = select! {
///     recv(rx) -> value => value.ok(),
///     send(full, 8) -> _sent => None,
///     after(Duration::from_secs(5)) => None,
/// };
/// assert_eq!(got, Some(7));
/// # Ok::<(), multi_goro::chan::SendError<i32>>(())
/// ```
///
/// | arm | ready when | binds |
/// | --- | --- | --- |
/// | `recv(rx) -> msg => ..` | there is a value, or the channel has ended | `Result<T, RecvError>` |
/// | `send(tx, value) -> res => ..` | there is room or somebody receives, or the channel has ended | `Result<(), SendError<T>>`, with the value |
/// | `send(tx, in slot) -> res => ..` | as above; never while `slot` is `None` | as above |
/// | `default => ..` | no other arm is | |
/// | `after(duration) => ..` | no other arm was for that long; also written `default(duration)` | |
///
/// Up to 32 arms of `recv` and `send`, and at the end one `default` or `after`, if any. Of several ready arms one is taken at random, each as likely
/// as the others; that none is ready is found in one instant over all channels. Parks the calling task, or blocks the calling
/// thread. The same channel may stand in several arms, both ends of one as well: a select never hands a value to itself.
///
/// All channels and values are evaluated once, before anything else. With `send(tx, value)` the value is dropped if another
/// arm is taken; `send(tx, in slot)` takes it from a variable `slot: Option<T>`, one for
/// each arm, only if it is sent or comes back with the error:
///
/// ```
/// use multi_goro::{chan, select};
///
/// let (tx, rx) = chan(0);
/// let (stop, stopped) = chan::<()>(0);
/// drop(stop);
/// let mut next = Some(String::from("dear"));
/// select! {
///     send(tx, in next) -> sent => sent?,
///     recv(stopped) -> _ended => assert_eq!(next.as_deref(), Some("dear")),
/// }
/// # drop(rx);
/// # Ok::<(), multi_goro::chan::SendError<String>>(())
/// ```
///
/// Arms are ordinary code: `return`, `?`, `break` and `continue` mean what they mean around the select.
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::__select!(
            @arms
            [(c0 v0 0) (c1 v1 1) (c2 v2 2) (c3 v3 3) (c4 v4 4) (c5 v5 5) (c6 v6 6) (c7 v7 7) (c8 v8 8) (c9 v9 9) (c10 v10 10)
             (c11 v11 11) (c12 v12 12) (c13 v13 13) (c14 v14 14) (c15 v15 15) (c16 v16 16) (c17 v17 17) (c18 v18 18)
             (c19 v19 19) (c20 v20 20) (c21 v21 21) (c22 v22 22) (c23 v23 23) (c24 v24 24) (c25 v25 25) (c26 v26 26)
             (c27 v27 27) (c28 v28 28) (c29 v29 29) (c30 v30 30) (c31 v31 31)]
            [] [] $($arms)*
        )
    };
}

/// Reads the arms one by one: `[names left] [cases] [arms] text`, and then writes the whole.
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    // An arm ends with a comma; after a block it need not, nor at the end.
    (@arms [$(($($spare:tt)*))*] [$($cases:tt)*] [$($arms:tt)*]) => {
        $crate::__select!(@write [$($cases)*] [$($arms)*] ($crate::chan::select::Patience::Endless)
            (::core::unreachable!("a select without a time limit timed out")))
    };
    (@arms $names:tt [$($cases:tt)*] [$($arms:tt)*] default => $body:expr $(,)?) => {
        $crate::__select!(@write [$($cases)*] [$($arms)*] ($crate::chan::select::Patience::None) ($body))
    };
    (@arms $names:tt [$($cases:tt)*] [$($arms:tt)*] after($time:expr) => $body:expr $(,)?) => {
        $crate::__select!(@write [$($cases)*] [$($arms)*] ($crate::chan::select::Patience::For($time)) ($body))
    };
    (@arms $names:tt [$($cases:tt)*] [$($arms:tt)*] default($time:expr) => $body:expr $(,)?) => {
        $crate::__select!(@write [$($cases)*] [$($arms)*] ($crate::chan::select::Patience::For($time)) ($body))
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        recv($from:expr) -> $got:pat => $body:block, $($rest:tt)*) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (recv $case $value ($from))] [$($arms)* ($n $case received $got => $body)] $($rest)*)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        recv($from:expr) -> $got:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (recv $case $value ($from))] [$($arms)* ($n $case received $got => $body)] $($rest)*)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        recv($from:expr) -> $got:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (recv $case $value ($from))] [$($arms)* ($n $case received $got => $body)] $($($rest)*)?)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        send($to:expr, in $slot:expr) -> $got:pat => $body:block, $($rest:tt)*) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (keep $case $value ($to) ($slot))] [$($arms)* ($n $case sent $got => $body)] $($rest)*)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        send($to:expr, in $slot:expr) -> $got:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (keep $case $value ($to) ($slot))] [$($arms)* ($n $case sent $got => $body)] $($rest)*)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        send($to:expr, in $slot:expr) -> $got:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (keep $case $value ($to) ($slot))] [$($arms)* ($n $case sent $got => $body)] $($($rest)*)?)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        send($to:expr, $what:expr) -> $got:pat => $body:block, $($rest:tt)*) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (send $case $value ($to) ($what))] [$($arms)* ($n $case sent $got => $body)] $($rest)*)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        send($to:expr, $what:expr) -> $got:pat => $body:block $($rest:tt)*) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (send $case $value ($to) ($what))] [$($arms)* ($n $case sent $got => $body)] $($rest)*)
    };
    (@arms [($case:ident $value:ident $n:tt) $($names:tt)*] [$($cases:tt)*] [$($arms:tt)*]
        send($to:expr, $what:expr) -> $got:pat => $body:expr $(, $($rest:tt)*)?) => {
        $crate::__select!(@arms [$($names)*]
            [$($cases)* (send $case $value ($to) ($what))] [$($arms)* ($n $case sent $got => $body)] $($($rest)*)?)
    };
    (@arms $($other:tt)*) => {
        ::core::compile_error!(
            "arms of select! are `recv(rx) -> msg => ..`, `send(tx, value) -> res => ..`, `send(tx, in slot) -> res => ..`, \
             32 at most, and last one of `default => ..` and `after(duration) => ..`"
        )
    };

    (@write $cases:tt [$(($n:tt $name:ident $($arm:tt)*))*] $patience:tt $late:tt) => {
        $crate::__select!(@write_with [$($name)*] $cases [$(($n $name $($arm)*))*] $patience $late)
    };
    // Before an arm runs, everything that borrows for the cases is gone.
    (@write_with $names:tt $cases:tt [$(($n:tt $name:ident $end:ident $got:pat => $body:expr))*] ($patience:expr) ($late:expr)) => {
        $crate::__select!(@bind $cases {
            let chosen = $crate::chan::select::select(&[$($name.arm()),*], $patience);
            match chosen {
                $($n => {
                    let ended = $name.$end();
                    $crate::__select!(@leave $names);
                    let $got = ended;
                    $body
                })*
                _ => {
                    $crate::__select!(@leave $names);
                    $late
                }
            }
        })
    };
    (@leave [$($name:ident)*]) => { $($name.leave();)* };

    (@bind [] $then:block) => { $then };
    (@bind [(recv $case:ident $value:ident ($from:expr)) $($rest:tt)*] $then:block) => {{
        let mut $value = ::core::option::Option::None;
        let from = &$from;
        let $case = $crate::chan::select::Case::recv(from, &mut $value);
        $crate::__select!(@bind [$($rest)*] $then)
    }};
    (@bind [(send $case:ident $value:ident ($to:expr) ($what:expr)) $($rest:tt)*] $then:block) => {{
        let to = &$to;
        let mut $value = ::core::option::Option::Some($what);
        let $case = $crate::chan::select::Case::send(to, &mut $value);
        $crate::__select!(@bind [$($rest)*] $then)
    }};
    (@bind [(keep $case:ident $value:ident ($to:expr) ($slot:expr)) $($rest:tt)*] $then:block) => {{
        let to = &$to;
        let $case = $crate::chan::select::Case::send(to, &mut $slot);
        $crate::__select!(@bind [$($rest)*] $then)
    }};
}

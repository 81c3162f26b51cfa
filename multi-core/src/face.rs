//! The parts of a backend that read the same in every backend: inherent methods and builder options.

/// Gives a backend's group the methods of [`Group`](crate::Group), [`Spawn`](crate::Spawn) and [`SpawnFn`](crate::SpawnFn) as its own, so
/// that it can be used without the traits. The group must implement `Group`; `$value` is the bound on what `spawn` brings home.
///
/// ```text
/// multi_core::group_face!(Group, value: Send + 'static);
/// ```
#[macro_export]
macro_rules! group_face {
    ($group:ty, value: $($value:tt)+) => {
        $crate::tasks_face!($group);
        $crate::spawn_fn_face!($group, args: [Send + 'static], value: [$($value)+]);

        impl $group {
            /// Starts `task`: see [`multi_core::Group::go`].
            #[track_caller]
            pub fn go<F>(&self, task: F)
            where
                F: FnOnce() -> $crate::Result + Send + 'static,
            {
                $crate::Group::go(self, task);
            }

            /// Starts `task` with a name, a timeout, a token of its own: see [`multi_core::Group::go_with`].
            #[track_caller]
            pub fn go_with<F>(&self, options: $crate::TaskOptions, task: F)
            where
                F: FnOnce() -> $crate::Result + Send + 'static,
            {
                $crate::Group::go_with(self, options, task);
            }

            /// Starts a task that returns an error of one type: see [`multi_core::Group::go_result`].
            #[track_caller]
            pub fn go_result<F, E>(&self, task: F)
            where
                F: FnOnce() -> $crate::Result<(), E> + Send + 'static,
                E: Into<$crate::BoxError>,
            {
                $crate::Group::go_result(self, task);
            }

            /// Starts `task` now or gives it back: see [`multi_core::Group::try_go`].
            ///
            /// # Errors
            ///
            /// The task and the reason: at the limit, cancelled, or refused by the system.
            #[track_caller]
            pub fn try_go<F>(&self, task: F) -> $crate::Result<(), $crate::TryGoError<F>>
            where
                F: FnOnce() -> $crate::Result + Send + 'static,
            {
                $crate::Group::try_go(self, task)
            }

            /// As [`try_go`](Self::try_go), with options: see [`multi_core::Group::try_go_with`].
            ///
            /// # Errors
            ///
            /// As there.
            #[track_caller]
            pub fn try_go_with<F>(
                &self,
                options: $crate::TaskOptions,
                task: F,
            ) -> $crate::Result<(), $crate::TryGoError<F>>
            where
                F: FnOnce() -> $crate::Result + Send + 'static,
            {
                $crate::Group::try_go_with(self, options, task)
            }

            /// Starts `task` and returns the handle of its value: see [`multi_core::Spawn::spawn`].
            #[track_caller]
            pub fn spawn<T, F>(&self, task: F) -> $crate::Handle<T>
            where
                T: $($value)+,
                F: FnOnce() -> $crate::Result<T> + Send + 'static,
            {
                $crate::Spawn::spawn(self, task)
            }

            /// As [`spawn`](Self::spawn), with options: see [`multi_core::Spawn::spawn_with`].
            #[track_caller]
            pub fn spawn_with<T, F>(&self, options: $crate::TaskOptions, task: F) -> $crate::Handle<T>
            where
                T: $($value)+,
                F: FnOnce() -> $crate::Result<T> + Send + 'static,
            {
                $crate::Spawn::spawn_with(self, options, task)
            }

            /// A handle that starts tasks in this group from elsewhere: see [`multi_core::Group::spawner`].
            #[must_use]
            pub fn spawner(&self) -> <Self as $crate::Group>::Spawner {
                $crate::Group::spawner(self)
            }
        }
    };
}

/// Gives what implements [`Tasks`](crate::Tasks) its methods as its own; in [`group_face!`](crate::group_face) already.
///
/// ```text
/// multi_core::tasks_face!(Pool);
/// ```
#[macro_export]
macro_rules! tasks_face {
    ($tasks:ty) => {
        impl $tasks {
            /// Waits for every task started so far: see [`multi_core::Tasks::wait`].
            ///
            /// # Errors
            ///
            /// Every failure since the last wait.
            pub fn wait(&mut self) -> $crate::Result<(), $crate::GroupError> {
                $crate::Tasks::wait(self)
            }

            /// Waits for at most `timeout`: see [`multi_core::Tasks::wait_timeout`].
            ///
            /// # Errors
            ///
            /// Failed, or still running and who.
            pub fn wait_timeout(
                &mut self,
                timeout: ::std::time::Duration,
            ) -> $crate::Result<(), $crate::WaitTimeoutError> {
                $crate::Tasks::wait_timeout(self, timeout)
            }

            /// The token that is cancelled with this round: see [`multi_core::Tasks::cancel_token`].
            #[must_use]
            pub fn cancel_token(&self) -> $crate::CancelToken {
                $crate::Tasks::cancel_token(self)
            }

            /// Asks every task of this round to stop: see [`multi_core::Tasks::cancel`].
            pub fn cancel(&self) {
                $crate::Tasks::cancel(self);
            }

            /// How far the tasks are: see [`multi_core::Tasks::progress`].
            #[must_use]
            pub fn progress(&self) -> $crate::Progress {
                $crate::Tasks::progress(self)
            }
        }
    };
}

/// Gives what implements [`SpawnFn`](crate::SpawnFn) its methods as its own; in [`group_face!`](crate::group_face) already. `args` and
/// `value` are the bounds on what goes out and on what comes home.
///
/// ```text
/// multi_core::spawn_fn_face!(Pool, args: [Serialize + DeserializeOwned + Send + 'static], value: [Serialize + DeserializeOwned + Send + 'static]);
/// ```
#[macro_export]
macro_rules! spawn_fn_face {
    ($pool:ty, args: [$($args:tt)+], value: [$($value:tt)+]) => {
        impl $pool {
            /// Starts a function without captures and returns the handle of its value: see [`multi_core::SpawnFn::spawn_fn`].
            #[track_caller]
            pub fn spawn_fn<A, T>(
                &self,
                function: fn(A) -> $crate::Result<T>,
                args: A,
            ) -> $crate::Handle<T>
            where
                A: $($args)+,
                T: $($value)+,
            {
                $crate::SpawnFn::spawn_fn(self, function, args)
            }

            /// As [`spawn_fn`](Self::spawn_fn), with options: see [`multi_core::SpawnFn::spawn_fn_with`].
            #[track_caller]
            pub fn spawn_fn_with<A, T>(
                &self,
                options: $crate::TaskOptions,
                function: fn(A) -> $crate::Result<T>,
                args: A,
            ) -> $crate::Handle<T>
            where
                A: $($args)+,
                T: $($value)+,
            {
                $crate::SpawnFn::spawn_fn_with(self, options, function, args)
            }
        }
    };
}

/// Gives a backend's spawner the methods of [`Spawner`](crate::Spawner) as its own.
///
/// ```text
/// multi_core::spawner_face!(Spawner);
/// ```
#[macro_export]
macro_rules! spawner_face {
    ($spawner:ty) => {
        impl $spawner {
            /// Starts `task` in the group: see [`multi_core::Spawner::go`].
            #[track_caller]
            pub fn go<F>(&self, task: F)
            where
                F: FnOnce() -> $crate::Result + Send + 'static,
            {
                $crate::Spawner::go(self, task);
            }

            /// As [`go`](Self::go), with options: see [`multi_core::Spawner::go_with`].
            #[track_caller]
            pub fn go_with<F>(&self, options: $crate::TaskOptions, task: F)
            where
                F: FnOnce() -> $crate::Result + Send + 'static,
            {
                $crate::Spawner::go_with(self, options, task);
            }
        }
    };
}

/// Gives a backend's builder the options of [`GroupOptions`](crate::GroupOptions). The builder must have a field `options` of
/// that type.
///
/// ```text
/// multi_core::builder_face!(Builder);
/// ```
#[macro_export]
macro_rules! builder_face {
    ($builder:ty) => {
        impl $builder {
            /// Names the group in errors and reports.
            #[must_use]
            pub fn name(mut self, name: impl Into<String>) -> Self {
                self.options = self.options.name(name);
                self
            }

            /// Lets at most `tasks` run at once: see [`multi_core::GroupOptions::limit`].
            #[must_use]
            pub fn limit(mut self, tasks: usize) -> Self {
                self.options = self.options.limit(tasks);
                self
            }

            /// Cancels the group at its first failure.
            #[must_use]
            pub fn fail_fast(mut self, on: bool) -> Self {
                self.options = self.options.fail_fast(on);
                self
            }

            /// Cancels the group at `at`: see [`multi_core::GroupOptions::deadline`].
            #[must_use]
            pub fn deadline(mut self, at: ::std::time::Instant) -> Self {
                self.options = self.options.deadline(at);
                self
            }

            /// Sets the deadline to `after` from now.
            #[must_use]
            pub fn timeout(mut self, after: ::std::time::Duration) -> Self {
                self.options = self.options.timeout(after);
                self
            }

            /// Gives each task `after` from its start: see [`multi_core::TaskOptions::timeout`].
            #[must_use]
            pub fn task_timeout(mut self, after: ::std::time::Duration) -> Self {
                self.options = self.options.task_timeout(after);
                self
            }

            /// Cancels the group whenever `token` is cancelled: see [`multi_core::GroupOptions::cancel_token`].
            #[must_use]
            pub fn cancel_token(mut self, token: $crate::CancelToken) -> Self {
                self.options = self.options.cancel_token(token);
                self
            }

            /// Takes over a whole set of options at once.
            #[must_use]
            pub fn options(mut self, options: $crate::GroupOptions) -> Self {
                self.options = options;
                self
            }
        }
    };
}

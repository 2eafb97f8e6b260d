//! The times of a task that are added up.

/// Declares the times that are added up, each once: as a column of the row, and as history has it.
macro_rules! spent {
    ($($time:ident),+ $(,)?) => {
        /// How long a task was in each state.
        #[derive(Default)]
        pub(super) struct Spent { $(pub(super) $time: i64),+ }

        impl Spent {
            /// From the columns of a row, by their names.
            pub(super) fn read<E>(read: impl Fn(&str) -> Result<i64, E>) -> Result<Spent, E> {
                Ok(Spent { $($time: read(stringify!($time))?),+ })
            }

            /// Each column with its value here and there.
            pub(super) fn beside(&self, other: &Spent) -> Vec<(&'static str, i64, i64)> {
                vec![$((stringify!($time), self.$time, other.$time)),+]
            }
        }
    };
}

spent! { queued_us, active_us, attempt_active_us, deferred_us, retry_wait_us }

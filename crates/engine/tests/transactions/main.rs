//! Starts and signals inside transactions of the user's own, with every library whose transactions
//! will do.

/// Makes a test of a function for each library.
macro_rules! on_all {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn rusqlite() {
                super::$name::<crate::libraries::Rusqlite>().await;
            }

            #[tokio::test]
            async fn tokio_postgres() {
                super::$name::<crate::libraries::TokioPostgres>().await;
            }

            #[tokio::test]
            async fn sqlx() {
                super::$name::<crate::libraries::Sqlx>().await;
            }
        }
    )+};
}

mod busy;
mod ends;
mod home;
mod isolation;
mod libraries;
mod mix;
mod places;
mod races;
mod wakes;

//! A `Result` with a [`TaskError`], for code in which the compiler cannot infer the error type.

use super::task_error::TaskError;

/// A `Result` whose error is a [`TaskError`] unless you name another error type.
///
/// ```
/// #[abide::task]
/// async fn parse(text: String) -> abide::Result<u32> {
///     Ok(text.parse()?)
/// }
/// # fn main() {}
/// ```
pub type Result<T, E = TaskError> = std::result::Result<T, E>;

/// `Ok` of a [`Result`] with a [`TaskError`]. Use it at the end of a block or closure that never
/// fails, where the compiler cannot infer the error type.
///
/// ```
/// use abide::{TaskHandle, workflow};
///
/// #[workflow]
/// async fn greet(handle: &TaskHandle) -> abide::Result<u32> {
///     let number = handle.step("count", async || abide::Ok(1)).await?;
///     // The same, with the type of the whole closure.
///     let other = handle.step("count again", async || -> abide::Result<u32> { Ok(2) }).await?;
///     Ok(number + other)
/// }
/// # fn main() {}
/// ```
#[expect(non_snake_case, reason = "it stands for the variant of that name")]
pub fn Ok<T>(value: T) -> Result<T> {
    Result::Ok(value)
}

use abide::{Context, TaskError, TaskHandle, task};

#[task]
fn not_async() -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn generic<T>(_input: T) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn hidden_generic(_input: impl Into<String>) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async unsafe fn dangerous() -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn two_contexts(_a: &mut Context, _b: &mut Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn two_handles(_a: &TaskHandle, _b: &TaskHandle) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn owned_context(_context: Context) -> Result<(), TaskError> {
    Ok(())
}

#[task]
struct NotAFunction;

fn main() {}

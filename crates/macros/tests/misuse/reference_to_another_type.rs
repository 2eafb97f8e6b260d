use abide::{TaskError, task};

#[task]
async fn text(_path: &str) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn slice(_path: &[u8]) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

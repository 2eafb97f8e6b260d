use abide::{TaskError, task, workflow};

#[task(timeout = "5 sec")]
async fn unit() -> Result<(), TaskError> {
    Ok(())
}

#[task(timeout = 30)]
async fn number() -> Result<(), TaskError> {
    Ok(())
}

#[task(timeout = "0s")]
async fn zero() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = fixed("1 s"))]
async fn in_a_backoff() -> Result<(), TaskError> {
    Ok(())
}

#[workflow(deadline = "99999d")]
async fn ages() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

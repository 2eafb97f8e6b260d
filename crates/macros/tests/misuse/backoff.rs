use abide::{TaskError, task};

#[task(retries = 1, backoff = exponental("1s"))]
async fn misspelt() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = fixed("1s", max = "5s"))]
async fn too_much() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = linear("1s", factor = 2.0))]
async fn not_linear() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = exponential())]
async fn no_wait() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = exponential(factor = 2.0))]
async fn no_first_wait() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = exponential("1s", factor = 0.5))]
async fn shrinking() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, backoff = "1s")]
async fn no_growth() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

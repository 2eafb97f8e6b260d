use abide::{TaskError, task};

#[task(retries)]
async fn no_value() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = -1, jitter = 1.5, priority = 40_000, id = "", retry_if = "io")]
async fn out_of_range() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1, retries = 2)]
async fn twice() -> Result<(), TaskError> {
    Ok(())
}

#[task(retries = 1 timeout = "5s")]
async fn no_comma() -> Result<(), TaskError> {
    Ok(())
}

#[task(jitter = 0.5)]
async fn idle() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

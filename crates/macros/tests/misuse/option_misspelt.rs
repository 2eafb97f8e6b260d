use abide::{TaskError, task};

#[task(retrys = 3)]
async fn hash() -> Result<(), TaskError> {
    Ok(())
}

#[task(colour = "red")]
async fn paint() -> Result<(), TaskError> {
    Ok(())
}

#[task(output = hash, deadline = "1d")]
async fn of_a_workflow() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

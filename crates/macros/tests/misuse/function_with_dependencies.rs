use abide::{Output, TaskError, task, workflow};

#[task]
async fn hash() -> Result<u32, TaskError> {
    Ok(1)
}

#[workflow]
async fn checkout(_n: Output<hash>) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

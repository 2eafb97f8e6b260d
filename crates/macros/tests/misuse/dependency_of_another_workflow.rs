use abide::{Output, TaskError, task, workflow};

#[task]
async fn elsewhere() -> Result<u32, TaskError> {
    Ok(1)
}

#[workflow]
mod ingest {
    #[task]
    async fn report(_n: Output<elsewhere>) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

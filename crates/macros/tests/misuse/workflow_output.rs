use abide::{TaskError, task, workflow};

#[workflow(output = reprot)]
mod ingest {
    #[task]
    async fn report() -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

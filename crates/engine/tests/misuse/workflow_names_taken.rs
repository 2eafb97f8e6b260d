use abide::{TaskError, task, workflow};

#[workflow]
mod ingest {
    #[task]
    async fn graph() -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

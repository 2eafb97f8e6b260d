use abide::{TaskError, task, workflow};

#[workflow]
mod ingest {
    #[task(dependencies = [hash])]
    async fn hash() -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

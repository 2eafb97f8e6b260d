use abide::{TaskError, task, workflow};

#[workflow]
mod ingest {
    #[task]
    async fn hash() -> Result<(), TaskError> {
        Ok(())
    }

    #[task(id = "hash")]
    async fn digest() -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

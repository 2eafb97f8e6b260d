use abide::{TaskError, task, workflow};

#[workflow]
mod ingest {
    #[task]
    async fn hash() -> Result<(), TaskError> {
        Ok(())
    }

    #[task(dependencies = [hsah, "marker"])]
    async fn report() -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

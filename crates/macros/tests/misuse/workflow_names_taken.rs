use abide::{TaskError, task, workflow};

#[workflow]
mod ingest {
    #[task]
    async fn graph() -> Result<(), TaskError> {
        Ok(())
    }
}

#[workflow]
mod import {
    use abide::{TaskError, Workflow, task};

    #[task]
    async fn read() -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

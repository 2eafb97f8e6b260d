use abide::{Output, TaskError, task, workflow};

#[workflow]
mod ingest {
    #[task(dependencies = [c])]
    async fn a() -> Result<u32, TaskError> {
        Ok(1)
    }

    #[task]
    async fn b(a: Output<a>) -> Result<u32, TaskError> {
        Ok(*a)
    }

    #[task(dependencies = ["b"])]
    async fn c() -> Result<u32, TaskError> {
        Ok(1)
    }
}

fn main() {}

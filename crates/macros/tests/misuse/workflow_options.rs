use abide::{TaskError, task, workflow};

#[workflow(retries = 3)]
mod of_a_task {
    #[task]
    async fn hash() -> Result<(), TaskError> {
        Ok(())
    }
}

#[workflow(dependencies = [hash], output = hash, verison = "2")]
async fn function() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

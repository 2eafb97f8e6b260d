use abide::{TaskError, workflow};

#[workflow]
mod empty {}

#[workflow]
mod without_tasks {
    async fn helper() -> Result<(), TaskError> {
        Ok(())
    }
}

#[workflow]
struct NotAModule;

fn main() {}

use abide::{TaskError, task};

struct Service;

impl Service {
    #[task]
    async fn hash(&self) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {}

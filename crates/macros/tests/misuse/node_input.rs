use abide::{TaskError, task, workflow};

#[workflow]
mod a {
    #[task]
    pub async fn hash(_path: String) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {
    let _ = a::graph().node::<a::hash>("x", &7);
}

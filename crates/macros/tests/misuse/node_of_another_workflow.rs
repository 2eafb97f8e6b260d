use abide::{TaskError, task, workflow};

#[workflow]
mod a {
    #[task]
    pub async fn hash(_path: String) -> Result<(), TaskError> {
        Ok(())
    }
}

#[workflow]
mod b {
    #[task]
    pub async fn size(_path: String) -> Result<(), TaskError> {
        Ok(())
    }
}

fn main() {
    a::graph().node::<b::size>("x", &String::new());
}

use abide::{TaskError, task};

#[task]
async fn hash() -> Result<(), TaskError> {
    let shared = std::rc::Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
    Ok(())
}

fn main() {}

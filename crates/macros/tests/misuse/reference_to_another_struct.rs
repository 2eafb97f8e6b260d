use abide::{TaskError, task};

#[task]
async fn shared(_path: &String) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn list(_paths: &mut Vec<u8>) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

use abide::{Input, TaskError, task};

#[task]
async fn bare(_path: String, _bytes: u64) -> Result<(), TaskError> {
    Ok(())
}

#[task]
async fn mixed(Input(_path): Input<String>, _bytes: u64) -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

use abide::task;

struct NotAnError;

#[task]
async fn hash() -> Result<(), NotAnError> {
    Ok(())
}

fn main() {}

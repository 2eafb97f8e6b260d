use abide::{TaskBuilder, TaskError};

fn main() {
    let _ = TaskBuilder::new("hash", async |path: String| {
        drop(path);
        Ok::<(), TaskError>(())
    });
}

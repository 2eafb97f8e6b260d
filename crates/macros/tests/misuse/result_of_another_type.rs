use abide::task;

#[task]
async fn number() -> u32 {
    1
}

fn main() {}

use abide::task;

#[task]
async fn nothing() {}

#[task]
async fn tuple() -> (u8, u8) {
    (1, 2)
}

fn main() {}

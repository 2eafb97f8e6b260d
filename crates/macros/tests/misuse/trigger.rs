use abide::{TaskError, task};

#[task(dependencies = ["marker"], trigger = success(hash))]
async fn not_a_dependency() -> Result<(), TaskError> {
    Ok(())
}

#[task(dependencies = ["marker"], trigger = any(success(market), failed(marker)))]
async fn misspelt_dependency() -> Result<(), TaskError> {
    Ok(())
}

#[task(dependencies = ["marker"], trigger = sucess(marker))]
async fn unknown_function() -> Result<(), TaskError> {
    Ok(())
}

#[task(dependencies = ["a", "b"], trigger = success(a, b))]
async fn two_tasks() -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger = context("mode"))]
async fn no_comparison() -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger = context("mode") ~ 1)]
async fn unknown_comparison() -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger = context("mode") has "x")]
async fn unknown_word() -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger = context("mode") == fast)]
async fn no_value() -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger = context(mode) == "fast")]
async fn no_key() -> Result<(), TaskError> {
    Ok(())
}

#[task(trigger = "success")]
async fn text() -> Result<(), TaskError> {
    Ok(())
}

fn main() {}

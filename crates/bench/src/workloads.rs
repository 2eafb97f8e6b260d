//! The workflows that are measured. Their tasks do next to nothing.

use std::time::{Duration, UNIX_EPOCH};

use abide::{Outputs, TaskError, TaskHandle, task, workflow};

/// One step.
#[workflow]
pub async fn one_step(n: u64) -> Result<u64, TaskError> {
    Ok(n + 1)
}

/// A node for each link, each waiting for the one before.
#[workflow]
pub mod chain {
    use super::*;

    #[task]
    pub async fn link(n: u32) -> Result<u32, TaskError> {
        Ok(n)
    }
}

/// A first task, many in parallel, and one that adds up what they gave.
#[workflow(output = total)]
pub mod fanout {
    use super::*;

    #[task]
    pub async fn first() -> Result<(), TaskError> {
        Ok(())
    }

    #[task(dependencies = [first])]
    pub async fn part(n: u64) -> Result<u64, TaskError> {
        Ok(n)
    }

    #[task]
    pub async fn total(parts: Outputs<part>) -> Result<u64, TaskError> {
        Ok(parts.values().sum())
    }
}

/// A durable function of so many steps, one after the other.
#[workflow]
pub async fn function(handle: &TaskHandle, steps: u64) -> Result<u64, TaskError> {
    let mut sum = 0;
    for n in 0..steps {
        sum += handle
            .step("step", async || Ok::<u64, TaskError>(n))
            .await?;
    }
    Ok(sum)
}

/// A durable function that sleeps until so many microseconds after the epoch.
#[workflow]
pub async fn sleeper(handle: &TaskHandle, until_us: u64) -> Result<(), TaskError> {
    let until = UNIX_EPOCH + Duration::from_micros(until_us);
    handle.sleep_until(until).await
}

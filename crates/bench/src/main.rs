//! Benchmarks.
mod floor;
fn main() {
    let dir = tempfile::tempdir_in(".").expect("dir");
    let new = |name: &str| {
        let path = dir.path().join(name);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("rt");
        runtime.block_on(async {
            abide_store::Store::open(path.to_str().expect("utf8"), Default::default())
                .await
                .expect("opens")
                .close()
                .await;
        });
        path
    };
    println!(
        "floor one step {:.0}/s",
        floor::one_step_workflows_per_s(&new("a.db"), 100_000).expect("floor")
    );
    println!(
        "floor bytes {}",
        std::fs::metadata(dir.path().join("a.db"))
            .expect("meta")
            .len()
            / 100_000
    );
    println!(
        "commit {:.3} ms",
        floor::commit_ms(&new("b.db"), 2000).expect("floor")
    );
    println!(
        "chain {:.3} ms",
        floor::chain_step_ms(&new("c.db"), 2000).expect("floor")
    );
    println!(
        "function {:.3} ms",
        floor::function_step_ms(&new("d.db"), 2000).expect("floor")
    );
    println!(
        "fanout 10k {:.3} s",
        floor::fanout_s(&new("e.db"), 10_000).expect("floor")
    );
}

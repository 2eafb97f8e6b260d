//! A machine whose power fails at any write call: what was acknowledged is there.

use std::fs;

use crate::child::Home;
use crate::kill_points::{count_calls, kill_at, points};
use crate::shim::Shim;

#[test]
fn a_power_failure_at_any_write_call_loses_nothing_that_was_acknowledged() {
    let shim = Shim::build();
    let calls = count_calls(&shim, "features");
    let points = points(calls, 0);
    let tally = kill_at(&shim, "features", &points, fail_power);
    println!(
        "N = {calls} write calls; {} power failures, {} not reached; {:?}",
        tally.kills, tally.not_reached, tally.stages
    );
    assert!(
        tally.wrong.is_empty(),
        "{} wrong:\n{}",
        tally.wrong.len(),
        tally.wrong.join("\n")
    );
    assert!(tally.kills * 2 >= points.len(), "most points are reached");
}

/// What is left after a process that kept what it synced, if the power failed when it ended: of every
/// file, what it was at its last sync.
fn fail_power(home: &Home) {
    for suffix in ["", "-wal", "-journal"] {
        let file = home.file(&format!("app.db{suffix}"));
        let kept = home.file("synced").join(format!("app.db{suffix}"));
        match (file.exists(), kept.exists()) {
            (true, true) => drop(fs::copy(kept, file).expect("copied")),
            (true, false) => fs::write(file, "").expect("emptied"),
            (false, _) => {}
        }
    }
    // Shared memory.
    fs::remove_file(home.file("app.db-shm")).ok();
}

//! Processes that are killed and started again. One binary, which is also the program that it kills: run with
//! `ABIDE_CHILD` set, one of its tests is a process that runs workflows.

mod child;
mod herd;
mod kill_points;
mod record;
mod scene;
mod several;
mod shim;
mod storm;
mod trouble;

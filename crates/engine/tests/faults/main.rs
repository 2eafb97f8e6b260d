//! A PostgreSQL store under faults: servers that are killed, connections that are cut around a commit, processes
//! that die or stand still, news that don't arrive. One binary, which is also the program that it kills: run with
//! `ABIDE_CHILD` set, one of its tests is a process that runs workflows.

mod answers;
mod child;
mod cuts;
mod failover;
mod load;
mod processes;
mod proxy;
mod restarts;
mod scene;
mod sight;
mod standby;
mod troubles;
mod wakes;

//! Verification finds what is wrong with a store, and nothing where nothing is.

mod cells;
mod fixture;
mod planted;
mod random;
mod regressions;
mod scenario;
mod world;

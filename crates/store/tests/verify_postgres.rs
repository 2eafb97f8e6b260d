//! Verification finds what is wrong with a store, and nothing where nothing is; on PostgreSQL: the same
//! tests as on SQLite.

#[path = "backend/postgres.rs"]
mod backend;
#[path = "verify/damage_postgres.rs"]
mod damage;
#[path = "backend/dump.rs"]
#[expect(dead_code, reason = "other tests compare everything that is stored")]
mod dump;
#[path = "verify/fixture.rs"]
mod fixture;
#[path = "verify/home.rs"]
mod home;
#[path = "backend/postgres_kept.rs"]
mod kept;
#[path = "verify/ops.rs"]
mod ops;
#[path = "verify/planted.rs"]
mod planted;
#[path = "verify/random.rs"]
mod random;
#[path = "backend/postgres_rows.rs"]
mod raw;
#[path = "verify/regressions.rs"]
mod regressions;
#[path = "verify/scenario.rs"]
mod scenario;
#[path = "verify/schema.rs"]
mod schema;
#[path = "verify/shapes.rs"]
mod shapes;
#[path = "backend/value.rs"]
#[expect(dead_code, reason = "other tests look at single columns")]
mod value;
#[path = "verify/world.rs"]
mod world;

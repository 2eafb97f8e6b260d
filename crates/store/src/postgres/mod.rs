//! The PostgreSQL driver: one schema, a few connections that write, others that read.
#![expect(dead_code, reason = "the driver is being joined")]

mod address;
mod columns;
mod connect;
mod error;
mod events;
mod inputs;
mod load;
mod maintenance;
mod name;
mod needs;
mod partitions;
mod pool;
mod queries;
mod rollup;
mod rows;
mod schema;
mod server_stats;
mod statement;
mod tls;
mod write;
mod write_steps;

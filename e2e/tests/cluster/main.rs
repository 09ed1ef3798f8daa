//! Berth on a real cluster, installed by its chart: what the API server refuses (`admit_*`), and what happens (`e2e_*`).
//!
//! The tests wait much and compute little, so run many at once:
//! `RUST_TEST_THREADS=8 cargo test -p berth-e2e --test cluster -- --nocapture`.

mod admit_chart;
mod admit_oldest_kubernetes;
mod admit_registry;
mod admit_reports;
mod e2e_access;
mod e2e_apply;
mod e2e_azure;
mod e2e_bucket;
mod e2e_chart;
mod e2e_deletion;
mod e2e_exposure;
mod e2e_garbage;
mod e2e_kubectl;
mod e2e_leader;
mod e2e_neighbours;
mod e2e_obstacles;
mod e2e_replicas;
mod e2e_rest;
mod e2e_rights;
mod e2e_rotation;
mod e2e_scope;
mod e2e_six_lines;
mod e2e_suspend;
mod e2e_volume;

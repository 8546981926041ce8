//! The device against a mock driver: each rule by itself, then random traffic against a model.

mod connections;
mod driver;
mod frozen;
mod handshake;
mod hostile;
mod limits;
mod model;
mod traffic;
mod transport;

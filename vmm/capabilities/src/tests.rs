//! The broker as a muscle meets it: each rule by a call that breaks just it.

mod channel;
mod delegate;
mod files;
mod live;
mod narrower;
mod powers;
mod races;
mod rig;

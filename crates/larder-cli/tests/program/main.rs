//! Runs the real program: what it prints, and how it ends.

mod cleanup;
mod config;
mod explain;
mod guide;
mod health;
mod keys;
mod lock;
mod removal;
mod serve;
mod servers;
mod status;
mod support;
mod tags;
mod terminal;
mod transfer;
mod usage;
mod values;

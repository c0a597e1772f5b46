//! The `larder` program.
fn main() {}

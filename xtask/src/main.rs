//! The `cargo xtask` program; everything is in the library, where tests can reach it.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::run(std::env::args().skip(1).collect())
}

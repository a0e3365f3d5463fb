//! The `zonedev` program; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    zonedev::cli::main()
}

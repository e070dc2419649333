//! The `datastore` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    datastore::cli::run(std::env::args_os())
}

//! The command `seshat`: arguments become a command, and its result an exit code.
#![warn(clippy::print_stderr, clippy::print_stdout)]

mod bench;
mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

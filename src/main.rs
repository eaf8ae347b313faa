//! The command `seshat`: arguments become a command, and what came of it an exit code.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}

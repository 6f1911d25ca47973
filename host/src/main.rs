//! The program: everything is in the library.

fn main() -> std::process::ExitCode {
    heliograph::cli::main()
}

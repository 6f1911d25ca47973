//! The program: everything is in the library.

/// Messages are made on one thread and let go on another, where glibc's allocator is at its worst:
/// with it a fifth of the server's time was spent allocating.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    heliograph::cli::main()
}

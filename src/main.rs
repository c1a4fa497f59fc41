//! The `hah-vault` command; everything is in [`hah_vault::cli`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    hah_vault::cli::main()
}

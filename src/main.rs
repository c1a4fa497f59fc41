//! The `hah-vault` command; everything is in [`hah_vault::cli`].

fn main() -> std::process::ExitCode {
    hah_vault::cli::main()
}

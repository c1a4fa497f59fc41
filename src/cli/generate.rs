//! `completions` and `man`: made from the definition of the command line.

use super::args::Cli;
use super::console::Console;
use super::error::CliError;
use crate::exit::Exit;
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::PathBuf;

pub(super) fn completions(shell: Shell, console: &Console) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hah-vault", &mut script);
    console.data(&script).map(|()| Exit::Done)
}

pub(super) fn man(out: Option<PathBuf>, console: &Console) -> Result<Exit, CliError> {
    let Some(folder) = out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(CliError::Output)?;
        return console.data(&page).map(|()| Exit::Done);
    };
    let failed = |source| CliError::File { action: "write the pages into", path: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &folder).map_err(failed)?;
    console.say(&format!("the pages are in {}: man -l {}", folder.display(), folder.join("hah-vault.1").display()));
    Ok(Exit::Done)
}

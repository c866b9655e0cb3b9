//! `sirnn completions` and `sirnn man`: made from the definitions of the options.

use super::{Cli, Failure};
use clap::{Args, CommandFactory};
use sirnn::run::file;
use std::path::{Path, PathBuf};

/// Print a shell's completions for this program
#[derive(Args)]
#[command(after_help = "For instance: sirnn completions bash > ~/.local/share/bash-completion/completions/sirnn")]
pub(super) struct Completions {
    /// Which shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "sirnn", &mut text);
        Ok(file::write(Path::new("-"), &text)?)
    }
}

/// Print the manual page, or write those of all commands to a folder
#[derive(Args)]
pub(super) struct Man {
    /// Folder for sirnn.1, sirnn-serve.1 and so on
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.out {
            Some(folder) => {
                std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
                Ok(clap_mangen::generate_to(Cli::command(), folder)?)
            }
            None => {
                let mut text = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut text)?;
                Ok(file::write(Path::new("-"), &text)?)
            }
        }
    }
}

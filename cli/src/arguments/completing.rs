//! The commands that a shell's completion consists of.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

/// Print what makes a shell complete commands, options and device names.
///
/// Devices are those that `tunnel list` would show; a list that is older than half a minute is renewed in the background.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tunnel completions bash > ~/.local/share/bash-completion/completions/tunnel\n  tunnel completions zsh > ~/.zfunc/_tunnel    # with ~/.zfunc in fpath, before compinit\n  tunnel completions fish > ~/.config/fish/completions/tunnel.fish"
)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: Shell,
}

/// A shell that completes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    /// bash 3.2 or later
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Print what the last of some words could become: `WORD TAB DESCRIPTION` lines, for the scripts of `tunnel completions`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Complete {
    /// Only renew the list of devices
    #[arg(long)]
    pub(crate) renew: bool,
    /// The line up to the cursor, the program's name first
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}

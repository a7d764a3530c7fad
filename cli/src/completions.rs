//! `tunnel completions`

use crate::arguments::{Completions, Shell};
use crate::exit;
use crate::output;

pub(crate) fn run(arguments: &Completions) -> u8 {
    output::line(script(arguments.shell).trim_end());
    exit::OK
}

/// What makes this shell complete.
pub(crate) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("completions/tunnel.bash"),
        Shell::Zsh => include_str!("completions/tunnel.zsh"),
        Shell::Fish => include_str!("completions/tunnel.fish"),
    }
}

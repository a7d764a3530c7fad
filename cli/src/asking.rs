//! Asking the realm's administrator, at a terminal, whom to trust.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use enrollment::UploadPermission;
use enrollment::trust_store::Question;
use protocol::Role;

use crate::failure::Failure;
use crate::output;
use crate::realm_access;

/// Who may upload what, by the files in this directory. Where these say nothing, whoever sits at the terminal is asked;
/// without a terminal nobody is, and what is not permitted is refused.
pub(crate) fn permission(dir: &Path) -> Result<UploadPermission, Failure> {
    if !io::stdin().is_terminal() {
        return realm_access::permission(dir);
    }
    Ok(realm_access::trust(dir)?.permission_asking(ask))
}

/// Blocks until there is an answer; the end of the input is none.
fn ask(question: Question<'_>) -> Option<bool> {
    let system = question.id.system();
    let devices = match question.id.role() {
        Role::Target => format!("the remote computers of `{system}`"),
        Role::Controller => {
            format!("controllers of `{system}`, which may log in to its remote computers")
        }
    };
    output::note(format_args!(
        "{} asks for a certificate for `{}`.",
        question.author, question.id
    ));
    loop {
        output::note(format_args!("Permit them to enroll {devices}? (y/n)"));
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
        if let Some(answer) = answer(&line) {
            return Some(answer);
        }
    }
}

/// As the original reads it: the first letter counts.
fn answer(line: &str) -> Option<bool> {
    match line.trim_start().chars().next()? {
        'y' | 'Y' => Some(true),
        'n' | 'N' => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_and_no_are_answers() {
        assert_eq!(answer(" Yes\n"), Some(true));
        assert_eq!(answer("n"), Some(false));
        for line in ["", "\n", "maybe", "1"] {
            assert_eq!(answer(line), None);
        }
    }
}

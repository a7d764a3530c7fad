//! The modes of a terminal as a client sends them (RFC 4254, section 8), put into a terminal's settings. Pure.

use russh::Pty;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex as Code, Termios,
};

/// Puts the client's modes into these settings. Those that mean nothing here are left out.
pub(crate) fn apply(modes: &[(Pty, u32)], settings: &mut Termios) {
    for &(mode, value) in modes {
        if let Some(code) = special_code(mode) {
            // 255 means none (RFC 4254), which the kernel writes as 0.
            let byte = u8::try_from(value).ok().filter(|byte| *byte != u8::MAX);
            settings.special_codes[code] = byte.unwrap_or(0);
        } else {
            set_flag(mode, value != 0, settings);
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all others are flags, or mean nothing here"
)]
fn special_code(mode: Pty) -> Option<Code> {
    let code = match mode {
        Pty::VINTR => Code::VINTR,
        Pty::VQUIT => Code::VQUIT,
        Pty::VERASE => Code::VERASE,
        Pty::VKILL => Code::VKILL,
        Pty::VEOF => Code::VEOF,
        Pty::VEOL => Code::VEOL,
        Pty::VEOL2 => Code::VEOL2,
        Pty::VSTART => Code::VSTART,
        Pty::VSTOP => Code::VSTOP,
        Pty::VSUSP => Code::VSUSP,
        Pty::VREPRINT => Code::VREPRINT,
        Pty::VWERASE => Code::VWERASE,
        Pty::VLNEXT => Code::VLNEXT,
        Pty::VDISCARD => Code::VDISCARD,
        _ => return None,
    };
    Some(code)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "speeds mean nothing to a terminal without a wire, and the rest is of other systems"
)]
fn set_flag(mode: Pty, on: bool, settings: &mut Termios) {
    let (input, output) = (&mut settings.input_modes, &mut settings.output_modes);
    let (local, control) = (&mut settings.local_modes, &mut settings.control_modes);
    match mode {
        Pty::IGNPAR => input.set(InputModes::IGNPAR, on),
        Pty::PARMRK => input.set(InputModes::PARMRK, on),
        Pty::INPCK => input.set(InputModes::INPCK, on),
        Pty::ISTRIP => input.set(InputModes::ISTRIP, on),
        Pty::INLCR => input.set(InputModes::INLCR, on),
        Pty::IGNCR => input.set(InputModes::IGNCR, on),
        Pty::ICRNL => input.set(InputModes::ICRNL, on),
        Pty::IXON => input.set(InputModes::IXON, on),
        Pty::IXANY => input.set(InputModes::IXANY, on),
        Pty::IXOFF => input.set(InputModes::IXOFF, on),
        Pty::IMAXBEL => input.set(InputModes::IMAXBEL, on),
        Pty::IUTF8 => input.set(InputModes::IUTF8, on),
        Pty::ISIG => local.set(LocalModes::ISIG, on),
        Pty::ICANON => local.set(LocalModes::ICANON, on),
        Pty::ECHO => local.set(LocalModes::ECHO, on),
        Pty::ECHOE => local.set(LocalModes::ECHOE, on),
        Pty::ECHOK => local.set(LocalModes::ECHOK, on),
        Pty::ECHONL => local.set(LocalModes::ECHONL, on),
        Pty::NOFLSH => local.set(LocalModes::NOFLSH, on),
        Pty::TOSTOP => local.set(LocalModes::TOSTOP, on),
        Pty::IEXTEN => local.set(LocalModes::IEXTEN, on),
        Pty::ECHOCTL => local.set(LocalModes::ECHOCTL, on),
        Pty::ECHOKE => local.set(LocalModes::ECHOKE, on),
        Pty::PENDIN => local.set(LocalModes::PENDIN, on),
        Pty::OPOST => output.set(OutputModes::OPOST, on),
        Pty::ONLCR => output.set(OutputModes::ONLCR, on),
        Pty::OCRNL => output.set(OutputModes::OCRNL, on),
        Pty::ONOCR => output.set(OutputModes::ONOCR, on),
        Pty::ONLRET => output.set(OutputModes::ONLRET, on),
        Pty::CS7 if on => *control = (*control - ControlModes::CSIZE) | ControlModes::CS7,
        Pty::CS8 if on => *control = (*control - ControlModes::CSIZE) | ControlModes::CS8,
        Pty::PARENB => control.set(ControlModes::PARENB, on),
        Pty::PARODD => control.set(ControlModes::PARODD, on),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::tcgetattr;

    use super::*;

    #[test]
    fn what_a_client_sends_is_what_the_terminal_has() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let mut settings = tcgetattr(&terminal).unwrap();
        assert!(settings.local_modes.contains(LocalModes::ECHO));
        let modes = [
            (Pty::VERASE, 0x08),
            (Pty::VINTR, 255),
            (Pty::VEOF, 70_000),
            (Pty::ECHO, 0),
            (Pty::IUTF8, 1),
            (Pty::CS7, 1),
            (Pty::TTY_OP_OSPEED, 38_400),
        ];
        apply(&modes, &mut settings);
        assert_eq!(settings.special_codes[Code::VERASE], 8);
        assert_eq!(settings.special_codes[Code::VINTR], 0);
        assert_eq!(settings.special_codes[Code::VEOF], 0);
        assert!(!settings.local_modes.contains(LocalModes::ECHO));
        assert!(settings.input_modes.contains(InputModes::IUTF8));
        let size = settings.control_modes & ControlModes::CSIZE;
        assert_eq!(size, ControlModes::CS7);
    }
}

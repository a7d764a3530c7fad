//! A command on a real terminal's screen (tmux), with a person who looks at it and types.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{CEILING, World, run, tool, wait_until};

/// A command in a terminal of its own, whose screen can be read as a person sees it. Dropping it ends the terminal, and what
/// runs in it.
#[derive(Debug)]
pub struct Screen {
    /// The terminal server's socket: no other terminal is on it.
    socket: PathBuf,
}

impl Screen {
    /// Starts a command in this world on a screen of so many columns and lines. Each screen of a world needs a name of its own.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(
        world: &World,
        name: &str,
        (columns, lines): (u16, u16),
        command: &Command,
    ) -> Self {
        let config = world.path("tmux.conf");
        // The screen stays after the command's end, so that it can be read.
        let settings = "set -g remain-on-exit on\nset -g status off\nset -s escape-time 0\n";
        fs::write(&config, settings).expect("the world's folder is writable");
        let screen = Self {
            socket: world.path(&format!("tmux-{name}")),
        };
        let mut server = screen.tmux();
        world.mark(&mut server);
        server.env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => server.env(name, value),
                None => server.env_remove(name),
            };
        }
        server
            .arg("-f")
            .arg(config)
            .args(["new-session", "-d", "-x", &columns.to_string()])
            .args(["-y", &lines.to_string(), "--"])
            .arg(command.get_program())
            .args(command.get_args())
            // The server keeps what it is given for as long as it lives.
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = server.status().expect("tmux can be started");
        assert!(started.success(), "tmux: {started}");
        screen
    }

    /// What stands on the screen, without what is empty at the end of lines and of the screen.
    #[track_caller]
    pub fn shown(&self) -> String {
        self.ask(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// What stands on the screen, with the escape sequences of its colours.
    #[track_caller]
    pub fn painted(&self) -> String {
        self.ask(&["capture-pane", "-p", "-e"])
            .trim_end()
            .to_owned()
    }

    /// Whether the command shows the alternate screen, as full-screen programs do.
    #[track_caller]
    pub fn is_alternate(&self) -> bool {
        self.ask(&["display-message", "-p", "#{alternate_on}"])
            .trim()
            == "1"
    }

    /// Whether the cursor is shown.
    #[track_caller]
    pub fn has_cursor(&self) -> bool {
        self.ask(&["display-message", "-p", "#{cursor_flag}"])
            .trim()
            == "1"
    }

    /// Waits until this is so of the screen, and returns what it shows then.
    ///
    /// # Panics
    /// When it is not so in time.
    #[track_caller]
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        wait_until(&format!("{what} on the screen"), CEILING, || {
            let shown = self.shown();
            if is_so(&shown) {
                Ok(shown)
            } else {
                Err(format!("\n{shown}\n"))
            }
        })
    }

    /// Waits until this text stands on the screen.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_until(&format!("`{text}`"), |shown| shown.contains(text))
    }

    /// Types this text.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        self.ask(&["send-keys", "-l", "--", text]);
    }

    /// Presses a key, by tmux' name for it: `Enter`, `Tab`, `C-c`.
    #[track_caller]
    pub fn press(&self, key: &str) {
        self.ask(&["send-keys", key]);
    }

    /// Gives the terminal another size, as a person who pulls at its corner does.
    #[track_caller]
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &lines]);
    }

    /// Waits for the command's end, and returns its exit code.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        wait_until("the end of the command on the screen", CEILING, || {
            let ended = self.ask(&["display-message", "-p", "#{pane_dead} #{pane_dead_status}"]);
            match ended.trim().split_once(' ') {
                Some(("1", code)) => code
                    .parse()
                    .map_err(|_| format!("ended by a signal: {ended}")),
                // tmux 3.3a now and then misses that its child has ended: it asks after all of them when another one ends.
                None if ended.trim() == "1" => {
                    self.ask(&["run-shell", "true"]);
                    Err("the terminal is closed".to_owned())
                }
                Some(_) | None => Err(self.shown()),
            }
        })
    }

    #[track_caller]
    fn ask(&self, words: &[&str]) -> String {
        run(self.tmux().args(words), CEILING).success().stdout
    }

    fn tmux(&self) -> Command {
        let mut tmux = Command::new(tool("tmux"));
        tmux.env("LC_ALL", "C.UTF-8")
            .arg("-u")
            .arg(OsStr::new("-S"))
            .arg(&self.socket);
        tmux
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It fails only when the terminal is gone already.
        let _ = self
            .tmux()
            .arg("kill-server")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

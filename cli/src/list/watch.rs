//! `tunnel list --watch`

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;

use controller::{Account, Change, Listed};
use daemon::clock;
use protocol::DeviceId;
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::filter::Filter;
use super::screen::Screen;
use super::table::{cut, date, table};
use crate::exit;
use crate::failure::Failure;
use crate::interruption::Interruption;
use crate::output;
use crate::paint::Paint;
use crate::runtime::cannot;
use crate::seen_devices::SeenDevices;

/// Shows each change until a signal comes, or nobody reads any more.
pub(crate) async fn run(account: Arc<Account>, filter: Filter, json: bool) -> Result<u8, Failure> {
    let interruption = Interruption::watch()?;
    let (sender, changes) = mpsc::channel(CHANGES);
    let on_screen = io::stdout().is_terminal() && !json;
    let showing = async {
        if on_screen {
            on_a_screen(&account, &filter, changes).await
        } else {
            as_lines(&filter, json, changes).await
        }
    };
    // A task of its own: a terminal that was stopped holds up what is shown, and must not hold up the session, which others wait
    // for. It ends with this set.
    let (mut watching, watched) = (JoinSet::new(), Arc::clone(&account));
    watching.spawn(async move { controller::watch(&watched, sender).await });
    tokio::select! {
        // Nothing else ends it than what it returns.
        Some(Ok(watched)) = watching.join_next() => watched.map(|()| exit::OK).map_err(Failure::from),
        shown = showing => shown,
        () = reader_gone() => Ok(exit::OK),
        // That is how one ends it.
        _ = interruption.requested() => Ok(exit::OK),
    }
}

async fn on_a_screen(
    account: &Account,
    filter: &Filter,
    mut changes: mpsc::Receiver<Change>,
) -> Result<u8, Failure> {
    let fail = |error| cannot("show a screen", error);
    let mut resized = signal(SignalKind::window_change()).map_err(fail)?;
    let mut view = View::new(format!(
        "{}.{}",
        account.id().system(),
        account.id().realm()
    ));
    // Not before there is something to show: an error belongs on the usual screen.
    let mut screen = None;
    let mut kept = Vec::new();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Some(change) => {
                    view.apply(change);
                    // All that has come by now is one picture.
                    while let Ok(change) = changes.try_recv() {
                        view.apply(change);
                    }
                }
                None => return over().await,
            },
            _ = resized.recv() => {}
        }
        if view.is_complete {
            if screen.is_none() {
                screen = Some(Screen::begin().map_err(fail)?);
            }
            let (width, height) = Screen::size();
            Screen::show(&view.frame(filter, width, height, Paint::for_stdout())).map_err(fail)?;
            let known = view.known();
            if known != kept {
                let devices: Vec<Listed> = view.devices.values().cloned().collect();
                SeenDevices::keep(&account.dir, &devices);
                kept = known;
            }
        }
    }
}

async fn as_lines(
    filter: &Filter,
    json: bool,
    mut changes: mpsc::Receiver<Change>,
) -> Result<u8, Failure> {
    // What was told of a device tells whether its going is worth a line.
    let mut told = BTreeSet::new();
    loop {
        let Some(change) = changes.recv().await else {
            return over().await;
        };
        let at = clock::unix_seconds();
        let line = match change {
            Change::Listed(device) if filter.takes(&device) || told.contains(&device.device) => {
                told.insert(device.device.clone());
                Line::Device { at, device }
            }
            Change::Gone(device) if told.remove(&device) => Line::Gone {
                at,
                device,
                gone: true,
            },
            Change::Away(why) => {
                output::note(format_args!(
                    "the broker was lost, and is tried again: {why}"
                ));
                continue;
            }
            Change::Listed(_) | Change::Gone(_) | Change::Current => continue,
        };
        let text = if json {
            serde_json::to_string(&line)
                .map_err(|error| Failure::new(error, None, exit::FAILURE))?
        } else {
            line.to_text()
        };
        if output::try_line(text).is_err() {
            // Whoever read it has gone.
            return Ok(exit::OK);
        }
    }
}

/// Nothing more comes: why that is says whoever watched, and nobody before.
async fn over() -> Result<u8, Failure> {
    pending().await
}

/// Completes when standard output is a pipe that nobody reads any more: the next change, at which that would be noticed, may be
/// hours away.
async fn reader_gone() {
    let out = io::stdout().as_fd().try_clone_to_owned();
    // A file has no such end, and nothing is written through this: whether it would block is no matter.
    let Ok(out) = out.and_then(pipe::Sender::from_owned_fd_unchecked) else {
        pending::<()>().await;
        return;
    };
    if out.ready(Interest::ERROR).await.is_err() {
        pending::<()>().await;
    }
}

/// One change, as a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Line {
    Device {
        at: u64,
        #[serde(flatten)]
        device: Listed,
    },
    Gone {
        at: u64,
        device: DeviceId,
        gone: bool,
    },
}

impl Line {
    fn to_text(&self) -> String {
        match self {
            Self::Device { at, device } => {
                let state = if device.online { "online" } else { "offline" };
                let names: Vec<_> = device.controllers.iter().map(ToString::to_string).collect();
                let line = format!(
                    "{}  {}  {state}  {}",
                    date(*at),
                    device.device,
                    names.join(", ")
                );
                line.trim_end().to_owned()
            }
            Self::Gone { at, device, .. } => format!("{}  {device}  gone", date(*at)),
        }
    }
}

/// What is shown on a screen.
struct View {
    place: String,
    devices: BTreeMap<DeviceId, Listed>,
    away: Option<String>,
    is_complete: bool,
}

impl View {
    fn new(place: String) -> Self {
        Self {
            place,
            devices: BTreeMap::new(),
            away: None,
            is_complete: false,
        }
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Listed(listed) => {
                self.devices.insert(listed.device.clone(), listed);
            }
            Change::Gone(device) => {
                self.devices.remove(&device);
            }
            Change::Current => {
                self.away = None;
                self.is_complete = true;
            }
            Change::Away(why) => self.away = Some(why),
        }
    }

    /// What of it completions want.
    fn known(&self) -> Vec<(DeviceId, bool)> {
        self.devices
            .values()
            .map(|listed| (listed.device.clone(), listed.online))
            .collect()
    }

    /// The picture: never more lines than there are, and none wider than the screen.
    fn frame(&self, filter: &Filter, width: usize, height: usize, paint: Paint) -> Vec<String> {
        let shown: Vec<&Listed> = self
            .devices
            .values()
            .filter(|device| filter.takes(device))
            .collect();
        let online = shown.iter().filter(|device| device.online).count();
        let title = format!("{}: {} of {} online", self.place, online, shown.len());
        let mut lines = vec![cut(&title, width)];
        if let Some(why) = &self.away {
            let text = format!("as last seen; the broker is away: {why}");
            lines.push(paint.yellow(&cut(&text, width)));
        }
        let end = cut("Ctrl-C ends", width);
        // One line less for the end.
        let room = height.saturating_sub(lines.len() + 1);
        let mut rows = table(&shown, width, paint);
        if rows.len() > room {
            let hidden = rows.len() + 1 - room.max(1);
            rows.truncate(room.saturating_sub(1));
            rows.push(cut(&format!("… and {hidden} more"), width));
        }
        lines.append(&mut rows);
        lines.truncate(height.saturating_sub(1));
        lines.push(paint.dim(&end));
        lines
    }
}

/// Changes that wait to be shown; a broker that has more waits.
const CHANGES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn view(count: usize) -> View {
        let mut view = View::new("hula.atlas".to_owned());
        for number in 0..count {
            view.apply(Change::Listed(Listed {
                device: format!("{number}.hula.atlas").parse().unwrap(),
                online: number % 2 == 0,
                since: 1_795_305_600,
                lost: false,
                version: "0.1.0".to_owned(),
                proxy: None,
                controllers: Vec::new(),
            }));
        }
        view.apply(Change::Current);
        view
    }

    fn all() -> Filter {
        Filter::of(None, None)
    }

    #[test]
    fn the_picture_says_what_there_is() {
        let mut view = view(2);
        view.apply(Change::Away("no route to host".to_owned()));
        let frame = view.frame(&all(), 60, 24, Paint::NONE);
        insta::assert_snapshot!(frame.join("\n"), @r"
        hula.atlas: 1 of 2 online
        as last seen; the broker is away: no route to host
        DEVICE        STATE    SINCE                    VERSION  PR…
        0.hula.atlas  online   2026-11-22 00:00:00Z     0.1.0
        1.hula.atlas  offline  2026-11-22 00:00:00Z     0.1.0
        Ctrl-C ends
        ");
    }

    #[test]
    fn the_picture_fits_every_screen() {
        for count in [0, 1, 5, 50] {
            for (width, height) in [(80, 24), (10, 3), (1, 1), (40, 6), (200, 2)] {
                let frame = view(count).frame(&all(), width, height, Paint::NONE);
                assert!(
                    frame.len() <= height,
                    "{count} devices on {width} x {height}"
                );
                assert!(frame.iter().all(|line| line.chars().count() <= width));
            }
        }
        let frame = view(50).frame(&all(), 80, 10, Paint::NONE);
        assert_eq!(frame.last().unwrap(), "Ctrl-C ends");
        assert_eq!(frame[frame.len() - 2], "… and 44 more");
    }
}

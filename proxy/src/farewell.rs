//! The last words to somebody who is not let in at all.
//!
//! A connection that is closed without a word looks like a broken network, and its owner looks in the wrong place. A
//! disconnect message may come right after the identification line, before any key exchange (RFC 4253, sections 4.2 and
//! 11.1), so it costs no cryptography and no session.

use std::sync::Arc;
use std::time::Duration;

use daemon::ssh::IDENTIFICATION;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Says goodbye to a bounded number of peers at a time; others are closed without a word.
#[derive(Debug)]
pub(crate) struct Farewell {
    places: Arc<Semaphore>,
}

impl Farewell {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Tells the peer why, and closes.
    pub(crate) fn say(&self, tasks: &TaskTracker, mut socket: TcpStream, reason: &str) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return;
        };
        let words = words(reason);
        tasks.spawn(async move {
            let _place = place;
            let _ = timeout(LIMIT, async {
                socket.write_all(&words).await?;
                socket.shutdown().await?;
                // What the peer has sent and nobody reads would make the kernel reset the connection, and the words with
                // it.
                let mut ignored = [0; 512];
                while socket.read(&mut ignored).await? > 0 {}
                Ok::<(), std::io::Error>(())
            })
            .await;
        });
    }
}

/// The identification line, and a disconnect message in a packet without encryption.
fn words(reason: &str) -> Vec<u8> {
    let mut payload = vec![DISCONNECT];
    payload.extend(TOO_MANY_CONNECTIONS.to_be_bytes());
    for text in [reason, "en"] {
        payload.extend(u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
        payload.extend(text.as_bytes());
    }
    // RFC 4253, section 6: length, padding length, payload and padding are a multiple of eight; at least four of padding.
    let padding = BLOCK - (5 + payload.len()) % BLOCK;
    let padding = if padding < 4 {
        padding + BLOCK
    } else {
        padding
    };
    let length = 1 + payload.len() + padding;
    let mut words = format!("{IDENTIFICATION}\r\n").into_bytes();
    words.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
    words.push(u8::try_from(padding).unwrap_or(0));
    words.extend(payload);
    words.resize(words.len() + padding, 0);
    words
}

/// RFC 4250, sections 4.1.2 and 4.2.2.
const DISCONNECT: u8 = 1;
const TOO_MANY_CONNECTIONS: u32 = 12;

const BLOCK: usize = 8;

/// How many are told at a time: half of the doorway. Who comes in a flood is not owed a word.
const AT_A_TIME: usize = 256;

/// How long a peer may take to hear it.
const LIMIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_one_whatever_the_length_of_its_text() {
        for length in 0..40 {
            let reason = "x".repeat(length);
            let words = words(&reason);
            let packet = &words[IDENTIFICATION.len() + 2..];
            let announced = u32::from_be_bytes(packet[..4].try_into().unwrap());
            assert_eq!(packet.len(), 4 + announced as usize);
            assert_eq!(packet.len() % BLOCK, 0);
            let padding = usize::from(packet[4]);
            assert!((4..12).contains(&padding));
            assert_eq!(packet[5], DISCONNECT);
            assert!(packet.len() - padding == 5 + 1 + 4 + 4 + length + 4 + 2);
        }
    }
}

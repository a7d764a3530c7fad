//! The first line that an SSH server says (RFC 4253, section 4.2).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BannerError {
    /// Nothing came in time.
    #[error("the SSH server accepts connections but says nothing for {} s", PATIENCE.as_secs())]
    Silent,
    /// It ended before.
    #[error("the SSH server closes the connection at once")]
    Closed,
    /// The connection broke.
    #[error("the connection to the SSH server broke")]
    Broken(#[source] io::Error),
    /// Something else came.
    #[error("what listens there is no SSH server")]
    Other,
}

impl BannerError {
    /// What the person can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Silent => "sshd on the device hangs, or is overloaded: restart it there",
            Self::Closed | Self::Broken(_) => {
                "sshd on the device turns connections away: see its log (`MaxStartups`, `hosts.deny`, a missing host key)"
            }
            Self::Other => {
                "put the address of `ssh` right, in `[services]` of the device's `device.toml`"
            }
        }
    }
}

/// Reads it.
pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, BannerError> {
    within(PATIENCE, stream).await
}

async fn within(
    patience: Duration,
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<String, BannerError> {
    timeout(patience, line(stream))
        .await
        .unwrap_or(Err(BannerError::Silent))
}

async fn line(stream: &mut (impl AsyncRead + Unpin)) -> Result<String, BannerError> {
    let mut read = Vec::new();
    while read.len() < LONGEST {
        match stream.read_u8().await {
            Ok(b'\n') => break,
            Ok(byte) => read.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(BannerError::Closed);
            }
            Err(error) => return Err(BannerError::Broken(error)),
        }
    }
    let text = String::from_utf8_lossy(&read);
    let text = text.trim_end();
    if text.starts_with("SSH-") && text.chars().all(|c| !c.is_control()) {
        Ok(text.to_owned())
    } else {
        Err(BannerError::Other)
    }
}

/// The longest line, in bytes, its end included (RFC 4253, section 4.2).
const LONGEST: usize = 255;

/// A server that is alive says it at once; one that asks a slow DNS for our name first takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use daemon::report::Report;

    use super::*;

    #[tokio::test]
    async fn only_a_banner_is_one() {
        let read_from = |text: &'static [u8]| async move { read(&mut &text[..]).await };
        assert_eq!(
            read_from(b"SSH-2.0-OpenSSH_9.2p1\r\n").await.unwrap(),
            "SSH-2.0-OpenSSH_9.2p1"
        );
        for text in [
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            b"SSH-2.0-\x1b[2J\r\n",
            &[b'x'; 1000],
        ] {
            let other = report(&read_from(text).await.unwrap_err());
            insta::allow_duplicates! {
                insta::assert_snapshot!(other, @r"
                error: what listens there is no SSH server
                hint: put the address of `ssh` right, in `[services]` of the device's `device.toml`
                ");
            }
        }
        insta::assert_snapshot!(report(&read_from(b"").await.unwrap_err()), @r"
        error: the SSH server closes the connection at once
        hint: sshd on the device turns connections away: see its log (`MaxStartups`, `hosts.deny`, a missing host key)
        ");
        let broken = BannerError::Broken(io::ErrorKind::ConnectionReset.into());
        insta::assert_snapshot!(report(&broken), @r"
        error: the connection to the SSH server broke
        caused by: connection reset
        hint: sshd on the device turns connections away: see its log (`MaxStartups`, `hosts.deny`, a missing host key)
        ");
    }

    fn report(error: &BannerError) -> String {
        Report::new(error, Some(error.hint())).to_string()
    }

    #[tokio::test]
    async fn silence_has_an_end() {
        let (mut ours, _theirs) = tokio::io::duplex(16);
        let error = within(Duration::from_millis(10), &mut ours)
            .await
            .unwrap_err();
        insta::assert_snapshot!(report(&error), @r"
        error: the SSH server accepts connections but says nothing for 5 s
        hint: sshd on the device hangs, or is overloaded: restart it there
        ");
    }
}

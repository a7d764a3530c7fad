//! One stream: from a channel of the proxy to a service of this computer.

use std::os::fd::AsFd;
use std::time::Duration;

use daemon::host_port::HostPort;
use daemon::splice::{self, SpliceLimits};
use daemon::ssh_client::ForwardedStream;
use protocol::{DeviceId, Label};
use rustix::net::{Shutdown, shutdown};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Connects to the service, accepts the stream, and joins the two until they end, or until `end` is cancelled. A service that does not answer is a
/// refusal, so that the controller hears of it at once.
pub(crate) async fn serve(
    stream: ForwardedStream,
    service: &Label,
    address: &HostPort,
    end: CancellationToken,
) {
    let originator = stream.originator.clone();
    let connect = TcpStream::connect((address.host(), address.port()));
    let mut local = match timeout(CONNECT, connect).await {
        Ok(Ok(local)) => local,
        Ok(Err(error)) => {
            tracing::warn!(%service, %address, %error, originator, "a stream was refused: the service cannot be reached");
            return stream
                .refuse(&format!("service `{service}` cannot be reached: {error}"))
                .await;
        }
        Err(_) => {
            tracing::warn!(%service, %address, originator, "a stream was refused: the service does not answer");
            return stream
                .refuse(&format!("service `{service}` does not answer"))
                .await;
        }
    };
    // Keystrokes must not wait for each other; it is only slower without.
    let _ = local.set_nodelay(true);
    tracing::info!(%service, originator, "a stream has begun");
    let channel = stream.accept().await;
    let handle = local.as_fd().try_clone_to_owned();
    let ended = {
        let (mut reader, mut writer) = local.split();
        let splice = splice::local(channel, &mut reader, &mut writer, SpliceLimits::default());
        let mut splice = std::pin::pin!(splice);
        tokio::select! {
            ended = &mut splice => ended,
            () = end.cancelled() => {
                // The splice sees its local side gone and closes the channel; dropped, it would leave that open.
                let shut = handle.and_then(|socket| Ok(shutdown(socket, Shutdown::Both)?));
                if let Err(error) = shut {
                    tracing::warn!(%service, %error, "a stream could not be ended");
                }
                splice.await
            }
        }
    };
    if !ended.is_clean() {
        // The service shall see a broken connection as one, and not as the end of what was sent.
        let _ = local.set_zero_linger();
    }
    tracing::info!(%service, originator, up = ended.up, down = ended.down, why = %ended.why, "a stream has ended");
}

/// The controller that a stream comes from, as our proxy tells: its id in place of its address. Another proxy tells an
/// address, which is nobody.
pub(crate) fn controller(stream: &ForwardedStream) -> Option<Label> {
    let (id, _port) = stream.originator.rsplit_once(':')?;
    id.parse().ok().map(|id: DeviceId| id.device().clone())
}

/// How long a service of this computer may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

//! One stream: from a channel of the proxy to a service of this computer.

use std::time::Duration;

use daemon::host_port::HostPort;
use daemon::splice::{self, SpliceLimits};
use daemon::ssh_client::ForwardedStream;
use protocol::{DeviceId, Label};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::builtin::Builtin;
use crate::ends::End;

/// Connects to the service, accepts the stream, and joins the two until they end, or until the `end` is requested. A service
/// that does not answer is a refusal, so that the controller hears of it at once.
pub(crate) async fn serve(stream: ForwardedStream, service: &Label, address: &HostPort, end: End) {
    let originator = stream.originator.clone();
    let connect = TcpStream::connect((address.host(), address.port()));
    let connected = tokio::select! {
        connected = timeout(CONNECT, connect) => connected,
        () = end.requested() => return stream.refuse("its controller has disconnected").await,
    };
    let mut local = match connected {
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
    let ended = {
        let (mut reader, mut writer) = local.split();
        let limits = SpliceLimits::default();
        splice::local_until(channel, &mut reader, &mut writer, limits, end.requested()).await
    };
    if !ended.is_clean() {
        // The service shall see a broken connection as one, and not as the end of what was sent.
        let _ = local.set_zero_linger();
    }
    tracing::info!(%service, originator, up = ended.up, down = ended.down, why = %ended.why, "a stream has ended");
}

/// Accepts the stream and joins it with the ssh server in this process.
pub(crate) async fn serve_here(
    stream: ForwardedStream,
    service: &Label,
    builtin: &dyn Builtin,
    end: End,
) {
    let originator = stream.originator.clone();
    let (mut near, far) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => {
            tracing::warn!(%service, %error, originator, "a stream was refused");
            return stream
                .refuse(&format!("service `{service}` cannot be reached: {error}"))
                .await;
        }
    };
    tracing::info!(%service, originator, "a stream has begun");
    let channel = stream.accept().await;
    let carrying = async {
        let ended = {
            let (mut reader, mut writer) = near.split();
            let limits = SpliceLimits::default();
            splice::local_until(channel, &mut reader, &mut writer, limits, end.requested()).await
        };
        // The server sees it now, while this still waits for the server.
        drop(near);
        ended
    };
    let ((), ended) = tokio::join!(builtin.serve(far, &originator), carrying);
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

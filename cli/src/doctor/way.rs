//! The way to a server up to a TCP connection: its name, and whether somebody listens.

use daemon::host_port::HostPort;
use daemon::reach;
use tokio::net::TcpStream;

use super::findings::Findings;
use super::leg::Leg;
use crate::exit;

/// Looks at both, under these names. What fails is only a warning where it `may_fail`.
pub(super) async fn to(
    place: &HostPort,
    [dns, tcp]: [&str; 2],
    may_fail: bool,
    findings: &mut Findings,
) -> Option<TcpStream> {
    let began = findings.look_at(dns);
    let addresses = match reach::resolve(place).await {
        Ok(addresses) => addresses,
        Err(error) => {
            let leg = Leg::error(dns, &error, Some(error.hint()), exit::UNAVAILABLE);
            findings.add(began, leg.tolerated(may_fail));
            findings.skip(tcp, "without an address");
            return None;
        }
    };
    let all: Vec<String> = addresses
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    let found = format!("`{}` is {}", place.host(), all.join(", "));
    findings.add(began, Leg::ok(dns, found));
    let began = findings.look_at(tcp);
    match reach::connect(place, &addresses).await {
        Ok(stream) => {
            findings.add(began, Leg::ok(tcp, format!("`{place}` listens")));
            Some(stream)
        }
        Err(error) => {
            let leg = Leg::error(tcp, &error, Some(error.hint()), exit::UNAVAILABLE);
            findings.add(began, leg.tolerated(may_fail));
            None
        }
    }
}

//! The agent's own ssh, asked without the agent: the same service, begun in this process for as long as its banner takes.

use super::leg::Leg;
use super::own::Own;

/// Looks at whether it could serve, and whom it would let in.
#[cfg(feature = "builtin-ssh")]
pub(super) async fn look(name: &str, own: &Own) -> Leg {
    use std::os::unix::fs::MetadataExt;

    use tokio::net::UnixStream;

    use super::ssh_banner;
    use crate::builtin_ssh;
    use crate::exit;

    let controllers = own.dir.controllers();
    let owner = std::fs::metadata(own.dir.path()).map(|dir| dir.uid());
    if owner.is_ok_and(|uid| uid != rustix::process::geteuid().as_raw()) {
        return Leg::skipped(
            name,
            "it is its user's alone: look as the user who runs the agent",
        );
    }
    if !own.dir.builtin_host_key().exists() {
        return Leg::skipped(name, "its host key is made when the agent begins");
    }
    if !controllers.exists() {
        return Leg::warning(
            name,
            format!("nobody can log in: `{}` is missing", controllers.display()),
            "`tunnel agent sync-keys --builtin` brings the keys of the system's controllers",
        );
    }
    let service = match builtin_ssh::prepare(&own.dir, &own.membership, true).await {
        Ok(Some(service)) => service,
        Ok(None) => return Leg::skipped(name, "it is not asked for"),
        Err(failure) => return Leg::failed(name, &failure),
    };
    let (mut ours, theirs) = match UnixStream::pair() {
        Ok(pair) => pair,
        Err(error) => return Leg::error(name, &error, None, exit::FAILURE),
    };
    let banner = tokio::select! {
        banner = ssh_banner::read(&mut ours) => banner,
        () = service.serve(theirs, "the doctor") => Err(ssh_banner::BannerError::Closed),
    };
    match banner {
        Ok(banner) => Leg::ok(name, format!("the agent itself is {banner}")),
        Err(error) => {
            let hint = "the agent's log says more".to_owned();
            Leg::error(name, &error, Some(hint), exit::UNAVAILABLE)
        }
    }
}

/// This build has none.
#[cfg(not(feature = "builtin-ssh"))]
pub(super) fn look(name: &str, _: &Own) -> std::future::Ready<Leg> {
    std::future::ready(Leg::wrong(
        name,
        "`device.toml` asks for the built-in ssh, and this build of the program has none",
        "name the address of an SSH server in `[services]`, or install the whole program",
        crate::exit::CONFIG,
    ))
}

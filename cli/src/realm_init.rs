//! `tunnel realm init`

use std::net::SocketAddr;
use std::path::PathBuf;

use daemon::files;
use daemon::host_port::HostPort;
use daemon::ports::Ports;
use daemon::realm_dir::RealmDir;
use daemon::realm_file::{
    BrokerAddress, ProxyAddress, REALM_FILE_VERSION, RealmFile, RegistryPlace, SignedBy,
    SubscribeQos,
};
use daemon::registry_place::GitHubPlace;
use daemon::server_file::ServerFile;
use enrollment::trust_store::{HEAD, TRUST_FILE};
use enrollment::{Directory, ssh_key};
use serde_json::json;
use signer::{Authority, Revocations};
use time::OffsetDateTime;

use crate::arguments::RealmInit;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::passphrase;
use crate::runtime::cannot;

pub(crate) fn run(dir: Option<PathBuf>, arguments: &RealmInit) -> Result<u8, Failure> {
    let dir = RealmDir::new(dir.unwrap_or_else(|| PathBuf::from(arguments.name.as_str())));
    init(&dir, arguments)?;
    let realm_file = dir.realm_file().display().to_string();
    if arguments.json {
        let made = json!({ "realm": arguments.name, "dir": dir.path(), "realm_file": realm_file });
        output::line(made);
    } else {
        output::line(format_args!(
            "realm `{}` made in `{}`",
            arguments.name,
            dir.path().display()
        ));
        output::note(format_args!(
            "next: `tunnel serve --dir {}`",
            dir.path().display()
        ));
        output::note(format_args!(
            "then, on each computer: `tunnel enroll SYSTEM DEVICE --realm {realm_file}`"
        ));
    }
    Ok(exit::OK)
}

/// Makes the realm's directory. One that is there already is never touched: its authority has signed for devices.
pub(crate) fn init(dir: &RealmDir, arguments: &RealmInit) -> Result<(), Failure> {
    if dir.realm_file().exists() || dir.authority().exists() {
        let (what, hint) = if dir.realm_file().exists() {
            ("a realm", "name another directory with `--dir`")
        } else {
            (
                "a realm that is only half made",
                "nothing was signed with its authority yet: remove the directory",
            )
        };
        let text = format!("there is {what} in `{}` already", dir.path().display());
        return Err(Failure::text(text, Some(hint), exit::CONFIG));
    }
    let broker_host = arguments.broker.as_ref().unwrap_or(&arguments.proxy);
    let usage = |error| {
        Failure::new(
            error,
            Some("a host is a name or an address, without a port".to_owned()),
            exit::USAGE,
        )
    };
    let broker = HostPort::new(broker_host, arguments.broker_port).map_err(usage)?;
    let proxy = HostPort::new(&arguments.proxy, arguments.proxy_port).map_err(usage)?;

    // Before anything is made.
    let passphrase = arguments.encrypt_ca.then(passphrase::choose).transpose()?;
    let failure = |error| Failure::new(error, None, exit::FAILURE);
    let authority = Authority::create(&arguments.name).map_err(failure)?;
    let server = authority
        .server_certificate(&[broker.host().to_owned()])
        .map_err(|error| Failure::new(error, None, exit::USAGE))?;

    std::fs::create_dir_all(dir.path())
        .map_err(|error| cannot(&format!("make `{}`", dir.path().display()), error))?;
    let registry = Directory::create(dir.registry())?;
    match &passphrase {
        Some(passphrase) => authority.save_encrypted(&dir.authority(), passphrase),
        None => authority.save(&dir.authority()),
    }
    .map_err(failure)?;
    Revocations::new(dir.clone()).refresh(&authority, OffsetDateTime::now_utc())?;
    files::write_public(&dir.path().join(TRUST_FILE), HEAD.as_bytes())?;
    files::write_private(&dir.broker_key(), server.key_pem.expose().as_bytes())?;
    files::write_public(&dir.broker_certificate(), server.certificate_pem.as_bytes())?;
    let host_key = ssh_key::load_or_create(&dir.proxy_host_key(), proxy.host())
        .map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    let line =
        ssh_key::bare_line(&host_key).map_err(|error| Failure::new(error, None, exit::FAILURE))?;

    let listen = |port| SocketAddr::new(arguments.listen, port);
    let server_file = ServerFile::new(listen(arguments.broker_port), listen(arguments.proxy_port));
    write_toml(&dir.server_file(), &server_file)?;
    let directory = std::fs::canonicalize(registry.path())
        .map_err(|error| cannot(&format!("find `{}`", registry.path().display()), error))?;
    let realm_file = RealmFile {
        version: REALM_FILE_VERSION,
        realm: arguments.name.clone(),
        client_id_suffix: arguments.client_id_suffix.clone(),
        ca: authority.certificate_pem().to_owned(),
        signed_by: SignedBy::default(),
        broker: BrokerAddress {
            address: broker,
            more_addresses: Vec::new(),
            subscribe_qos: SubscribeQos::default(),
            ca: None,
        },
        proxies: vec![ProxyAddress {
            address: proxy,
            host_keys: vec![line],
        }],
        registry: match &arguments.github {
            Some(repository) => {
                let mut place = GitHubPlace::new(repository.clone());
                if let Some(login) = &arguments.signer {
                    place.signers = [login.clone()].into();
                }
                RegistryPlace::GitHub(place)
            }
            None => RegistryPlace::Directory(directory),
        },
        ports: Ports::default(),
    };
    // Last, so that a realm which is only half made is not taken for one.
    write_toml(&dir.realm_file(), &realm_file)
}

fn write_toml(path: &std::path::Path, content: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        toml::to_string(content).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    Ok(files::write_public(path, text.as_bytes())?)
}

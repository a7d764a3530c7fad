//! The proof that an enrollment works: a session with the broker, and a login at the proxy.

use std::sync::Arc;
use std::time::Duration;

use daemon::device_dir::DeviceDir;
use daemon::identity::{self, Identity};
use daemon::mqtt::{Link, LinkError, LinkEvent, LinkSettings};
use daemon::realm_file::RealmFile;
use daemon::shutdown::Shutdown;
use daemon::ssh_client::{self, DialError};
use daemon::tls;
use enrollment::Obtained;
use protocol::{DeviceId, Role, filter};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::{Instant, sleep};

use crate::exit;
use crate::failure::Failure;
use crate::output;

/// What a device proves itself with, and to whom.
pub(crate) struct Proof<'a> {
    realm: &'a RealmFile,
    id: &'a DeviceId,
    identity: Identity,
    /// How long the proxy may take to learn the key.
    patience: Duration,
}

impl<'a> Proof<'a> {
    /// The proof for a certificate that need not be installed yet.
    pub(crate) fn of(
        dir: &DeviceDir,
        realm: &'a RealmFile,
        id: &'a DeviceId,
        obtained: &Obtained,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let pem = obtained.certificate().pem();
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(error, None, exit::DATA))?;
        let identity = Identity {
            certificates,
            key: identity::private_key(obtained.key_file())?,
            ssh_key: Arc::new(identity::ssh_key(&dir.ssh_key(id))?),
        };
        Ok(Self {
            realm,
            id,
            identity,
            patience,
        })
    }

    /// Logs in to both, and says so.
    pub(crate) async fn prove(&self) -> Result<(), Failure> {
        self.broker().await?;
        output::note(format_args!(
            "broker `{}` takes the certificate",
            self.realm.broker.address
        ));
        let proxy = self.proxy().await?;
        output::note(format_args!("proxy `{proxy}` takes the SSH key"));
        Ok(())
    }

    async fn broker(&self) -> Result<(), Failure> {
        let settings = LinkSettings {
            brokers: self.realm.brokers(),
            subscribe_qos: self.realm.broker.subscribe_qos,
            tls: tls::client(self.realm.broker_ca(), &self.identity)
                .map_err(|error| Failure::new(error, None, exit::CONFIG))?,
            client_id: self.realm.client_id_suffix.client_id(self.id),
            // What it will need: that the broker grants it is part of the proof.
            filters: vec![match self.id.role() {
                Role::Target => filter::orders(self.id),
                Role::Controller => filter::replies(self.id),
            }],
            will: None,
        };
        let shutdown = Shutdown::new(Duration::ZERO);
        let mut link = Link::start(settings, &shutdown);
        loop {
            match link.next().await {
                Some(LinkEvent::Up { .. }) => break,
                Some(LinkEvent::Message { .. }) => {}
                Some(LinkEvent::Down(error)) => return Err(broker_failure(error)),
                None => {
                    return Err(Failure::text(
                        "the broker was not asked",
                        None,
                        exit::FAILURE,
                    ));
                }
            }
        }
        link.finish(None).await;
        Ok(())
    }

    /// A key that was just uploaded may not have reached the proxy yet, so that is waited for.
    async fn proxy(&self) -> Result<String, Failure> {
        let config = |text: &str| Failure::text(text, None, exit::CONFIG);
        let proxy = self
            .realm
            .proxy()
            .ok_or_else(|| config("`realm.toml` names no proxy"))?;
        let host_keys = proxy
            .public_keys()
            .map_err(|error| Failure::new(error, None, exit::CONFIG))?;
        let address = proxy.address.to_string();
        let user = self.id.system().as_str();
        let until = Instant::now() + self.patience;
        let mut told = false;
        loop {
            let key = Arc::clone(&self.identity.ssh_key);
            match ssh_client::dial(&address, user, key, &host_keys, DIAL).await {
                Ok(dialed) => {
                    dialed.disconnect("that was all").await;
                    return Ok(address);
                }
                Err(DialError::Refused { .. }) if Instant::now() < until => {
                    if !told {
                        output::note("waiting for the proxy to learn the SSH key …");
                        told = true;
                    }
                    sleep(AGAIN).await;
                }
                Err(error) => {
                    let code = if matches!(error, DialError::Refused { .. }) {
                        exit::REFUSED
                    } else if error.is_transient() {
                        exit::UNAVAILABLE
                    } else {
                        exit::DATA
                    };
                    let hint = error.hint().unwrap_or(AFTERWARDS).to_owned();
                    return Err(Failure::new(error, Some(hint), code));
                }
            }
        }
    }
}

fn broker_failure(error: LinkError) -> Failure {
    let is_refusal = matches!(
        error,
        LinkError::Refused { .. } | LinkError::SubscriptionRefused { .. } | LinkError::Tls { .. }
    );
    let code = if is_refusal {
        exit::REFUSED
    } else {
        exit::UNAVAILABLE
    };
    let hint = format!("{}; {AFTERWARDS}", error.hint());
    Failure::new(error, Some(hint), code)
}

/// What helps when something is only away for the moment.
const AFTERWARDS: &str =
    "run the same command again when it can be reached: what is done already is kept";

/// The deadline of one login at the proxy.
const DIAL: Duration = Duration::from_secs(10);

/// How long to wait before the next try: the proxy looks for new keys every few seconds, and who fails often is shut out.
const AGAIN: Duration = Duration::from_secs(3);

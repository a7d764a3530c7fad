//! Revocation, judged by OpenSSL.

use std::os::unix::fs::PermissionsExt;

use daemon::realm_dir::RealmDir;
use enrollment::{Decision, DeviceKey, RegistryError, UploadPermission};
use signer::{CertificateState, Outcome, Revocations, crl, ledger, readable_ledger};
use time::{Duration, OffsetDateTime};

use crate::faulty::{Faulty, Moment};
use crate::openssl::{P256, request, run, try_run};
use crate::world::{World, id, subject};

impl World {
    fn directory(&self) -> RealmDir {
        RealmDir::new(self.path(""))
    }

    fn revocations(&self) -> Revocations {
        Revocations::new(self.directory())
    }

    /// Shuts these devices out and puts a key of each into the registry. What is returned tells which are left.
    async fn shut_out_with_keys(&self, names: &[&str]) -> impl Fn() -> Vec<String> {
        let (authority, now) = (self.authority(), OffsetDateTime::now_utc());
        for name in names {
            let revoked = self.revocations().revoke(&authority, &id(name), now);
            revoked.unwrap();
            let line = ssh_key(name).key().to_openssh().unwrap();
            self.put(&format!("{name}.sshkey.pub"), &line).await;
        }
        let registry = self.path("registry");
        move || {
            let files = std::fs::read_dir(&registry).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let mut left: Vec<_> = names.collect();
            left.sort();
            left
        }
    }

    async fn signed(&self, name: &str) -> String {
        let csr = self.put_request(name).await;
        self.signer().once(&self.registry).await.unwrap();
        let certificate = self.certificate(name).await.unwrap();
        std::fs::write(self.path(name), &certificate).unwrap();
        csr
    }

    /// What `openssl verify` says when it asks the list.
    fn verify(&self, name: &str) -> (bool, String) {
        try_run(
            &self.path(""),
            &[
                "verify",
                "-x509_strict",
                "-crl_check",
                "-CAfile",
                "ca/ca.cert",
                "-CRLfile",
                "ca/crl.pem",
                name,
            ],
        )
    }

    fn list_text(&self) -> String {
        let shown = [
            "crl",
            "-in",
            "ca/crl.pem",
            "-noout",
            "-text",
            "-CAfile",
            "ca/ca.cert",
            "-verify",
        ];
        run(&self.path(""), &shown)
    }
}

#[tokio::test]
async fn openssl_refuses_what_is_revoked_and_nothing_else() {
    let world = World::new();
    world.signed("333.hula.atlas").await;
    world.signed("334.hula.atlas").await;
    let empty = world.list_text();
    assert!(empty.contains("verify OK"), "{empty}");
    assert!(empty.contains("No Revoked Certificates"), "{empty}");
    assert!(world.verify("333.hula.atlas").0);

    let now = OffsetDateTime::now_utc();
    let revoke = |name: &str| {
        let done = world
            .revocations()
            .revoke(&world.authority(), &id(name), now);
        done.unwrap()
    };
    let first = revoke("333.hula.atlas");
    assert_eq!((first.serials.len(), first.was_shut_out), (1, false));
    let (well, text) = world.verify("333.hula.atlas");
    assert!(!well && text.contains("certificate revoked"), "{text}");
    assert!(world.verify("334.hula.atlas").0);
    let list = world.list_text();
    assert!(list.contains("verify OK"), "{list}");
    assert!(
        list.contains(&format!("Serial Number: {}", first.serials[0])),
        "{list}"
    );

    let again = revoke("333.hula.atlas");
    assert_eq!((again.serials.len(), again.was_shut_out), (0, true));
    let revoked = world.revocations().current().unwrap();
    let states: Vec<_> = ledger(&world.directory(), &revoked, now)
        .unwrap()
        .into_iter()
        .map(|entry| (entry.id.device().to_string(), entry.state))
        .collect();
    assert_eq!(
        states,
        [
            ("333".to_owned(), CertificateState::Revoked),
            ("334".to_owned(), CertificateState::Valid)
        ]
    );
}

#[tokio::test]
async fn who_is_shut_out_gets_no_certificate_until_readmitted_and_never_for_the_old_key() {
    let world = World::new();
    let name = "333.hula.atlas";
    let old = world.signed(name).await;
    let now = OffsetDateTime::now_utc();
    let revocations = world.revocations();
    revocations
        .revoke(&world.authority(), &id(name), now)
        .unwrap();
    let outcome = async |csr: &str| {
        world.put(&format!("{name}.x509.csr"), csr).await;
        let outcomes = world.signer().once(&world.registry).await.unwrap();
        outcomes.into_iter().next().unwrap().1
    };
    let reason = |outcome: Outcome| match outcome {
        Outcome::Refused(refusal) => refusal.reason().to_owned(),
        other @ (Outcome::Signed { .. }
        | Outcome::HandedOut { .. }
        | Outcome::StillRefused
        | Outcome::Undecided
        | Outcome::Failed) => panic!("{other:?}"),
    };
    let new = request(&P256, &subject(name), &[]);
    assert_eq!(
        reason(outcome(&new).await),
        "`333.hula.atlas` has been revoked"
    );
    assert!(revocations.readmit(&id(name)).unwrap());
    assert_eq!(
        reason(outcome(&old).await),
        "the key is that of a certificate which has been revoked"
    );
    assert!(matches!(outcome(&new).await, Outcome::Signed { .. }));
    std::fs::write(world.path("new"), world.certificate(name).await.unwrap()).unwrap();
    assert!(world.verify("new").0);
    assert!(!world.verify(name).0);
}

#[tokio::test]
async fn a_list_is_made_anew_every_day_and_after_an_interruption() {
    let world = World::new();
    world.signed("333.hula.atlas").await;
    let now = OffsetDateTime::now_utc();
    let (authority, revocations) = (world.authority(), world.revocations());
    let number = || {
        let text = world.list_text();
        let (_, after) = text.split_once("X509v3 CRL Number:").unwrap();
        let number = after.trim_start().lines().next().unwrap().to_owned();
        number.parse::<u64>().unwrap()
    };
    let first = number();
    assert!(!revocations.refresh(&authority, now).unwrap());
    assert!(revocations.refresh(&authority, now + crl::REFRESH).unwrap());
    let second = number();
    assert!(second > first);
    // A clock that is set back makes the time fall, and not the number.
    assert!(
        revocations
            .refresh(&authority, now - Duration::days(5))
            .unwrap()
    );
    assert!(number() > second);

    // The process dies between the two files.
    let mut revoked = revocations.current().unwrap();
    let list = world.path("ca/crl.pem");
    let before = std::fs::read(&list).unwrap();
    revocations
        .revoke(&authority, &id("333.hula.atlas"), now)
        .unwrap();
    revoked.certificates = revocations.current().unwrap().certificates;
    std::fs::write(&list, before).unwrap();
    assert!(world.verify("333.hula.atlas").0);
    world.signer().once(&world.registry).await.unwrap();
    assert!(!world.verify("333.hula.atlas").0);
}

#[tokio::test]
async fn a_clock_that_runs_ahead_lets_nobody_in() {
    let world = World::new();
    world.signed("333.hula.atlas").await;
    world.signed("334.hula.atlas").await;
    let now = OffsetDateTime::now_utc();
    let (authority, revocations) = (world.authority(), world.revocations());
    revocations
        .revoke(&authority, &id("333.hula.atlas"), now)
        .unwrap();
    // By this clock, both certificates are past their end.
    let late = now + Duration::days(500);
    let second = revocations.revoke(&authority, &id("334.hula.atlas"), late);
    assert_eq!(second.unwrap().serials.len(), 1);
    assert!(
        revocations
            .refresh(&authority, late + crl::REFRESH)
            .unwrap()
    );
    let list = world.list_text();
    assert_eq!(list.matches("Serial Number: ").count(), 2, "{list}");
    // The clock is right again, and so is the list.
    assert!(revocations.refresh(&authority, now).unwrap());
    for name in ["333.hula.atlas", "334.hula.atlas"] {
        let (well, text) = world.verify(name);
        assert!(!well && text.contains("certificate revoked"), "{text}");
    }
}

#[tokio::test]
async fn a_damaged_record_keeps_nothing_else_from_being_revoked() {
    let world = World::new();
    world.signed("333.hula.atlas").await;
    let first: Vec<_> = records(&world);
    world.signed("333.hula.atlas").await;
    world.signed("334.hula.atlas").await;
    // One is empty, and all can be read by others, as after a restoration.
    std::fs::write(&first[0], "").unwrap();
    for record in records(&world) {
        std::fs::set_permissions(record, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    let now = OffsetDateTime::now_utc();
    let done = world
        .revocations()
        .revoke(&world.authority(), &id("333.hula.atlas"), now)
        .unwrap();
    assert_eq!((done.serials.len(), done.was_shut_out), (1, false));
    let [unreadable] = done.unreadable.as_slice() else {
        panic!("{:?}", done.unreadable)
    };
    assert!(unreadable.fault.contains("is not a record of the signer"));
    assert!(unreadable.hint.as_ref().unwrap().contains("from a backup"));
    let revoked = world.revocations().current().unwrap();
    assert!(revoked.shuts_out(&id("333.hula.atlas")));
    assert!(!world.verify("333.hula.atlas").0);
    assert!(world.verify("334.hula.atlas").0);
    let seen = readable_ledger(&world.directory(), &revoked, now).unwrap();
    assert_eq!((seen.entries.len(), seen.unreadable.len()), (2, 1));
    // Who needs all of them is told.
    assert!(ledger(&world.directory(), &revoked, now).is_err());
}

fn records(world: &World) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(world.path("signer")).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[tokio::test]
async fn what_comes_back_of_a_revoked_device_is_taken_out_of_the_registry() {
    let world = World::new();
    let (first, second) = (ssh_key("333.hula.atlas"), ssh_key("333.hula.atlas"));
    let now = OffsetDateTime::now_utc();
    let (authority, revocations) = (world.authority(), world.revocations());
    revocations
        .revoke(&authority, &id("333.hula.atlas"), now)
        .unwrap();
    let added = revocations.revoke_ssh_keys(std::slice::from_ref(&first), now);
    assert_eq!(added.unwrap().len(), 1);
    let remains = async |key: &DeviceKey| {
        let title = "333.hula.atlas.sshkey.pub";
        world.put(title, &key.key().to_openssh().unwrap()).await;
        world.signer().once(&world.registry).await.unwrap();
        world.path("registry").join(title).exists()
    };
    world.put("334.hula.atlas.sshkey.pub", "another's").await;
    assert!(!remains(&first).await, "the device is shut out");
    assert!(!remains(&second).await, "with every key");
    revocations.readmit(&id("333.hula.atlas")).unwrap();
    assert!(!remains(&first).await, "the old key stays revoked");
    assert!(remains(&second).await);
    assert!(world.path("registry/334.hula.atlas.sshkey.pub").exists());
}

#[tokio::test]
async fn what_cannot_be_taken_out_keeps_nothing_else_in() {
    let world = World::new();
    let names = ["333.hula.atlas", "334.hula.atlas"];
    let left = world.shut_out_with_keys(&names).await;
    // List; for the first: certificate, key, close.
    let failing = Faulty::new(&world.registry, |number, moment| match (number, moment) {
        (4, Moment::Before) => Err(RegistryError::Cut),
        _ => Ok(()),
    });
    world.signer().once(&failing).await.unwrap();
    assert_eq!(left(), ["333.hula.atlas.sshkey.pub"]);
    world.signer().once(&world.registry).await.unwrap();
    assert!(left().is_empty());
}

#[tokio::test]
async fn what_strangers_bring_under_a_revoked_name_is_taken_out_a_few_at_a_time() {
    let world = World::new();
    let names: Vec<String> = (1..=8).map(|name| format!("{name}.hula.atlas")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let left = world.shut_out_with_keys(&names).await;
    let nobody = || UploadPermission::new(|_, _| Decision::Refused);
    let signer = world.signer_permitting(nobody());
    signer.once(&world.registry).await.unwrap();
    assert_eq!(left().len(), 3);
    signer.once(&world.registry).await.unwrap();
    assert!(left().is_empty());
}

fn ssh_key(name: &str) -> DeviceKey {
    let home = tempfile::tempdir().unwrap();
    let key = enrollment::ssh_key::create(&home.path().join("key"), name).unwrap();
    let line = enrollment::ssh_key::public_line(&key).unwrap();
    DeviceKey::parse(&id(name), &line).unwrap()
}

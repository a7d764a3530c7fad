//! A device's enrollment with a signer at work.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use daemon::device_dir::DeviceDir;
use daemon::shutdown::Shutdown;
use enrollment::{EnrollError, Enrollment, Event, Registry, UploadPermission};
use protocol::ClientIdSuffix;
use signer::Signer;

use crate::openssl::run;
use crate::world::{World, id};

/// Long enough for a machine that does other things; what is waited for takes half a second.
const LONG: Duration = Duration::from_mins(1);

const NAME: &str = "333.hula.atlas";

fn enrollment_of(name: &str, world: &World, computer: &str) -> Enrollment {
    let directory = DeviceDir::new(world.path(computer));
    Enrollment::new(
        directory,
        id(name),
        ClientIdSuffix::default(),
        world.authority_pem(),
    )
    .with_deadline(LONG)
}

/// Runs the signer beside what the test does.
async fn beside<T>(signer: Signer, world: &World, work: impl Future<Output = T>) -> T {
    let shutdown = Shutdown::new(LONG);
    let (stop, registry) = (shutdown.clone(), world.registry.clone());
    let running = shutdown.spawn(async move { signer.run(&registry, &stop).await });
    let result = work.await;
    shutdown.request();
    assert!(shutdown.drained().await);
    running.await.unwrap();
    result
}

#[tokio::test]
async fn a_device_is_enrolled_once_and_can_be_again() {
    let world = World::new();
    let enrollment = enrollment_of(NAME, &world, "computer");
    let (mut first, mut second) = (Vec::new(), Vec::new());
    beside(world.signer(), &world, async {
        let enrolled = enrollment
            .run(&world.registry, |event| first.push(event))
            .await
            .unwrap();
        assert!(enrolled.now);
        let again = enrollment
            .run(&world.registry, |event| second.push(event))
            .await
            .unwrap();
        assert_eq!((again.not_after, again.now), (enrolled.not_after, false));
    })
    .await;

    first.retain(|event| !matches!(event, Event::Waiting { .. }));
    let uploaded = |kind: &str, now| Event::Uploaded {
        title: format!("{NAME}.{kind}").parse().unwrap(),
        now,
    };
    assert_eq!(
        first,
        [
            Event::KeysReady { made: true },
            uploaded("sshkey.pub", true),
            uploaded("x509.csr", true),
            Event::Seen,
            Event::Signed,
            Event::Installed,
        ]
    );
    assert_eq!(
        second,
        [
            Event::KeysReady { made: false },
            uploaded("sshkey.pub", false)
        ]
    );
    assert_eq!(world.issued(), 1);

    let home = world.path("computer");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(home.clone()), 0o700);
    for (file, expected) in [
        ("sshkey", 0o600),
        ("sshkey.pub", 0o644),
        ("x509.key", 0o600),
        ("x509.cert", 0o644),
    ] {
        assert_eq!(
            mode(home.join(format!("{NAME}.{file}"))),
            expected,
            "{file}"
        );
    }
    assert_eq!(
        fs::read_dir(&home).unwrap().count(),
        4,
        "nothing temporary stays"
    );
    let (certificate, key) = (format!("{NAME}.x509.cert"), format!("{NAME}.x509.key"));
    run(
        &home,
        &[
            "verify",
            "-x509_strict",
            "-purpose",
            "sslclient",
            "-CAfile",
            "../ca/ca.cert",
            &certificate,
        ],
    );
    assert_eq!(
        run(&home, &["x509", "-in", &certificate, "-noout", "-pubkey"]),
        run(&home, &["pkey", "-in", &key, "-pubout"])
    );
}

#[tokio::test]
async fn a_lost_certificate_comes_back_without_a_new_one_being_made() {
    let world = World::new();
    let enrollment = enrollment_of(NAME, &world, "computer");
    beside(world.signer(), &world, async {
        enrollment.run(&world.registry, |_| ()).await.unwrap()
    })
    .await;
    let file = world.path("computer").join(format!("{NAME}.x509.cert"));
    let certificate = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    // No signer is running.
    enrollment.run(&world.registry, |_| ()).await.unwrap();
    assert_eq!(fs::read(&file).unwrap(), certificate);
}

#[tokio::test]
async fn an_interrupted_enrollment_goes_on_with_its_request() {
    let world = World::new();
    let impatient = enrollment_of(NAME, &world, "computer").with_deadline(Duration::ZERO);
    let error = impatient.run(&world.registry, |_| ()).await.unwrap_err();
    assert!(matches!(error, EnrollError::TimedOut { .. }), "{error}");
    assert!(error.hint().unwrap().contains("run the command again"));
    let request = world.requests().await;
    let mut events = Vec::new();
    let error = impatient
        .run(&world.registry, |event| events.push(event))
        .await
        .unwrap_err();
    assert!(matches!(error, EnrollError::TimedOut { .. }), "{error}");
    assert_eq!(
        world.requests().await,
        request,
        "the request is not made twice"
    );
    world.signer().once(&world.registry).await.unwrap();
    assert!(impatient.run(&world.registry, |_| ()).await.unwrap().now);
}

#[tokio::test]
async fn a_refusal_is_shown_and_a_mended_cause_is_enough() {
    let world = World::new();
    let name = "controller-x.hula.atlas";
    let enrollment = enrollment_of(name, &world, "computer");
    let nobody = world.signer_permitting(UploadPermission::controllers_only_from([].into()));
    let error = beside(nobody, &world, async {
        enrollment.run(&world.registry, |_| ()).await.unwrap_err()
    })
    .await;
    let text = error.to_string();
    assert!(
        // The key or the request, whichever it has looked at first.
        text.starts_with("the signer refused `controller-x.hula.atlas.")
            && text.contains("`: user id "),
        "{text}"
    );
    assert!(
        error
            .hint()
            .unwrap()
            .contains("ask the realm's administrator")
    );
    beside(world.signer(), &world, async {
        enrollment.run(&world.registry, |_| ()).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_name_is_taken_over_only_when_asked_to() {
    let world = World::new();
    beside(world.signer(), &world, async {
        enrollment_of(NAME, &world, "old")
            .run(&world.registry, |_| ())
            .await
            .unwrap();
        let new = enrollment_of(NAME, &world, "new");
        let error = new.run(&world.registry, |_| ()).await.unwrap_err();
        assert!(matches!(error, EnrollError::NameTaken { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--replace"));
        assert_eq!(world.issued(), 1);
        // The old computer's certificate is still there and must not be mistaken for the answer.
        new.replacing().run(&world.registry, |_| ()).await.unwrap();
    })
    .await;
    assert_eq!(world.issued(), 2);
    let certificate =
        |computer: &str| fs::read(world.path(computer).join(format!("{NAME}.x509.cert"))).unwrap();
    assert_ne!(certificate("old"), certificate("new"));
}

#[tokio::test]
async fn a_certificate_of_another_realm_is_not_installed() {
    let (world, other) = (World::new(), World::new());
    let enrollment = Enrollment::new(
        DeviceDir::new(world.path("computer")),
        id(NAME),
        ClientIdSuffix::default(),
        other.authority_pem(),
    )
    .with_deadline(Duration::from_secs(10));
    let error = beside(world.signer(), &world, async {
        enrollment.run(&world.registry, |_| ()).await.unwrap_err()
    })
    .await;
    assert!(matches!(error, EnrollError::Certificate { .. }), "{error}");
    assert!(
        !world
            .path("computer")
            .join(format!("{NAME}.x509.cert"))
            .exists()
    );
}

#[tokio::test]
async fn a_certificate_that_is_nearly_over_is_renewed() {
    let world = World::new();
    let enrollment = enrollment_of(NAME, &world, "computer");
    let at_once = enrollment.clone().with_deadline(Duration::ZERO);
    at_once.run(&world.registry, |_| ()).await.unwrap_err();
    // No day at all: it ends as it is made, and was valid for the hour that it is backdated.
    let signer = world.signer().with_days(0);
    signer.once(&world.registry).await.unwrap();
    drop(signer);
    at_once.run(&world.registry, |_| ()).await.unwrap_err();
    assert_eq!(world.requests().await.len(), 1, "a new request is there");
    beside(world.signer(), &world, async {
        enrollment.run(&world.registry, |_| ()).await.unwrap()
    })
    .await;
    assert_eq!(world.issued(), 2);
    let title = format!("{NAME}.sshkey.pub").parse().unwrap();
    assert!(world.registry.get(&title).await.unwrap().is_some());
}

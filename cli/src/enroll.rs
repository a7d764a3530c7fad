//! `tunnel enroll`

use std::path::{Path, PathBuf};

use daemon::device_dir::DeviceDir;
use daemon::files;
use daemon::realm_file::RealmFile;
use daemon::registry_place::RegistryPlace;
use enrollment::{AnyRegistry, Enrolled, Enrollment, Event};
use protocol::{DeviceId, Label, Role};
use time::OffsetDateTime;

use crate::arguments::Enroll;
use crate::exit;
use crate::failure::Failure;
use crate::output;
use crate::proof::Proof;
use crate::runtime::{self, device_dir};

pub(crate) fn run(dir: Option<PathBuf>, arguments: &Enroll) -> Result<u8, Failure> {
    let dir = device_dir(dir)?;
    let realm = realm(&dir, arguments)?;
    let (system, device) = name(&dir, &realm, arguments)?;
    let id = DeviceId::new(device, system, realm.realm.clone())
        .map_err(|error| Failure::new(error, None, exit::USAGE))?;
    check_device_file(&dir, &id)?;
    if let Some(named) = &arguments.realm {
        keep_realm_file(&dir, named, &realm)?;
    }
    let place = match &arguments.registry {
        Some(directory) => &RegistryPlace::Directory(directory.clone()),
        None => &realm.registry,
    };
    let registry = AnyRegistry::open(place, dir.path())?;
    let mut enrollment = Enrollment::new(
        dir.clone(),
        id.clone(),
        realm.client_id_suffix.clone(),
        realm.ca.clone(),
    )
    .with_deadline(arguments.wait.into());
    if realm.device_ca().is_none() {
        enrollment = enrollment.without_authority();
    }
    if arguments.replace {
        enrollment = enrollment.replacing();
    }
    if arguments.renew {
        enrollment = enrollment.renewing();
    }
    runtime::block_on(async {
        let obtained = enrollment.obtain(&registry, tell).await?;
        let proof = Proof::of(&dir, &realm, &id, &obtained, arguments.wait.into())?;
        // What is in use and works is not replaced by what has not been seen to work.
        let before = arguments.renew && !arguments.no_proof;
        if before {
            proof.prove().await?;
        }
        let enrolled: Enrolled = enrollment.install(obtained, tell)?;
        write_device_file(&dir, &id)?;
        if !before && !arguments.no_proof {
            proof.prove().await?;
        }
        let next = match id.role() {
            Role::Controller => "tunnel list".to_owned(),
            Role::Target => "tunnel agent".to_owned(),
        };
        let until = OffsetDateTime::from(enrolled.not_after).date();
        output::note(format_args!(
            "`{id}` is enrolled until {until}; next: `{next}`"
        ));
        Ok(exit::OK)
    })
}

/// System and device: as they were named, or as the directory knows them, from before or from the original.
fn name(dir: &DeviceDir, realm: &RealmFile, arguments: &Enroll) -> Result<(Label, Label), Failure> {
    if let (Some(system), Some(device)) = (&arguments.system, &arguments.device) {
        return Ok((system.clone(), device.clone()));
    }
    let file = dir.device(&realm.realm).map_err(|error| {
        let hint = "name them: `tunnel enroll SYSTEM DEVICE`".to_owned();
        Failure::new(error, Some(hint), exit::USAGE)
    })?;
    Ok((file.system, file.device))
}

/// The realm's file: the one that was named, or the one that is kept.
fn realm(dir: &DeviceDir, arguments: &Enroll) -> Result<RealmFile, Failure> {
    let kept = dir.realm_file();
    let Some(named) = &arguments.realm else {
        return RealmFile::load(&kept).map_err(|error| {
            let hint = "name the file that the realm's admin gave you with `--realm realm.toml`"
                .to_owned();
            Failure::new(error, Some(hint), exit::CONFIG)
        });
    };
    Ok(RealmFile::load(named)?)
}

/// Keeps the realm's file that was named. A device's directory belongs to one realm: with another's file it would be no device
/// of its own any more.
fn keep_realm_file(dir: &DeviceDir, named: &Path, realm: &RealmFile) -> Result<(), Failure> {
    let kept = dir.realm_file();
    // A damaged one is replaced.
    if dir.has_device()
        && let Ok(before) = RealmFile::load(&kept)
        && before.realm != realm.realm
    {
        return Err(Failure::text(
            format!(
                "`{}` belongs to a device of the realm `{}`, and `{}` is the file of `{}`",
                dir.path().display(),
                before.realm,
                named.display(),
                realm.realm
            ),
            Some("enroll in another realm in a directory of its own: `--dir DIR`"),
            exit::CONFIG,
        ));
    }
    // A copy: the text as it came, with the admin's comments.
    let text = files::read_bounded(named, daemon::realm_file::MAX_CONFIG)?;
    // The directory holds keys, so it is private from the beginning; the file itself is no secret.
    Ok(files::write_private(&kept, &text)?)
}

/// A directory belongs to one device: another's keys beside its own would be taken for it.
fn check_device_file(dir: &DeviceDir, id: &DeviceId) -> Result<(), Failure> {
    if !dir.has_device() {
        return Ok(());
    }
    let file = dir.device(id.realm())?;
    if file.device == *id.device() && file.system == *id.system() {
        return Ok(());
    }
    Err(Failure::text(
        format!(
            "`{}` belongs to device `{}` of system `{}`",
            dir.path().display(),
            file.device,
            file.system
        ),
        Some("enroll another device in a directory of its own: `--dir DIR`"),
        exit::CONFIG,
    ))
}

/// What a person has changed in the file stays.
fn write_device_file(dir: &DeviceDir, id: &DeviceId) -> Result<(), Failure> {
    if dir.has_device() {
        return Ok(());
    }
    let path = dir.device_file();
    let text = format!(
        "system = \"{}\"\ndevice = \"{}\"\n",
        id.system(),
        id.device()
    );
    Ok(files::write_private(&path, text.as_bytes())?)
}

fn tell(event: Event) {
    match event {
        Event::KeysReady { made: true } => output::note("keys made"),
        Event::KeysReady { made: false } => output::note("keys are there already"),
        Event::Uploaded { title, now: true } => output::note(format_args!("`{title}` handed in")),
        Event::Uploaded { title, now: false } => {
            output::note(format_args!("`{title}` has been handed in before"));
        }
        Event::Waiting { so_far } if so_far.is_zero() => output::note("waiting for the signer …"),
        Event::Waiting { so_far } => tracing::debug!(?so_far, "still waiting for the signer"),
        Event::Seen => output::note("the signer has seen the request"),
        Event::Signed => output::note("signed"),
        Event::Installed => output::note("certificate installed"),
    }
}

//! `cargo xtask bench registry`: a realm's bot before a repository with a thousand requests, and before one with nothing new.
//!
//! GitHub is the stand-in of the end-to-end tests, on loopback and in this process: what it takes is no part of the bot's CPU
//! time, and is part of the seconds. Nothing is said of GitHub's own speed; the calls are what counts there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use e2e::github::{Call, GitHub};
use e2e::{CEILING, Stopwatch, Usage, World, run, tool, usage, wait_until};
use serde_json::json;

use crate::step::{ChoreError, measured_build};

/// Measures, and prints what was found.
pub(crate) fn command(requests: usize, as_json: bool) -> Result<(), ChoreError> {
    measured_build()?;
    let (world, github) = realm()?;
    let request = Request::new(&world);
    for number in 0..requests {
        let device = format!("d{number}");
        let title = format!("{device}.hula.atlas.x509.csr");
        github.open("octo", &title, &request.of(&world, &device));
    }
    let burst = sign_all(&world, &github)?;
    let quiet = look_for_news(&world, &github);
    if burst.of("POST", "/issues") != requests {
        return Err(ChoreError::Failed(format!(
            "{} of {requests} requests were signed",
            burst.of("POST", "/issues")
        )));
    }
    let (seconds, cpu) = (burst.seconds, burst.usage.cpu.as_secs_f64());
    let mib = burst.usage.peak_kib / 1024;
    let same = quiet.iter().filter(|call| call.status == 304).count();
    if as_json {
        println!(
            "{}",
            json!({
                "about": "a thousand requests in one repository, signed in one run",
                "requests": requests,
                "calls": burst.calls.len(),
                "reads": burst.of("GET", ""),
                "queries": burst.of("POST", "/graphql"),
                "issues_made": burst.of("POST", "/issues"),
                "issues_closed": burst.of("PATCH", ""),
                "seconds": seconds,
                "cpu_seconds": cpu,
                "peak_mib": mib,
                "look": { "calls": quiet.len(), "answered_304": same },
            })
        );
        return Ok(());
    }
    println!(
        "{requests} requests in one repository, signed in one run of `tunnel signer run --once`"
    );
    println!("calls          {:>10}", burst.calls.len());
    println!("  reads        {:>10}", burst.of("GET", ""));
    println!("  queries      {:>10}", burst.of("POST", "/graphql"));
    println!("  issues made  {:>10}", burst.of("POST", "/issues"));
    println!("  closed       {:>10}", burst.of("PATCH", ""));
    println!("seconds        {seconds:>10.1}");
    println!("CPU seconds    {cpu:>10.1}");
    println!("peak memory    {mib:>10} MiB");
    println!(
        "a look with nothing new: {} calls, {same} answered 304",
        quiet.len()
    );
    Ok(())
}

/// What one run of the bot has cost.
struct Burst {
    calls: Vec<Call>,
    seconds: f64,
    usage: Usage,
}

impl Burst {
    /// How many calls of a method there were whose path ends like this.
    fn of(&self, method: &str, ending: &str) -> usize {
        let calls = self.calls.iter();
        calls
            .filter(|call| call.method == method && call.path.ends_with(ending))
            .count()
    }
}

fn sign_all(world: &World, github: &GitHub) -> Result<Burst, ChoreError> {
    github.take_calls();
    let mut command = world.tunnel();
    command
        .args(["signer", "run", "--once", "--dir"])
        .arg(world.realm())
        .stdout(Stdio::null());
    let watch = Stopwatch::start();
    let mut signer = command
        .spawn()
        .map_err(|error| ChoreError::Failed(error.to_string()))?;
    let mut last = Usage::default();
    let status = wait_until("the run to end", CEILING * 20, || {
        last = usage(signer.id()).unwrap_or(last);
        match signer.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) | Err(_) => Err("running".to_owned()),
        }
    });
    let seconds = watch.elapsed().as_secs_f64();
    if !status.success() {
        return Err(ChoreError::Failed(format!("the bot: {status}")));
    }
    Ok(Burst {
        calls: github.take_calls(),
        seconds,
        usage: last,
    })
}

/// The calls of one look of a running bot that has nothing to do.
fn look_for_news(world: &World, github: &GitHub) -> Vec<Call> {
    let _signer = world.signer();
    let mut looks: Vec<Call> = Vec::new();
    wait_until("three looks with nothing new", CEILING, || {
        for call in github.take_calls() {
            if call.status == 304 {
                looks.push(call);
            } else {
                looks.clear();
            }
        }
        let first = looks.first().map(|call| call.path.clone());
        // A look begins where the one before began.
        let starts = looks
            .iter()
            .filter(|call| Some(&call.path) == first.as_ref());
        if starts.count() < 3 || looks.iter().any(|call| call.status != 304) {
            return Err(format!("{looks:?}"));
        }
        Ok(())
    });
    let first = looks.first().map(|call| call.path.clone());
    let rest = looks.iter().skip(1);
    let next = rest.take_while(|call| Some(&call.path) != first.as_ref());
    looks.iter().take(1).chain(next).cloned().collect()
}

/// A realm whose registry is a repository, in which `octo` may enroll everything.
fn realm() -> Result<(World, GitHub), ChoreError> {
    let (world, github) = (World::new(), GitHub::start());
    let failed = |error: std::io::Error| ChoreError::Failed(error.to_string());
    let file = world.realm().join("realm.toml");
    let text = fs::read_to_string(&file).map_err(failed)?;
    let (before, _) = text.split_once("[registry]").unwrap_or((&text, ""));
    let table = github.registry_table(&["atlas-bot"]);
    fs::write(&file, format!("{before}{table}")).map_err(failed)?;
    let rule =
        "version = 1\n[[upload]]\nwho = \"github:octo\"\nsystems = [\"*\"]\nwhat = \"all\"\n";
    fs::write(world.realm().join("trust.toml"), rule).map_err(failed)?;
    let token = world.realm().join("gh-token.txt");
    let kept = format!("{}\n{}\n", github.token("atlas-bot", true), github.host());
    fs::write(&token, kept).map_err(failed)?;
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok((world, github))
}

/// Certificate requests, all for one key: the bot does not mind, and it is made once.
struct Request {
    key: std::path::PathBuf,
}

impl Request {
    fn new(world: &World) -> Self {
        let key = world.path("request.key");
        let mut make = Command::new(tool("openssl"));
        make.args(["genpkey", "-algorithm", "EC"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-out"])
            .arg(&key);
        run(&mut make, CEILING).success();
        Self { key }
    }

    fn of(&self, world: &World, device: &str) -> String {
        let mut make = Command::new(tool("openssl"));
        world.mark(&mut make);
        make.args(["req", "-new", "-subj"])
            .arg(format!("/CN={device}.hula.atlas/OU={device}/O=hula"))
            .arg("-key")
            .arg(&self.key);
        run(&mut make, CEILING).success().stdout
    }
}

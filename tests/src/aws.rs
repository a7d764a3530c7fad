//! A stand-in for AWS IoT Core: moto, which is somebody else's, behind a relay in which calls go wrong when a test wants it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::http::{self, Reply, Request, Response};
use crate::{CEILING, Daemon, Packages, ReservedPort, World, wait_until};

/// AWS IoT Core in one region, with the policies `tunnel.target` and `tunnel.controller`.
#[derive(Debug)]
pub struct Aws {
    moto: u16,
    port: u16,
    ca: PathBuf,
    state: Arc<Mutex<State>>,
    _process: Daemon,
    _reserved: ReservedPort,
}

/// A certificate as AWS keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCertificate {
    /// Its id.
    pub id: String,
    /// `ACTIVE`, `INACTIVE` or `REVOKED`.
    pub status: String,
    /// The policies that it has.
    pub policies: Vec<String>,
    /// The certificate.
    pub pem: String,
}

/// One call and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsCall {
    /// `GET`, `POST` or `PUT`.
    pub method: String,
    /// The path.
    pub path: String,
    /// What stands behind the question mark.
    pub query: String,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsTrouble {
    /// AWS refuses, with this status and this kind of refusal, and does nothing.
    Refused(u16, &'static str),
    /// AWS does it, and the connection breaks before the answer.
    CutAfter,
    /// AWS does it, and somebody in between answers with this status.
    After(u16),
    /// AWS answers with a list that has nothing in it.
    EmptyList,
    /// The process that called is killed, and nothing is done.
    KillBefore,
    /// AWS does it, and the process that called is killed before the answer.
    KillAfter,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<AwsCall>,
    /// Method, a part of the path, the number of such calls to let pass, and the trouble.
    faults: Vec<(&'static str, &'static str, usize, AwsTrouble)>,
    victim: Option<u32>,
}

impl Aws {
    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// When moto cannot be installed or started.
    #[track_caller]
    pub fn start(world: &World) -> Self {
        let python = Packages::Moto.folder().join("bin/python");
        let (reserved, ca) = (ReservedPort::take(), world.path("iot-ca.pem"));
        let mut command = Command::new(python);
        world.mark(&mut command);
        command
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/fixtures/aws/moto_iot.py"
            ))
            .args(["-H", "127.0.0.1", "-p", &reserved.number().to_string()])
            .env("MOTO_IOT_CA", &ca)
            .env("MOTO_IOT_SECRET", SECRET)
            .env("MOTO_IOT_PAGE", PAGE.to_string());
        let process = world.daemon("moto", &mut command);
        let moto = reserved.number();
        wait_until("moto to answer", CEILING * 2, || {
            ask(moto, "POST", "/harness/policy", b"tunnel.target").map(drop)
        });
        ask(moto, "POST", "/harness/policy", b"tunnel.controller").expect("moto answers");

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    http::serve(&stream, |request| relay(&shared, moto, request));
                });
            }
        });
        Self {
            moto,
            port,
            ca,
            state,
            _process: process,
            _reserved: reserved,
        }
    }

    /// `[signer.aws]` of a `server.toml` that uses it.
    pub fn table(&self) -> String {
        format!(
            "\n[signer.aws]\nregion = \"{REGION}\"\nendpoint = \"http://127.0.0.1:{}\"\n",
            self.port
        )
    }

    /// Makes a command's environment that of somebody who has credentials.
    pub fn give_credentials<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
    }

    /// The file with the certificate of the authority that signs.
    pub fn ca(&self) -> PathBuf {
        self.ca.clone()
    }

    /// Makes a policy.
    ///
    /// # Panics
    /// When moto does not answer.
    #[track_caller]
    pub fn make_policy(&self, name: &str) {
        ask(self.moto, "POST", "/harness/policy", name.as_bytes()).expect("moto answers");
    }

    /// Has AWS sign a request for somebody who shares the account.
    ///
    /// # Panics
    /// When moto does not answer.
    #[track_caller]
    pub fn sign_for_another(&self, csr: &str) {
        ask(self.moto, "POST", "/harness/certificate", csr.as_bytes()).expect("moto answers");
    }

    /// Every certificate of the account, as it is kept there.
    ///
    /// # Panics
    /// When moto does not answer.
    #[track_caller]
    pub fn certificates(&self) -> Vec<AwsCertificate> {
        let answer = ask(self.moto, "GET", "/harness/state", b"").expect("moto answers");
        let text = |value: &serde_json::Value, name: &str| {
            value[name].as_str().unwrap_or_default().to_owned()
        };
        let all: Vec<serde_json::Value> =
            serde_json::from_slice(&answer).expect("the state is JSON");
        all.iter()
            .map(|value| AwsCertificate {
                id: text(value, "id"),
                status: text(value, "status"),
                policies: value["policies"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|name| name.as_str().unwrap_or_default().to_owned())
                    .collect(),
                pem: text(value, "pem"),
            })
            .collect()
    }

    /// Lets this call go wrong once, after so many of its kind.
    pub fn fail(
        &self,
        method: &'static str,
        path: &'static str,
        after: usize,
        trouble: AwsTrouble,
    ) {
        self.state().faults.push((method, path, after, trouble));
    }

    /// Names the process that is killed. The call at which it happens waits for this.
    pub fn set_victim(&self, pid: Option<u32>) {
        self.state().victim = pid;
    }

    /// Whether all that was asked to go wrong has done so; forgets what has not.
    pub fn has_failed(&self) -> bool {
        std::mem::take(&mut self.state().faults).is_empty()
    }

    /// The calls since this was last asked.
    pub fn take_calls(&self) -> Vec<AwsCall> {
        std::mem::take(&mut self.state().calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn relay(state: &Mutex<State>, moto: u16, request: &Request) -> Reply {
    let trouble = {
        let mut state = lock(state);
        state.calls.push(AwsCall {
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
        });
        take_trouble(&mut state, request)
    };
    match trouble {
        None => Reply::Answer(forward(moto, request)),
        Some(AwsTrouble::Refused(status, kind)) => Reply::Answer(Response {
            status,
            headers: vec![("x-amzn-errortype", kind.to_owned())],
            body: br#"{"message":"as the test wants it"}"#.to_vec(),
        }),
        Some(AwsTrouble::CutAfter) => {
            forward(moto, request);
            Reply::Cut
        }
        Some(AwsTrouble::After(status)) => {
            forward(moto, request);
            Reply::Answer(Response {
                status,
                headers: Vec::new(),
                body: b"{}".to_vec(),
            })
        }
        Some(AwsTrouble::EmptyList) => Reply::Answer(Response {
            status: 200,
            headers: Vec::new(),
            body: br#"{"certificates":[]}"#.to_vec(),
        }),
        Some(AwsTrouble::KillBefore) => {
            kill(state);
            Reply::Cut
        }
        Some(AwsTrouble::KillAfter) => {
            forward(moto, request);
            kill(state);
            Reply::Cut
        }
    }
}

fn take_trouble(state: &mut State, request: &Request) -> Option<AwsTrouble> {
    let at = state
        .faults
        .iter_mut()
        .position(|(method, path, after, _)| {
            let is_meant =
                (method.is_empty() || request.method == *method) && request.path.contains(*path);
            let now = is_meant && *after == 0;
            if is_meant && !now {
                *after -= 1;
            }
            now
        })?;
    Some(state.faults.remove(at).3)
}

fn kill(state: &Mutex<State>) {
    let pid = wait_until("the process to kill", CEILING, || {
        lock(state)
            .victim
            .ok_or_else(|| "nobody is named".to_owned())
    });
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // The test sees whether it has ended.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The same call to moto; the names that the signature covers stay.
fn forward(moto: u16, request: &Request) -> Response {
    let mut target = request.path.clone();
    if !request.query.is_empty() {
        target = format!("{target}?{}", request.query);
    }
    let mut headers = request.headers.clone();
    headers.remove("connection");
    let (status, mut headers, body) =
        exchange(moto, &request.method, &target, &headers, &request.body).expect("moto answers");
    let kind = headers.remove("x-amzn-errortype");
    Response {
        status,
        headers: kind
            .map(|kind| ("x-amzn-errortype", kind))
            .into_iter()
            .collect(),
        body,
    }
}

fn ask(moto: u16, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    let headers = BTreeMap::from([
        ("host".to_owned(), "127.0.0.1".to_owned()),
        ("content-length".to_owned(), body.len().to_string()),
    ]);
    match exchange(moto, method, target, &headers, body)? {
        (200, _, body) => Ok(body),
        (status, _, _) => Err(format!("{target} is answered with {status}")),
    }
}

type Answer = (u16, BTreeMap<String, String>, Vec<u8>);

/// One call on a connection of its own, whose end is the end of the answer.
fn exchange(
    moto: u16,
    method: &str,
    target: &str,
    headers: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<Answer, String> {
    let text = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, moto)).map_err(text)?;
    stream.set_read_timeout(Some(CEILING)).map_err(text)?;
    let mut bytes = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"connection: close\r\n\r\n");
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).map_err(text)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(text)?;
    let end = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .ok_or("half an answer")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer).into_owned();
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok())
        .ok_or("no status")?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    Ok((status, headers, body))
}

/// The region that there is.
pub const REGION: &str = "eu-west-1";

/// How many certificates a page has at most.
pub const PAGE: usize = 20;

const SECRET: &str = "canary/wJalrXUtnFEMI+K7MDENG";

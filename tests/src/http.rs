//! As much of HTTP/1.1 as a client of an interface uses: requests with a length, answers with a length, one after another.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(crate) enum Reply {
    /// It goes on.
    Answer(Response),
    /// It is cut.
    Cut,
    /// It stays open, and there is no answer.
    Silence,
}

/// Serves one connection until the client ends it.
pub(crate) fn serve(stream: &TcpStream, mut answer: impl FnMut(&Request) -> Reply) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader) {
        let response = match answer(&request) {
            Reply::Answer(response) => response,
            Reply::Cut => {
                let _ = stream.shutdown(Shutdown::Both);
                return;
            }
            Reply::Silence => {
                // Until the client gives up.
                let _ = std::io::copy(&mut reader, &mut std::io::sink());
                return;
            }
        };
        if write(stream, &response).is_err() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(Some(0), |length| length.parse::<usize>().ok())?;
    assert!(length <= MAX_BODY, "a request of {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    })
}

fn write(mut stream: &TcpStream, response: &Response) -> std::io::Result<()> {
    // At once: a head that waits for its body costs a round of delayed acknowledgements.
    let mut bytes = format!("HTTP/1.1 {} X\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    if response.status != 304 {
        let length = response.body.len();
        write!(
            bytes,
            "content-type: application/json; charset=utf-8\r\ncontent-length: {length}\r\n"
        )?;
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&response.body);
    stream.write_all(&bytes)
}

/// The largest request, in bytes: GitHub takes bodies of 65,536 characters.
const MAX_BODY: usize = 1024 * 1024;

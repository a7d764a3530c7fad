//! `tunnel realm import`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daemon::files;
use daemon::original;
use daemon::realm_file::{MAX_CONFIG, REALM_FILE_VERSION, RealmFile};
use toml::{Table, Value};

use crate::arguments::RealmImport;
use crate::exit;
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &RealmImport) -> Result<u8, Failure> {
    let given = Given {
        ca: read(arguments.ca.as_deref())?,
        broker_ca: read(arguments.broker_ca.as_deref())?,
        host_keys: read(arguments.host_keys.as_deref())?.map(|text| host_keys(&text)),
    };
    let text = files::read_text(&arguments.file, MAX_CONFIG)?;
    let (realm, missing) = realm(&original::parse(&text), given);
    let text = toml::to_string(&realm).map_err(|error| Failure::new(error, None, exit::FAILURE))?;
    if !missing.is_empty() {
        output::line(text.trim_end());
        return Err(Failure::text(
            format!(
                "`{}` is not enough for a realm.toml: {}",
                arguments.file.display(),
                missing.join("; ")
            ),
            Some("name the files, or complete what is printed"),
            exit::CONFIG,
        ));
    }
    if arguments.out.exists() {
        return Err(Failure::text(
            format!("`{}` is there already", arguments.out.display()),
            Some("name another file with `--out`"),
            exit::CONFIG,
        ));
    }
    // Read as it will be, before anything is written: names and ports may be such as the original took.
    toml::from_str::<RealmFile>(&text).map_err(|source| {
        let file = arguments.file.clone();
        let hint = format!("put that value right in `{}`", file.display());
        Failure::new(Unfit { file, source }, Some(hint), exit::DATA)
    })?;
    files::write_public(&arguments.out, text.as_bytes())?;
    output::line(format_args!("`{}` written", arguments.out.display()));
    Ok(exit::OK)
}

/// A value of the original's that no realm.toml may have.
#[derive(Debug, thiserror::Error)]
#[error("`{}` makes no realm.toml", file.display())]
struct Unfit {
    file: PathBuf,
    source: toml::de::Error,
}

/// What the original's file does not hold.
struct Given {
    ca: Option<String>,
    broker_ca: Option<String>,
    host_keys: Option<Vec<Value>>,
}

/// The realm file that these values make, and what it lacks.
fn realm(original: &BTreeMap<String, String>, given: Given) -> (Table, Vec<&'static str>) {
    let mut missing = Vec::new();
    let value = |key: &str| original.get(key).filter(|value| !value.is_empty());
    let mut realm = Table::new();
    realm.insert("version".to_owned(), REALM_FILE_VERSION.into());
    let mut put =
        |table: &mut Table, key: &str, value: Option<Value>, lack: &'static str| match value {
            Some(value) => drop(table.insert(key.to_owned(), value)),
            None => missing.push(lack),
        };
    let text = |value: &String| Value::from(value.as_str());
    put(
        &mut realm,
        "realm",
        value("REALM").map(text),
        "its name (`REALM`)",
    );
    if let Some(suffix) = value("CLIENTID_SUFFIX") {
        realm.insert("client_id_suffix".to_owned(), text(suffix));
    }
    let ca = given.ca.map(Value::from);
    put(
        &mut realm,
        "ca",
        ca,
        "the certificate of the authority that signs its devices (`--ca`)",
    );

    let mut broker = Table::new();
    let address = value("BROKER").map(|host| Value::from(format!("{host}:{MQTT_PORT}")));
    put(&mut broker, "address", address, "its broker (`BROKER`)");
    if let Some(ca) = given.broker_ca {
        broker.insert("ca".to_owned(), ca.into());
    }
    let mut proxy = Table::new();
    let address = value("PROXY").map(|host| Value::from(format!("{host}:{SSH_PORT}")));
    put(&mut proxy, "address", address, "its proxy (`PROXY`)");
    let keys = given
        .host_keys
        .filter(|keys| !keys.is_empty())
        .map(Value::Array);
    put(
        &mut proxy,
        "host_keys",
        keys,
        "the proxy's host keys (`--host-keys`, from `ssh-keyscan`)",
    );
    let mut registry = Table::new();
    put(
        &mut registry,
        "github",
        value("ISSUES").map(text),
        "its registry (`ISSUES`)",
    );

    realm.insert("broker".to_owned(), broker.into());
    realm.insert("proxy".to_owned(), Value::Array(vec![proxy.into()]));
    realm.insert("registry".to_owned(), registry.into());
    let ports = ports(original);
    if !ports.is_empty() {
        realm.insert("ports".to_owned(), ports.into());
    }
    (realm, missing)
}

/// `ALLOCATION_START_hula` and `ALLOCATION_END_hula` become `hula = { start, end }`.
fn ports(original: &BTreeMap<String, String>) -> Table {
    let number = |key: &str| original.get(key)?.parse::<u16>().ok();
    original
        .keys()
        .filter_map(|key| key.strip_prefix("ALLOCATION_START_"))
        .filter_map(|system| {
            let mut range = Table::new();
            let (start, end) = (
                format!("ALLOCATION_START_{system}"),
                format!("ALLOCATION_END_{system}"),
            );
            range.insert("start".to_owned(), i64::from(number(&start)?).into());
            range.insert("end".to_owned(), i64::from(number(&end)?).into());
            Some((system.to_owned(), range.into()))
        })
        .collect()
}

/// `HOST TYPE BASE64` of each line becomes `TYPE BASE64`.
fn host_keys(scanned: &str) -> Vec<Value> {
    scanned
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            let at = words.iter().position(|word| word.starts_with("AAAA"))?;
            let kind = words.get(at.checked_sub(1)?)?;
            Some(Value::from(format!("{kind} {}", words.get(at)?)))
        })
        .collect()
}

fn read(path: Option<&Path>) -> Result<Option<String>, Failure> {
    Ok(path
        .map(|path| files::read_text(path, MAX_CONFIG))
        .transpose()?)
}

/// The original's broker has no port of its own: MQTT over TLS.
const MQTT_PORT: u16 = 8883;

/// The original's proxy is a stock sshd.
const SSH_PORT: u16 = 22;

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEM: &str = "REALM=atlas\nPROXY=proxy.example.org\nISSUES=octo/tunnels\nCLIENTID_SUFFIX=.example.org\nBROKER=abc-ats.iot.example.org\nALLOCATION_START_RANDOM=61000\nALLOCATION_START_hula=50000\nALLOCATION_END_hula=50999\n";

    fn given() -> Given {
        Given {
            ca: Some("PEM".to_owned()),
            broker_ca: None,
            host_keys: Some(host_keys(
                "# proxy:22 SSH-2.0\nproxy.example.org ssh-ed25519 AAAAC3\n",
            )),
        }
    }

    #[test]
    fn all_of_the_originals_file_is_taken_over() {
        let (realm, missing) = realm(&original::parse(SYSTEM), given());
        assert_eq!(missing, Vec::<&str>::new());
        let file: RealmFile = toml::from_str(&toml::to_string(&realm).unwrap()).unwrap();
        assert_eq!(file.realm.as_str(), "atlas");
        assert_eq!(
            file.broker.address.to_string(),
            "abc-ats.iot.example.org:8883"
        );
        let proxy = file.proxy().unwrap();
        assert_eq!(proxy.address.to_string(), "proxy.example.org:22");
        assert_eq!(proxy.host_keys, ["ssh-ed25519 AAAAC3"]);
        assert_eq!(file.registry.to_string(), "the issues of octo/tunnels");
        let id = "333.hula.atlas".parse().unwrap();
        assert_eq!(file.ports.of(&id), Some(50_333));
        assert_eq!(
            file.client_id_suffix.client_id(&id),
            "333.hula.atlas.example.org"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let nothing = Given {
            ca: None,
            broker_ca: None,
            host_keys: None,
        };
        let (_, missing) = realm(&original::parse("REALM=atlas\nPROXY=p\n"), nothing);
        assert_eq!(missing.len(), 4, "{missing:?}");
    }
}

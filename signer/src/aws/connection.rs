//! Signed calls to AWS IoT Core's control plane: credentials from the usual places, one deadline a call, and patience where
//! a call may be repeated.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings};
use aws_smithy_types::body::SdkBody;
use daemon::backoff::Backoff;
use http::Uri;
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, sleep, timeout};

use super::AwsError;
use super::answer;

/// One call.
#[derive(Debug)]
pub(super) struct Call {
    /// Its name, as permissions have it.
    pub(super) action: &'static str,
    pub(super) method: &'static str,
    /// Path and query, percent-encoded.
    pub(super) target: String,
    pub(super) body: Option<Value>,
    /// Whether it may be made twice. A call that was turned away unread may always be.
    pub(super) repeatable: bool,
}

/// The way to one region of one account.
#[derive(Debug)]
pub(super) struct Connection {
    region: Option<String>,
    endpoint: Option<Uri>,
    place: OnceCell<Place>,
    credentials: Mutex<Option<(Credentials, Instant)>>,
}

#[derive(Debug)]
struct Place {
    config: SdkConfig,
    region: String,
    base: String,
    connector: Connector,
}

impl Connection {
    pub(super) fn new(region: Option<String>, endpoint: Option<&str>) -> Result<Self, AwsError> {
        let endpoint = endpoint.map(parse_endpoint).transpose()?;
        Ok(Self {
            region,
            endpoint,
            place: OnceCell::new(),
            credentials: Mutex::default(),
        })
    }

    pub(super) async fn ready(&self) -> Result<(), AwsError> {
        let place = self.place().await?;
        self.credentials(place).await?;
        Ok(())
    }

    /// Makes a call and returns the JSON of its answer.
    pub(super) async fn call(&self, call: &Call) -> Result<Value, AwsError> {
        let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut tries = 1;
        loop {
            let error = match self.try_call(call).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if error.is_expired() {
                *self.credentials.lock().await = None;
            }
            let again =
                error.is_throttled() || error.is_expired() || call.repeatable && error.is_passing();
            if !again || tries == MAX_TRIES {
                return Err(error);
            }
            tracing::debug!(%error, tries, "a call to AWS is repeated");
            tries += 1;
            sleep(backoff.next_delay()).await;
        }
    }

    async fn try_call(&self, call: &Call) -> Result<Value, AwsError> {
        let action = call.action;
        let place = self.place().await?;
        let credentials = self.credentials(place).await?;
        let request = signed(call, place, credentials)?;
        let exchange = async {
            let response =
                place
                    .connector
                    .call(request)
                    .await
                    .map_err(|error| AwsError::Unreachable {
                        action,
                        source: error.into(),
                    })?;
            let status = response.status().as_u16();
            let code = response
                .headers()
                .get("x-amzn-errortype")
                .map(str::to_owned);
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await;
            let body = body.map_err(|source| AwsError::Unreachable { action, source })?;
            answer::read(action, status, code.as_deref(), &body.to_bytes())
        };
        timeout(CALL_LIMIT, exchange)
            .await
            .unwrap_or(Err(AwsError::TimedOut {
                action,
                limit: CALL_LIMIT,
            }))
    }

    /// Region and address. The region is looked for on the instance too, which may have none.
    async fn place(&self) -> Result<&Place, AwsError> {
        self.place
            .get_or_try_init(|| async {
                let client = Builder::new()
                    .tls_provider(Provider::Rustls(CryptoMode::Ring))
                    .build_https();
                let mut loader =
                    aws_config::defaults(BehaviorVersion::latest()).http_client(client);
                if let Some(region) = &self.region {
                    loader = loader.region(Region::new(region.clone()));
                }
                let config = timeout(PLACE_LIMIT, loader.load())
                    .await
                    .map_err(|_| AwsError::Region)?;
                let region = config.region().ok_or(AwsError::Region)?.to_string();
                if !is_region(&region) {
                    return Err(AwsError::Region);
                }
                let base = match &self.endpoint {
                    Some(endpoint) => endpoint.to_string().trim_end_matches('/').to_owned(),
                    None => default_endpoint(&region),
                };
                let settings = HttpConnectorSettings::builder()
                    .connect_timeout(CONNECT_LIMIT)
                    .read_timeout(CALL_LIMIT)
                    .build();
                let connector = Connector::builder()
                    .connector_settings(settings)
                    .tls_provider(Provider::Rustls(CryptoMode::Ring))
                    .build();
                Ok(Place {
                    config,
                    region,
                    base,
                    connector,
                })
            })
            .await
    }

    /// The credentials, asked for again before they end and when they are old: a file may have new ones.
    async fn credentials(&self, place: &Place) -> Result<Credentials, AwsError> {
        let mut kept = self.credentials.lock().await;
        if let Some((credentials, since)) = &*kept
            && since.elapsed() < CREDENTIALS_AGE
            && credentials
                .expiry()
                .is_none_or(|end| end > SystemTime::now() + CREDENTIALS_MARGIN)
        {
            return Ok(credentials.clone());
        }
        let none = |source| AwsError::Credentials { source };
        let provider = place
            .config
            .credentials_provider()
            .ok_or_else(|| none("nobody provides them".into()))?;
        let asked = timeout(CREDENTIALS_LIMIT, provider.provide_credentials());
        let credentials = asked
            .await
            .map_err(|_| none(format!("nothing within {CREDENTIALS_LIMIT:?}").into()))?
            .map_err(|error| none(error.into()))?;
        *kept = Some((credentials.clone(), Instant::now()));
        Ok(credentials)
    }
}

fn signed(
    call: &Call,
    place: &Place,
    credentials: Credentials,
) -> Result<aws_smithy_runtime_api::client::orchestrator::HttpRequest, AwsError> {
    let action = call.action;
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| AwsError::Sign { action, source };
    let uri = format!("{}{}", place.base, call.target);
    let body = call
        .body
        .as_ref()
        .map_or_else(Vec::new, |body| body.to_string().into_bytes());
    let headers = [("content-type", "application/json")];
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&place.region)
        .name("iot")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| fail(error.into()))?
        .into();
    let signable = SignableRequest::new(
        call.method,
        uri.as_str(),
        headers.into_iter(),
        SignableBody::Bytes(&body),
    )
    .map_err(|error| fail(error.into()))?;
    let (instructions, _) = sign(signable, &params)
        .map_err(|error| fail(error.into()))?
        .into_parts();
    let [(name, value)] = headers;
    let mut request = http::Request::builder()
        .method(call.method)
        .uri(&uri)
        .header(name, value)
        .body(SdkBody::from(body))
        .map_err(|error| fail(error.into()))?;
    instructions.apply_to_request_http1x(&mut request);
    request
        .try_into()
        .map_err(|error: aws_smithy_runtime_api::http::HttpError| fail(error.into()))
}

/// Without TLS only on this computer: a session token goes along with every call.
fn parse_endpoint(text: &str) -> Result<Uri, AwsError> {
    let fail = || AwsError::Endpoint {
        endpoint: text.to_owned(),
    };
    let uri: Uri = text.parse().map_err(|_| fail())?;
    let host = uri.host().ok_or_else(fail)?;
    let here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    let bare = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
    match uri.scheme_str() {
        Some("https") if bare => Ok(uri),
        Some("http") if bare && here => Ok(uri),
        Some(_) | None => Err(fail()),
    }
}

fn default_endpoint(region: &str) -> String {
    let suffix = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    format!("https://iot.{region}.{suffix}")
}

/// Letters, digits and hyphens: it becomes part of a host's name.
fn is_region(region: &str) -> bool {
    !region.is_empty()
        && region.len() <= 32
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// How long one call may take. The control plane answers within a second.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection may take: half of a call.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long the search for a region may take: the instance's metadata are asked four times for one second.
const PLACE_LIMIT: Duration = Duration::from_secs(15);

/// How long the search for credentials may take: a program of `credential_process` may ask a server of its own.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(15);

/// When credentials without an end are read again.
const CREDENTIALS_AGE: Duration = Duration::from_mins(5);

/// How long before their end credentials are replaced: longer than the longest chain of calls.
const CREDENTIALS_MARGIN: Duration = Duration::from_mins(2);

/// How often a call is made at most. AWS permits ten calls a second, so that a moment later there is room again.
const MAX_TRIES: u32 = 4;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// The largest answer, in bytes: a page of 250 certificates has 100 KiB.
const MAX_ANSWER: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_session_token_goes_through_the_net_in_the_clear() {
        for good in [
            "https://vpce-1.iot.eu-central-1.vpce.amazonaws.com",
            "https://iot.example.org:8443/",
            "http://127.0.0.1:5000",
            "http://[::1]:5000",
            "http://localhost:1",
        ] {
            assert!(parse_endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "http://iot.example.org",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://iot.example.org/path",
            "https://iot.example.org/?x",
            "iot.example.org",
            "",
        ] {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_region_is_no_part_of_another_host() {
        assert!(is_region("ap-southeast-1"));
        for bad in ["", "eu.evil.org/", "EU-1", "a@b", &"a".repeat(33)] {
            assert!(!is_region(bad), "{bad}");
        }
        assert_eq!(
            default_endpoint("eu-central-1"),
            "https://iot.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            default_endpoint("cn-north-1"),
            "https://iot.cn-north-1.amazonaws.com.cn"
        );
    }
}

//! How long a local connection waits for its stream, and what the person is told meanwhile: each thing once, however many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::report::one_line;
use protocol::Label;
use tokio::time::{Instant, sleep, timeout_at};

use super::Notice;
use crate::tunnel::OpenError;
use crate::way::WayError;

/// What was told of one port.
pub(super) struct Patience<F> {
    /// Of the device, and so of all ports.
    is_away: Arc<AtomicBool>,
    is_refused: AtomicBool,
    has_given_up: AtomicBool,
    on_notice: Arc<F>,
}

impl<F: Fn(Notice)> Patience<F> {
    pub(super) fn new(is_away: Arc<AtomicBool>, on_notice: Arc<F>) -> Self {
        Self {
            is_away,
            is_refused: AtomicBool::new(false),
            has_given_up: AtomicBool::new(false),
            on_notice,
        }
    }

    /// Tries until it succeeds, for as long as a client waits. There is no end of it without a word.
    pub(super) async fn outlast<T, Try>(
        &self,
        service: impl Fn() -> Label,
        mut one: impl FnMut() -> Try,
    ) -> Option<T>
    where
        Try: Future<Output = Result<T, WayError>>,
    {
        let began = Instant::now();
        let latest = began + PATIENCE;
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        loop {
            // One that hangs has no error to tell of.
            let Ok(tried) = timeout_at(latest, one()).await else {
                self.give_up(service(), began.elapsed());
                return None;
            };
            let error = match tried {
                Ok(stream) => {
                    self.succeed(service);
                    return Some(stream);
                }
                Err(error) => error,
            };
            if !is_passing(&error) {
                self.tell_once(&self.is_refused, || Notice::Refused(one_line(&error)));
                return None;
            }
            self.tell_once(&self.is_away, || Notice::Away(one_line(&error)));
            let delay = FIRST_RETRY + backoff.next_delay();
            if Instant::now() + delay >= latest {
                self.give_up(service(), began.elapsed());
                return None;
            }
            sleep(delay).await;
        }
    }

    /// What was told is taken back: of the device, or of this port alone.
    fn succeed(&self, service: impl Fn() -> Label) {
        self.is_refused.store(false, Ordering::Relaxed);
        let had_given_up = self.has_given_up.swap(false, Ordering::Relaxed);
        if self.is_away.swap(false, Ordering::Relaxed) {
            (self.on_notice)(Notice::Back);
        } else if had_given_up {
            (self.on_notice)(Notice::Again(service()));
        }
    }

    fn give_up(&self, service: Label, after: Duration) {
        self.tell_once(&self.has_given_up, || Notice::GivenUp { service, after });
    }

    /// A page asks fifty times.
    fn tell_once(&self, told: &AtomicBool, notice: impl FnOnce() -> Notice) {
        if !told.swap(true, Ordering::Relaxed) {
            (self.on_notice)(notice());
        }
    }
}

/// Whether it may be otherwise in a moment.
fn is_passing(error: &WayError) -> bool {
    let error = match error {
        WayError::Proxy(error) => error,
        WayError::Device(error) => error,
    };
    match error {
        OpenError::Offline { .. }
        | OpenError::Refused { .. }
        | OpenError::NoAnswer { .. }
        | OpenError::Broker { .. }
        | OpenError::Proxy { .. }
        | OpenError::Unknown { .. } => true,
        OpenError::Stream { source, .. } => {
            // The device answers, and its service does not: that is the answer.
            !matches!(source, daemon::ssh_client::RequestError::Refused { .. })
        }
        OpenError::NotAController { .. }
        | OpenError::NoService { .. }
        | OpenError::NoPort { .. }
        | OpenError::ForeignProxy { .. }
        | OpenError::NoProxy
        | OpenError::ProxyHostKey { .. }
        | OpenError::Interrupted { .. } => false,
    }
}

/// How long a local connection waits for its stream: an agent that is started anew is back sooner, and browsers wait longer.
const PATIENCE: Duration = Duration::from_secs(40);

/// The first retry comes after this, or twice this.
const FIRST_RETRY: Duration = Duration::from_millis(250);

/// The bound of later ones.
const LAST_RETRY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Told = Arc<Mutex<Vec<Notice>>>;

    /// A patience, and what it has told.
    fn patience() -> (Patience<impl Fn(Notice)>, Told) {
        let told = Told::default();
        let kept = Arc::clone(&told);
        let on_notice = move |notice| kept.lock().unwrap().push(notice);
        (Patience::new(Arc::default(), Arc::new(on_notice)), told)
    }

    fn web() -> Label {
        "web".parse().unwrap()
    }

    fn offline() -> WayError {
        WayError::Proxy(OpenError::Offline {
            device: "333.hula.atlas".parse().unwrap(),
            since: 0,
            lost: false,
        })
    }

    fn given_up() -> Notice {
        Notice::GivenUp {
            service: web(),
            after: PATIENCE,
        }
    }

    async fn hangs() -> Result<(), WayError> {
        std::future::pending().await
    }

    async fn is_offline() -> Result<(), WayError> {
        Err(offline())
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_hangs_is_given_up_with_a_word() {
        let (patience, told) = patience();
        let began = Instant::now();
        for _ in 0..2 {
            assert_eq!(patience.outlast(web, hangs).await, None);
        }
        assert_eq!(began.elapsed(), 2 * PATIENCE);
        assert_eq!(*told.lock().unwrap(), [given_up()], "once");
        patience.outlast(web, || async { Ok(()) }).await.unwrap();
        patience.outlast(web, hangs).await;
        let told = told.lock().unwrap();
        assert_eq!(*told, [given_up(), Notice::Again(web()), given_up()]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_whose_service_hangs_says_nothing_of_the_device() {
        let (stuck, told) = patience();
        let other = Patience::new(Arc::clone(&stuck.is_away), Arc::clone(&stuck.on_notice));
        assert_eq!(stuck.outlast(web, hangs).await, None);
        other.outlast(web, || async { Ok(()) }).await.unwrap();
        assert_eq!(*told.lock().unwrap(), [given_up()], "it never was away");
        // Nor does it keep quiet what comes then.
        assert_eq!(stuck.outlast(web, is_offline).await, None);
        other.outlast(web, || async { Ok(()) }).await.unwrap();
        stuck.outlast(web, || async { Ok(()) }).await.unwrap();
        let told = told.lock().unwrap();
        assert!(
            matches!(
                &told[1..],
                [Notice::Away(_), Notice::Back, Notice::Again(_)]
            ),
            "{told:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_stays_away_is_told_and_then_given_up() {
        let (patience, told) = patience();
        let began = Instant::now();
        assert_eq!(patience.outlast(web, is_offline).await, None);
        let took = began.elapsed();
        assert!(took + 2 * LAST_RETRY > PATIENCE && took <= PATIENCE);
        let told = told.lock().unwrap();
        assert!(
            matches!(&told[..], [Notice::Away(_), Notice::GivenUp { after, .. }] if *after == took),
            "{told:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_not_waited_for() {
        let (patience, told) = patience();
        let began = Instant::now();
        let refused = || async { Err::<(), _>(WayError::Proxy(OpenError::NoProxy)) };
        for _ in 0..2 {
            assert_eq!(patience.outlast(web, refused).await, None);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        let told = told.lock().unwrap();
        assert!(matches!(&told[..], [Notice::Refused(_)]), "{told:?}");
    }
}

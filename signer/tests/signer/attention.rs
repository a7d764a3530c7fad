//! A signer at whose terminal nobody sits: its question waits, and nobody else does.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use daemon::shutdown::Shutdown;
use enrollment::{Decision, UploadPermission};
use tokio::task::spawn_blocking;

use crate::world::World;

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_holds_up_no_other_request() {
    let world = World::new();
    let (hang_up, line) = mpsc::channel::<()>();
    let line = Arc::new(Mutex::new(line));
    let known = |_: &_, id: &protocol::DeviceId| match id.device().as_str() {
        "z" => Decision::Permitted,
        _ => Decision::Undecided,
    };
    let rule = move |author: &_, id: &protocol::DeviceId| {
        let decided = known(author, id);
        if decided == Decision::Undecided {
            // Whoever should answer is at lunch.
            let _ = line.lock().unwrap().recv();
        }
        decided
    };
    let signer = world.signer_permitting(UploadPermission::asking(rule, known));
    world.put_request("asked.hula.atlas").await;
    let shutdown = Shutdown::new(Duration::from_secs(10));
    let (registry, until) = (world.registry.clone(), shutdown.clone());
    let running = shutdown.spawn(async move { signer.run(&registry, &until).await });
    // The question is asked before the other request is there.
    let title = "asked.hula.atlas.x509.csr.seen";
    until_there(|| world.path("registry").join(title).exists()).await;
    world.put_request("z.hula.atlas").await;
    let certificate = world.path("registry").join("z.hula.atlas.x509.cert");
    until_there(|| certificate.exists()).await;
    assert!(world.certificate("asked.hula.atlas").await.is_none());
    drop(hang_up);
    shutdown.request();
    running.await.unwrap();
}

/// The clock goes on by hand: while a thread waits for an answer it does not go on by itself.
async fn until_there(is_there: impl Fn() -> bool) {
    for _ in 0..1500 {
        if is_there() {
            return;
        }
        tokio::time::advance(Duration::from_millis(200)).await;
        let breath = || std::thread::park_timeout(Duration::from_millis(10));
        spawn_blocking(breath).await.unwrap();
    }
    panic!("it is not there");
}

//! Signals that a client sends, which OpenSSH's never does.

use std::path::Path;

use russh::Sig;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_reaches_the_process() {
    let mut world = World::new();
    let client = world.login().await;
    let mut channel = client
        .exec("trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.1; done")
        .await;
    read_until(&mut channel, "ready").await;
    // One that nobody knows is nobody's.
    let unknown = Sig::Custom("STOP".to_owned());
    channel.signal(unknown).await.unwrap();
    channel.signal(Sig::USR1).await.unwrap();
    // What it waited for has heard it too, on which the shell may remark.
    let (said, code) = finish(&mut channel).await;
    assert!(said.contains("caught"), "{said}");
    assert_eq!(code, Some(3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_the_process_was_waited_for_a_signal_reaches_nobody() {
    let mut world = World::new();
    let client = world.login().await;
    // What it leaves behind keeps the session open, and is of its process group: it would hear what is sent to the number.
    let mut channel = client
        .exec(
            "echo $$ is it; exec 3<&0; \
             sh -c 'trap \"echo caught\" USR1; echo ready; read word; echo end $word' <&3 & exit 7",
        )
        .await;
    let mut said = read_until(&mut channel, "is it").await;
    if !said.contains("ready") {
        said.push_str(&read_until(&mut channel, "ready").await);
    }
    let leader = said.split_whitespace().next().unwrap().to_owned();
    let process = Path::new("/proc").join(leader);
    until("the leader to be gone", || !process.exists()).await;
    channel.signal(Sig::USR1).await.unwrap();
    channel.data_bytes("word\n").await.unwrap();
    let (said, code) = finish(&mut channel).await;
    assert_eq!((said.trim(), code), ("end word", Some(7)));
}

//! Streams that are on their way before their forward is asked for.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use daemon::splice::{self, ChannelEnd, SpliceLimits};
use daemon::ssh_client::{Dialed, ForwardedStream};
use proxy::Limits;
use russh::client::Msg;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stream::open;
use crate::world::{LONG, World, quick};

const DEVICE: &str = "333.hula.atlas";
const CONTROLLER: &str = "controller.hula.atlas";

/// A stream waits longer than any login takes.
async fn patient() -> World {
    let limits = Limits {
        forward_wait: Duration::from_secs(25),
        stream_deadline: Duration::from_secs(28),
        ..Limits::default()
    };
    World::with(limits).await
}

async fn next(agent: &mut Dialed) -> ForwardedStream {
    let stream = timeout(LONG, agent.forwarded.recv()).await;
    stream.expect("none is opened").expect("it is closed")
}

/// Joins a stream with a service.
fn serve(world: &mut World, end: ChannelEnd<Msg>, service: SocketAddr) {
    world.tasks.spawn(async move {
        let mut socket = TcpStream::connect(service).await.unwrap();
        let (mut read, mut write) = socket.split();
        splice::local(end, &mut read, &mut write, SpliceLimits::default()).await;
    });
}

#[tokio::test]
async fn who_waits_is_served_before_the_agent_has_asked_for_anything() {
    let mut world = patient().await;
    let (echo, key) = (world.echo().await, world.key(DEVICE));
    let controller = world.controller(CONTROLLER).await;
    let agent = async {
        world.until("waiting", |stats| stats.waiting == 1).await;
        let mut agent = world.dial(DEVICE, key).await.unwrap();
        let stream = next(&mut agent).await;
        assert_eq!((world.stats().members, world.stats().tunnels), (0, 0));
        assert_eq!(stream.address, "localhost");
        let port = stream.port;
        (agent, port, stream.accept().await)
    };
    let (opened, (agent, port, end)) = tokio::join!(open(&controller, "333", 22), agent);
    serve(&mut world, end, echo);
    let mut stream = opened.unwrap();
    stream.ping().await;
    // It gets what it was told, and serves others there when it has asked.
    let granted = agent.request_forward("localhost", 0, LONG).await.unwrap();
    assert_eq!(granted, port);
    assert_eq!((world.stats().members, world.stats().tunnels), (1, 1));
    world.tasks.spawn(crate::world::serve(agent, echo));
    let mut second = open(&controller, "localhost", port).await.unwrap();
    second.ping().await;
    stream.ping().await;
}

#[tokio::test]
async fn a_refusal_before_the_forward_is_none() {
    let mut world = patient().await;
    let (echo, key) = (world.echo().await, world.key(DEVICE));
    let controller = world.controller(CONTROLLER).await;
    let agent = async {
        let mut agent = world.dial(DEVICE, key).await.unwrap();
        let early = next(&mut agent).await;
        early.refuse("no service is forwarded there").await;
        // At a port of its own, as one does that is always on.
        let asked = agent.request_forward("localhost", 20_000, LONG).await;
        assert_eq!(asked.unwrap(), 20_000);
        let stream = next(&mut agent).await;
        assert_eq!(
            (stream.address.as_str(), stream.port),
            ("localhost", 20_000)
        );
        (agent, stream.accept().await)
    };
    let (opened, (_agent, end)) = tokio::join!(open(&controller, "333", 22), agent);
    serve(&mut world, end, echo);
    opened.unwrap().ping().await;
}

#[tokio::test]
async fn who_takes_no_stream_before_its_forward_holds_up_nobody() {
    let mut world = patient().await;
    let (echo, key) = (world.echo().await, world.key(DEVICE));
    let controller = world.controller(CONTROLLER).await;
    let agent = world.dial(DEVICE, key.clone()).await.unwrap();
    // The latest is asked. One leaves, as who only wanted to see that its key is known; one never answers.
    let mut leaving = world.dial(DEVICE, key.clone()).await.unwrap();
    let meanwhile = async {
        let stream = next(&mut leaving).await;
        let silent = world.dial(DEVICE, key).await.unwrap();
        leaving.disconnect("that was all").await;
        drop(stream);
        while silent.forwarded.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        agent.request_forward("localhost", 0, LONG).await.unwrap();
        world.tasks.spawn(crate::world::serve(agent, echo));
        silent
    };
    let (opened, silent) = tokio::join!(open(&controller, "333", 22), timeout(LONG, meanwhile));
    opened.unwrap().ping().await;
    assert!(!silent.unwrap().forwarded.is_empty(), "it was asked");
}

#[tokio::test]
async fn whoever_takes_it_first_has_it_and_the_other_is_closed() {
    let mut world = patient().await;
    let (echo, key) = (world.echo().await, world.key(DEVICE));
    let controller = world.controller(CONTROLLER).await;
    let mut early = world.dial(DEVICE, key.clone()).await.unwrap();
    let agents = async {
        let first = next(&mut early).await;
        // It has not answered when another of the device's has its forward, and is asked too.
        let mut member = world.dial(DEVICE, key).await.unwrap();
        member.request_forward("localhost", 0, LONG).await.unwrap();
        let second = next(&mut member).await;
        (first.accept().await, second, member)
    };
    let (opened, (end, second, _member)) = tokio::join!(open(&controller, "333", 22), agents);
    serve(&mut world, end, echo);
    opened.unwrap().ping().await;
    let late = second.accept().await;
    let mut service = TcpStream::connect(echo).await.unwrap();
    let (mut read, mut write) = service.split();
    let closed = splice::local(late, &mut read, &mut write, SpliceLimits::default());
    assert!(timeout(LONG, closed).await.is_ok(), "it is left open");
}

#[tokio::test]
async fn a_device_that_forwards_nothing_is_not_told_from_one_that_is_not_there() {
    let limits = Limits {
        forward_wait: Duration::from_secs(2),
        ..quick()
    };
    let world = World::with(limits).await;
    let mut agent = world.dial(DEVICE, world.key(DEVICE)).await.unwrap();
    let controller = world.controller(CONTROLLER).await;
    let refusing = async {
        let stream = next(&mut agent).await;
        stream.refuse("no service is forwarded there").await;
    };
    let (opened, ()) = tokio::join!(open(&controller, "333", 22), refusing);
    let absent = open(&controller, "334", 22).await.err().unwrap();
    assert_eq!(opened.err().unwrap().to_string(), absent.to_string());
    assert!(agent.forwarded.is_empty(), "it is asked once");
}

#[tokio::test]
async fn openssh_is_sent_no_stream_that_it_has_not_asked_for() {
    let mut world = patient().await;
    let (echo, key) = (world.echo().await, world.key(DEVICE));
    let controller = world.controller(CONTROLLER).await;
    let mut ssh = world.ssh(DEVICE);
    ssh.args(["-v", "-N", "127.0.0.1"]).stderr(Stdio::piped());
    let beside = async {
        world.until("waiting", |stats| stats.waiting == 1).await;
        let mut ssh = ssh.spawn().unwrap();
        let mut said = BufReader::new(ssh.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("Entering interactive session") {
            line.clear();
            assert_ne!(said.read_line(&mut line).await.unwrap(), 0, "it ends");
        }
        world.agent(DEVICE, &key, "localhost", 0, echo).await;
        (ssh, said)
    };
    let (opened, beside) = tokio::join!(open(&controller, "333", 22), timeout(LONG, beside));
    opened.unwrap().ping().await;
    let (mut ssh, mut said) = beside.unwrap();
    ssh.kill().await.unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).await.unwrap();
    assert!(!rest.contains("forwarded-tcpip"), "{rest}");
}

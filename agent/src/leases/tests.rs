use super::*;

const UNIX: u64 = 1_795_305_600;
const GRACE: Duration = Duration::from_secs(30);

struct World {
    leases: Leases,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let services = vec![label("ssh"), label("web")];
        let device = "333.hula.atlas".parse().unwrap();
        let leases = Leases::new(
            device,
            services,
            "proxy:2222".into(),
            vec!["ssh-ed25519 AAAA".into()],
            GRACE,
        );
        Self {
            leases,
            now: Instant::now(),
        }
    }

    fn on(&mut self, event: Event) -> Vec<Action> {
        self.leases.on_event(event, self.now)
    }

    fn open(&mut self, controller: &str, lease: u8) -> Vec<Action> {
        self.open_services(controller, lease, &["ssh"])
    }

    fn open_services(&mut self, controller: &str, lease: u8, services: &[&str]) -> Vec<Action> {
        let order = Order::Open {
            lease: id(lease),
            services: services.iter().map(|name| label(name)).collect(),
            issued: UNIX,
            lifetime: Lifetime::from_secs(60).unwrap(),
        };
        self.on(Event::Order {
            controller: label(controller),
            order,
            unix_now: UNIX,
        })
    }

    fn close(&mut self, controller: &str, lease: Option<u8>) -> Vec<Action> {
        let order = Order::Close {
            lease: lease.map(id),
        };
        self.on(Event::Order {
            controller: label(controller),
            order,
            unix_now: UNIX,
        })
    }

    fn after(&mut self, seconds: u64) -> Vec<Action> {
        self.now += Duration::from_secs(seconds);
        self.on(Event::Deadline)
    }
}

fn label(name: &str) -> Label {
    name.parse().unwrap()
}

fn id(byte: u8) -> LeaseId {
    LeaseId::from_bytes([byte; 16])
}

fn forwards(port: u16) -> Vec<Forward> {
    vec![
        Forward {
            service: label("ssh"),
            port,
        },
        Forward {
            service: label("web"),
            port: port + 1,
        },
    ]
}

fn opened(controller: &str, lease: u8, port: u16) -> Action {
    let body = ReplyBody::Opened {
        proxy: "proxy:2222".into(),
        forwards: vec![Forward {
            service: label("ssh"),
            port,
        }],
        host_keys: vec!["ssh-ed25519 AAAA".into()],
    };
    Action::Reply(
        label(controller),
        Reply {
            lease: Some(id(lease)),
            body,
        },
    )
}

fn refusal(actions: &[Action]) -> (RefusalCode, &str) {
    match actions {
        [
            Action::Reply(
                _,
                Reply {
                    body: ReplyBody::Refused { code, text },
                    ..
                },
            ),
        ] => (*code, text),
        other => panic!("no refusal: {other:?}"),
    }
}

#[test]
fn opened_is_told_only_when_the_forward_is_granted() {
    let mut world = World::new();
    assert_eq!(world.open("controller-a", 1), [Action::Open]);
    assert_eq!(
        world.open("controller-a", 1),
        [],
        "the same order again changes nothing"
    );
    assert_eq!(
        world.on(Event::Opened(forwards(61333))),
        [opened("controller-a", 1, 61333)]
    );
    assert_eq!(
        world.open("controller-a", 1),
        [opened("controller-a", 1, 61333)],
        "a repeated order is answered"
    );
}

#[test]
fn one_controller_s_close_never_cuts_another() {
    let mut world = World::new();
    world.open("controller-a", 1);
    world.open("controller-b", 1);
    world.on(Event::Opened(forwards(61333)));
    assert!(
        !world
            .close("controller-a", Some(1))
            .contains(&Action::Close)
    );
    assert_eq!(
        world.leases.len(),
        1,
        "the same lease id of another controller is another lease"
    );
    let actions = world.close("controller-b", None);
    assert!(
        actions.contains(&Action::EndStreams(label("controller-b"))),
        "{actions:?}"
    );
    assert!(
        !actions.contains(&Action::Close),
        "the grace period has only begun"
    );
    assert_eq!(world.after(29), []);
    assert_eq!(world.after(1), [Action::Close]);
    assert_eq!(world.leases.deadline(), None);
}

#[test]
fn a_stream_keeps_the_tunnel_after_its_lease() {
    let mut world = World::new();
    world.open("controller-a", 1);
    world.on(Event::Opened(forwards(61333)));
    world.on(Event::Streams(1));
    assert_eq!(world.after(3600), []);
    assert_eq!(world.leases.len(), 0);
    world.on(Event::Streams(0));
    assert_eq!(world.after(30), [Action::Close]);
}

#[test]
fn a_vanished_controller_costs_a_lifetime_and_a_grace_period() {
    let mut world = World::new();
    world.open("controller-a", 1);
    world.on(Event::Opened(forwards(61333)));
    assert_eq!(
        world.leases.deadline(),
        Some(world.now + Duration::from_mins(1))
    );
    assert_eq!(world.after(60), []);
    assert_eq!(world.leases.deadline(), Some(world.now + GRACE));
    assert_eq!(world.after(30), [Action::Close]);
}

#[test]
fn a_tunnel_that_died_comes_back_at_the_port_it_gets() {
    let mut world = World::new();
    world.open("controller-a", 1);
    world.on(Event::Opened(forwards(61333)));
    assert_eq!(world.on(Event::Lost), []);
    assert_eq!(
        world.on(Event::OpenFailed("no route".into())),
        [],
        "whoever had a tunnel keeps the lease"
    );
    assert_eq!(
        world.on(Event::Opened(forwards(50000))),
        [opened("controller-a", 1, 50000)]
    );
}

#[test]
fn what_holds_is_told_again_when_the_link_comes_back() {
    let mut world = World::new();
    assert_eq!(world.on(Event::LinkUp), [], "nobody waits for anything");
    world.open("controller-a", 1);
    world.on(Event::Plain(Some(PlainOrder::Connect)));
    let plain = |state| Action::PlainState(state);
    assert_eq!(
        world.on(Event::LinkUp),
        [plain(PlainState::Disconnected)],
        "nothing is granted yet"
    );
    world.on(Event::Opened(forwards(61333)));
    world.on(Event::Lost);
    // Said while the link may be down.
    world.on(Event::Opened(forwards(50000)));
    let state = PlainState::Connected { port: Some(50000) };
    assert_eq!(
        world.on(Event::LinkUp),
        [opened("controller-a", 1, 50000), plain(state)]
    );
    world.close("controller-a", Some(1));
    world.on(Event::Plain(Some(PlainOrder::Disconnect)));
    assert_eq!(world.on(Event::LinkUp), [], "nobody holds anything");
}

#[test]
fn who_waits_is_told_what_is_wrong_and_nothing_is_kept_open() {
    let mut world = World::new();
    world.open("controller-a", 1);
    let actions = world.on(Event::OpenFailed("the proxy\nrefused the key".into()));
    assert_eq!(actions.last(), Some(&Action::Close));
    let (code, text) = refusal(&actions[..1]);
    assert_eq!(code, RefusalCode::ProxyUnavailable);
    assert_eq!(
        text,
        "`333.hula.atlas` cannot open a tunnel: the proxyrefused the key"
    );
    assert_eq!(
        world.open("controller-a", 2),
        [Action::Open],
        "the next order tries again"
    );
}

#[test]
fn a_port_means_the_service_that_has_it_and_is_refused_with_the_others() {
    let mut world = World::new();
    let services = [("ssh", "127.0.0.1:22"), ("web", "127.0.0.1:8080")]
        .map(|(name, address)| (label(name), address.parse().unwrap()));
    let by_port = ByPort::of(services.iter().map(|(name, address)| (name, address)));
    world.leases.by_port = by_port;
    assert_eq!(
        world.open_services("controller-a", 1, &["8080"]),
        [Action::Open]
    );
    let forwards = [("ssh", 40_000), ("web", 40_001)].map(|(service, port)| Forward {
        service: label(service),
        port,
    });
    let opened = world.on(Event::Opened(forwards.to_vec()));
    let [Action::Reply(_, reply)] = opened.as_slice() else {
        panic!("{opened:?}");
    };
    let ReplyBody::Opened { forwards: told, .. } = &reply.body else {
        panic!("{reply:?}");
    };
    assert_eq!(told.as_slice(), &forwards[1..]);
    assert_eq!(
        refusal(&world.open_services("controller-a", 2, &["9999"])),
        (
            RefusalCode::UnknownService,
            "`333.hula.atlas` offers no service `9999`, only: ssh (22), web (8080)",
        )
    );
}

#[test]
fn refusals_say_why() {
    let mut world = World::new();
    let (code, text) = (
        RefusalCode::UnknownService,
        "`333.hula.atlas` offers no service `vnc`, only: ssh, web",
    );
    assert_eq!(
        refusal(&world.open_services("controller-a", 1, &["vnc"])),
        (code, text)
    );

    let order = Order::Open {
        lease: id(1),
        services: vec![label("ssh")],
        issued: UNIX,
        lifetime: Lifetime::from_secs(60).unwrap(),
    };
    let late = Event::Order {
        controller: label("controller-a"),
        order,
        unix_now: UNIX + 3600,
    };
    let actions = world.on(late);
    let (code, text) = refusal(&actions);
    assert_eq!(code, RefusalCode::Stale);
    assert!(
        text.starts_with("the clock of `333.hula.atlas` is 3600 s ahead of the controller's"),
        "{text}"
    );

    world.on(Event::ShuttingDown);
    assert_eq!(
        refusal(&world.open("controller-a", 1)).0,
        RefusalCode::ShuttingDown
    );
}

#[test]
fn the_plain_grammar_is_answered_word_by_word() {
    let state = |port| Action::PlainState(PlainState::Connected { port: Some(port) });
    let disconnected = || Action::PlainState(PlainState::Disconnected);
    let mut world = World::new();
    assert_eq!(world.on(Event::Plain(None)), [disconnected()]);
    assert_eq!(
        world.on(Event::Plain(Some(PlainOrder::Connect))),
        [Action::Open, disconnected()]
    );
    assert_eq!(world.on(Event::Opened(forwards(61333))), [state(61333)]);
    assert_eq!(
        world.on(Event::Plain(Some(PlainOrder::Connect))),
        [state(61333)]
    );
    assert_eq!(
        world.on(Event::Plain(Some(PlainOrder::Disconnect))),
        [disconnected()]
    );
    assert_eq!(world.after(30), [Action::Close]);
}

#[test]
fn a_plain_disconnect_cuts_no_lease() {
    let mut world = World::new();
    world.open("controller-a", 1);
    world.on(Event::Opened(forwards(61333)));
    world.on(Event::Plain(Some(PlainOrder::Connect)));
    world.on(Event::Plain(Some(PlainOrder::Disconnect)));
    assert_eq!(world.after(59), []);
    assert_eq!(world.leases.port(), Some(61333));
}

#[test]
fn a_shutdown_tells_everybody_and_closes() {
    let mut world = World::new();
    world.open("controller-a", 1);
    world.on(Event::Opened(forwards(61333)));
    let actions = world.on(Event::ShuttingDown);
    let closed = Reply {
        lease: Some(id(1)),
        body: ReplyBody::Closed,
    };
    assert_eq!(
        actions,
        [Action::Reply(label("controller-a"), closed), Action::Close]
    );
}

#[test]
fn a_refusal_fits_into_a_reply_however_long_its_words_are() {
    let mut world = World::new();
    world.leases.services = (0..16).map(|n| label(&format!("{n:0>63}"))).collect();
    let actions = world.open_services("controller-a", 1, &["vnc"]);
    let (_, text) = refusal(&actions);
    assert!(text.len() <= protocol::limits::MAX_TEXT, "{}", text.len());
    let [Action::Reply(_, reply)] = &actions[..] else {
        unreachable!()
    };
    assert!(Reply::decode(&reply.encode()).is_ok());
}

#[test]
fn no_controller_takes_another_s_share_of_the_leases() {
    let mut world = World::new();
    let names = [
        "controller-a",
        "controller-b",
        "controller-c",
        "controller-d",
    ];
    for lease in 0..100 {
        let actions = world.open(names[0], lease);
        if usize::from(lease) >= MAX_LEASES_PER_CONTROLLER {
            let (code, text) = refusal(&actions);
            assert_eq!(code, RefusalCode::Busy);
            assert_eq!(
                text,
                "`controller-a` holds 16 leases of `333.hula.atlas` already; `tunnel disconnect` gives them up"
            );
        }
    }
    assert_eq!(world.leases.len(), MAX_LEASES_PER_CONTROLLER);
    assert_eq!(world.open(names[0], 1), [], "a renewal is never too many");
    for name in &names[1..] {
        for lease in 0..16 {
            assert_eq!(world.open(name, lease), [], "{name} finds room");
        }
    }
    let (code, text) = (
        RefusalCode::Busy,
        "`333.hula.atlas` holds 64 leases already",
    );
    assert_eq!(refusal(&world.open("controller-e", 1)), (code, text));
    world.close(names[0], None);
    assert_eq!(world.open("controller-e", 1), []);
}

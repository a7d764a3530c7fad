//! The table's rules, one by one and at random.

mod expected;

use proptest::prelude::*;
use russh::keys::PublicKey;

use super::ports::STALE_MARKS;
use super::*;
use crate::admission::Peer;
use crate::keys::Keys;
use crate::limits::FIRST_ALLOCATED_PORT;

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPb/GgeZSjv8gbUtwhA0/LFLa4UxB5XjlVnBJ59zqV1g";

fn peer(id: &str) -> Peer {
    let (key, id): (PublicKey, DeviceId) = (KEY.parse().unwrap(), id.parse().unwrap());
    let keys = Keys::of([(key.clone(), id.clone())]);
    Peer::admit(id.system().as_str(), &key, &keys).unwrap()
}

fn own(connection: u64) -> Member<u64> {
    Member {
        connection: ConnectionId(connection),
        kind: PeerKind::Own,
        reach: connection,
    }
}

fn foreign(connection: u64) -> Member<u64> {
    Member {
        kind: PeerKind::Foreign,
        ..own(connection)
    }
}

fn table() -> Table<u64> {
    Table::new(&Limits::default())
}

struct World {
    table: Table<u64>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            table: table(),
            now: Instant::now(),
        }
    }

    fn forward(
        &mut self,
        device: &str,
        host: &str,
        port: u32,
        member: Member<u64>,
    ) -> Result<u16, ForwardRefusal> {
        let permit = peer(device).forward(host, port).unwrap();
        self.table.forward(&permit, host, member, 0, self.now)
    }

    fn expect(&mut self, device: &str, member: Member<u64>) {
        let permit = peer(device).forward("localhost", 0).unwrap();
        self.table.expect(&permit, member);
    }

    /// The connection and the port that a controller's stream is sent to before anybody serves it.
    fn pick_expected(&mut self, host: &str, port: u32, declined: &[u64]) -> Option<(u64, u16)> {
        let permit = peer("controller.hula.atlas").stream(host, port).unwrap();
        let declined: Vec<ConnectionId> = declined.iter().copied().map(ConnectionId).collect();
        let chosen = self.table.pick_expected(&permit, &declined, 0, self.now)?;
        assert_eq!(chosen.address, "localhost");
        Some((chosen.reach, chosen.port))
    }

    fn pick(&mut self, host: &str, port: u16) -> Pick<u64> {
        self.pick_as("controller.hula.atlas", host, port, &[], false)
    }

    fn pick_as(
        &mut self,
        controller: &str,
        host: &str,
        port: u16,
        tried: &[u64],
        share: bool,
    ) -> Pick<u64> {
        let permit = peer(controller).stream(host, u32::from(port)).unwrap();
        let tried: Vec<ConnectionId> = tried.iter().copied().map(ConnectionId).collect();
        self.table.pick(&permit, &tried, share)
    }
}

fn member_of(pick: Pick<u64>) -> u64 {
    match pick {
        Pick::Member(chosen) => chosen.reach,
        other @ (Pick::Busy | Pick::Nobody) => panic!("{other:?}"),
    }
}

#[test]
fn a_port_is_the_devices_while_it_serves_it_and_a_while_longer() {
    let mut world = World::new();
    let port = world
        .forward("333.hula.atlas", "localhost", 0, own(1))
        .unwrap();
    assert!(port >= FIRST_ALLOCATED_PORT);
    let asked = u32::from(port);
    assert_eq!(
        world.forward("334.hula.atlas", "localhost", asked, own(2)),
        Err(ForwardRefusal::Taken)
    );
    assert_eq!(
        world.forward("333.hula.atlas", "localhost", asked, own(3)),
        Ok(port)
    );
    assert_eq!(
        world.forward("333.hula.atlas", "", asked, own(3)),
        Err(ForwardRefusal::Twice)
    );
    world.table.gone(ConnectionId(1), world.now);
    world.table.gone(ConnectionId(3), world.now);
    assert_eq!(world.pick("localhost", port), Pick::Nobody);
    assert_eq!(
        world.forward("334.hula.atlas", "", asked, own(2)),
        Err(ForwardRefusal::Taken),
        "kept"
    );
    assert_eq!(
        world.forward("333.hula.atlas", "", 0, own(4)),
        Ok(port),
        "the same again"
    );
    world.table.gone(ConnectionId(4), world.now);
    world.now += Limits::default().port_keep;
    assert_eq!(
        world.forward("334.hula.atlas", "", asked, own(2)),
        Ok(port),
        "free again"
    );
}

#[test]
fn systems_do_not_share_ports() {
    let mut world = World::new();
    world.forward("333.hula.atlas", "", 20_000, own(1)).unwrap();
    world.forward("333.lono.atlas", "", 20_000, own(2)).unwrap();
    assert_eq!(member_of(world.pick("localhost", 20_000)), 1);
    let other = world.pick_as("controller.lono.atlas", "localhost", 20_000, &[], false);
    assert_eq!(member_of(other), 2);
}

#[test]
fn a_name_is_found_and_port_22_falls_back_to_the_first_forward() {
    let mut world = World::new();
    assert_eq!(world.pick("333", 22), Pick::Nobody);
    let port = world
        .forward("333.hula.atlas", "localhost", 0, foreign(1))
        .unwrap();
    match world.pick("333.hula", 22) {
        Pick::Member(chosen) => {
            assert_eq!((chosen.address.as_str(), chosen.port), ("localhost", port));
        }
        other @ (Pick::Busy | Pick::Nobody) => panic!("{other:?}"),
    }
    assert_eq!(world.pick("333", 80), Pick::Nobody);
    world
        .forward("333.hula.atlas", "333", 22, foreign(2))
        .unwrap();
    match world.pick("333", 22) {
        Pick::Member(chosen) => assert_eq!((chosen.address.as_str(), chosen.port), ("333", 22)),
        other @ (Pick::Busy | Pick::Nobody) => panic!("{other:?}"),
    }
}

#[test]
fn port_22_is_never_another_service_than_the_first() {
    let mut world = World::new();
    let device = "333.hula.atlas";
    let first = world.forward(device, "", 0, foreign(1)).unwrap();
    let second = world.forward(device, "", 0, foreign(1)).unwrap();
    // A second member has only the second service yet, and the first member goes.
    let joined = world.forward(device, "", u32::from(second), foreign(2));
    assert_eq!(joined, Ok(second));
    world.table.gone(ConnectionId(1), world.now);
    assert_eq!(member_of(world.pick("localhost", second)), 2);
    assert_eq!(world.pick("333", 22), Pick::Nobody, "it is waited for");
    assert_eq!(world.forward(device, "", 0, foreign(3)), Ok(first));
    assert_eq!(member_of(world.pick("333", 22)), 3);
}

#[test]
fn services_get_their_own_ports_back_whatever_was_free_first() {
    let mut world = World::new();
    let device = "333.hula.atlas";
    let old: Vec<u16> = (0..2)
        .map(|_| world.forward(device, "", 0, own(1)).unwrap())
        .collect();
    // It comes back while its old connection is still there, which ends between the two requests.
    let first = world.forward(device, "", 0, own(2)).unwrap();
    assert!(!old.contains(&first));
    world.table.gone(ConnectionId(1), world.now);
    assert_eq!(world.forward(device, "", 0, own(2)), Ok(old[1]));
    assert_eq!(member_of(world.pick("333", 22)), 2);
    world.table.release(ConnectionId(2));
    match world.pick("333", 22) {
        Pick::Member(chosen) => assert_eq!(chosen.port, first),
        other @ (Pick::Busy | Pick::Nobody) => panic!("{other:?}"),
    }
    // And with nothing in between, as it was.
    world.table.gone(ConnectionId(2), world.now);
    let again: Vec<u16> = (0..2)
        .map(|_| world.forward(device, "", 0, own(3)).unwrap())
        .collect();
    assert!(again[0] == old[0] || again[0] == first, "{again:?}");
    assert_eq!(again[1], old[1]);
}

#[test]
fn the_least_busy_member_is_taken_and_an_own_one_is_not_shared_at_once() {
    let mut world = World::new();
    world.forward("333.hula.atlas", "", 20_000, own(1)).unwrap();
    world.forward("333.hula.atlas", "", 20_000, own(2)).unwrap();
    assert_eq!(member_of(world.pick("localhost", 20_000)), 2);
    assert_eq!(member_of(world.pick("localhost", 20_000)), 1);
    assert_eq!(world.pick("localhost", 20_000), Pick::Busy);
    let controller = "controller.hula.atlas";
    let shared = world.pick_as(controller, "localhost", 20_000, &[2], true);
    assert_eq!(member_of(shared), 1);
    world.table.release(ConnectionId(2));
    assert_eq!(member_of(world.pick("localhost", 20_000)), 2);
    assert_eq!(
        world.pick_as(controller, "localhost", 20_000, &[1, 2], true),
        Pick::Nobody
    );
    world
        .forward("333.hula.atlas", "", 20_000, foreign(3))
        .unwrap();
    assert_eq!(member_of(world.pick("localhost", 20_000)), 3);
    assert_eq!(
        member_of(world.pick_as(controller, "localhost", 20_000, &[1, 2], false)),
        3,
        "a foreign one is shared at once"
    );
}

#[test]
fn a_cancelled_forward_is_gone_and_the_connection_is_not() {
    let mut world = World::new();
    world.forward("333.hula.atlas", "", 20_000, own(1)).unwrap();
    world.forward("333.hula.atlas", "333", 80, own(1)).unwrap();
    let permit = peer("333.hula.atlas").forward("", 20_000).unwrap();
    assert!(world.table.cancel(ConnectionId(1), &permit, world.now));
    assert!(!world.table.cancel(ConnectionId(1), &permit, world.now));
    assert_eq!(world.pick("localhost", 20_000), Pick::Nobody);
    assert_eq!(member_of(world.pick("333", 80)), 1);
    assert_eq!(
        world.table.occupancy(),
        Occupancy {
            waiting: 0,
            members: 1,
            tunnels: 1
        }
    );
}

#[test]
fn the_limits_are_the_last_that_is_granted() {
    let mut world = World::new();
    let limits = Limits::default();
    for port in 0..limits.forwards_per_connection {
        let port = 20_000 + u32::try_from(port).unwrap();
        world.forward("333.hula.atlas", "", port, own(1)).unwrap();
    }
    assert_eq!(
        world.forward("333.hula.atlas", "", 30_000, own(1)),
        Err(ForwardRefusal::TooMany)
    );
    world.table.gone(ConnectionId(1), world.now);
    let kept = world.table.devices.values().map(Vec::len).sum::<usize>();
    assert_eq!(kept, limits.kept_ports_per_device);
    for connection in 0..limits.members_per_entry {
        let connection = 100 + u64::try_from(connection).unwrap();
        world
            .forward("334.hula.atlas", "", 40_000, own(connection))
            .unwrap();
    }
    assert_eq!(
        world.forward("334.hula.atlas", "", 40_000, own(99)),
        Err(ForwardRefusal::TooMany)
    );
}

#[test]
fn a_device_that_comes_and_goes_leaves_nothing_behind() {
    let mut world = World::new();
    for connection in 0..3_000 {
        world.now += Duration::from_nanos(1);
        world
            .forward("333.hula.atlas", "", 0, own(connection))
            .unwrap();
        world.table.gone(ConnectionId(connection), world.now);
    }
    assert!(
        world.table.emptied.len() <= STALE_MARKS + 4,
        "{}",
        world.table.emptied.len()
    );
    world.now += Limits::default().port_keep;
    world.table.expire(world.now);
    assert!(world.table.entries.is_empty() && world.table.devices.is_empty());
    assert!(world.table.connections.is_empty() && world.table.emptied.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Forward {
        device: u8,
        port: u32,
        connection: u64,
    },
    Named {
        device: u8,
        connection: u64,
    },
    Cancel {
        device: u8,
        port: u32,
        connection: u64,
    },
    Login(u64),
    Gone(u64),
    Pick(u16),
    PickExpected(u8),
    Release(u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (port, connection) = (prop_oneof![Just(0), 10_000u32..10_004], 0u64..6);
    let step = prop_oneof![
        4 => (0u8..3, port.clone(), connection.clone())
            .prop_map(|(device, port, connection)| Step::Forward { device, port, connection }),
        1 => (0u8..3, connection.clone()).prop_map(|(device, connection)| Step::Named { device, connection }),
        1 => (0u8..3, port, connection.clone())
            .prop_map(|(device, port, connection)| Step::Cancel { device, port, connection }),
        2 => connection.clone().prop_map(Step::Login),
        2 => connection.clone().prop_map(Step::Gone),
        2 => (0u8..3).prop_map(Step::PickExpected),
        3 => (10_000u16..10_004).prop_map(Step::Pick),
        2 => connection.prop_map(Step::Release),
        1 => (0u64..400).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    /// Whatever happens, a stream to a port reaches a connection of the port's owner which has that forward now.
    #[test]
    fn a_stream_never_reaches_a_stranger(steps in steps()) {
        let mut world = World::new();
        // A connection belongs to one device: connection n to device n mod 3.
        let device = |connection: u64| format!("{}.hula.atlas", connection % 3);
        for step in steps {
            match step {
                Step::Forward { device: number, port, connection } if connection % 3 == u64::from(number) => {
                    let _ = world.forward(&device(connection), "", port, own(connection));
                }
                Step::Named { device: number, connection } if connection % 3 == u64::from(number) => {
                    let _ = world.forward(&device(connection), &number.to_string(), 22, own(connection));
                }
                Step::Cancel { device: number, port, connection } if connection % 3 == u64::from(number) => {
                    let permit = peer(&device(connection)).forward("", port).unwrap();
                    world.table.cancel(ConnectionId(connection), &permit, world.now);
                }
                Step::Forward { .. } | Step::Named { .. } | Step::Cancel { .. } => {}
                Step::Login(connection) => world.expect(&device(connection), own(connection)),
                Step::PickExpected(number) => {
                    if let Some((reach, port)) = world.pick_expected(&number.to_string(), 22, &[]) {
                        let slot = Slot::Port("hula".parse().unwrap(), port);
                        prop_assert_eq!(reach % 3, u64::from(number));
                        prop_assert_eq!(world.table.entries[&slot].owner.to_string(), device(reach));
                        prop_assert!(world.table.connections[&ConnectionId(reach)].slots.is_empty());
                    }
                }
                Step::Gone(connection) => drop(world.table.gone(ConnectionId(connection), world.now)),
                Step::Pick(port) => {
                    let pick = world.pick_as("controller.hula.atlas", "localhost", port, &[], true);
                    if let Pick::Member(chosen) = pick {
                        let slot = Slot::Port("hula".parse().unwrap(), port);
                        let entry = &world.table.entries[&slot];
                        prop_assert_eq!(entry.owner.to_string(), device(chosen.reach));
                        prop_assert!(entry.has(chosen.connection));
                        prop_assert!(world.table.connections[&chosen.connection].slots.contains(&slot));
                    }
                }
                Step::Release(connection) => world.table.release(ConnectionId(connection)),
                Step::Wait(seconds) => {
                    world.now += Duration::from_secs(seconds);
                    world.table.expire(world.now);
                }
            }
            // Both indexes say the same.
            let listed: usize = world.table.devices.values().map(Vec::len).sum();
            prop_assert_eq!(listed, world.table.entries.len());
            for entry in world.table.entries.values() {
                prop_assert_eq!(entry.members.is_empty(), entry.emptied.is_some());
            }
            for (device, connection) in &world.table.expected {
                prop_assert_eq!(world.table.connections[connection].expected.as_ref(), Some(device));
            }
        }
        for connection in 0..6 {
            world.table.gone(ConnectionId(connection), world.now);
        }
        world.now += Limits::default().port_keep;
        world.table.expire(world.now);
        prop_assert!(world.table.entries.is_empty() && world.table.connections.is_empty());
        prop_assert!(world.table.expected.is_empty());
    }
}

fn has_rung(bell: &Notify) -> bool {
    futures_util::FutureExt::now_or_never(bell.notified()).is_some()
}

#[test]
fn a_waiter_hears_of_its_own_place_and_of_no_other() {
    let mut world = World::new();
    let controller = "controller.hula.atlas";
    let wait = |table: &mut Table<u64>, host: &str, port: u32| {
        let permit = peer(controller).stream(host, port).unwrap();
        let waiting = table.wait(Some(&permit), &controller.parse().unwrap());
        waiting.unwrap().1
    };
    let by_port = wait(&mut world.table, "localhost", 20_000);
    let by_name = wait(&mut world.table, "333", 22);
    let web = wait(&mut world.table, "333", 80);
    let other = wait(&mut world.table, "334", 22);
    world.forward("333.hula.atlas", "", 20_000, own(1)).unwrap();
    assert!(
        has_rung(&by_port) && has_rung(&by_name),
        "either may mean it"
    );
    assert!(!has_rung(&web) && !has_rung(&other));
    world.forward("333.hula.atlas", "333", 80, own(1)).unwrap();
    assert!(has_rung(&web) && !has_rung(&by_name) && !has_rung(&other));
    // Busy, and then not any more.
    assert_eq!(member_of(world.pick("333", 80)), 1);
    world.table.release(ConnectionId(1));
    assert!(has_rung(&web) && has_rung(&by_port) && !has_rung(&other));
    // Expected, and busy meanwhile.
    world.expect("334.hula.atlas", own(2));
    assert!(has_rung(&other) && !has_rung(&web));
    assert!(world.pick_expected("334", 22, &[]).is_some() && !has_rung(&other));
    world.table.release(ConnectionId(2));
    assert!(has_rung(&other));
}

#[test]
fn so_many_wait_and_no_more_whether_or_not_in_vain() {
    let mut table = Table::<u64>::new(&Limits {
        waiting: 5,
        waiting_per_system: 4,
        waiting_per_controller: 3,
        ..Limits::default()
    });
    let permit = peer("controller.hula.atlas").stream("333", 22).unwrap();
    let wait = |table: &mut Table<u64>, id: &str, permit: Option<&StreamPermit>| {
        table.wait(permit, &id.parse().unwrap()).map(|(id, _)| id)
    };
    let hula = "controller.hula.atlas";
    let first = wait(&mut table, hula, Some(&permit)).unwrap();
    wait(&mut table, hula, None).unwrap();
    wait(&mut table, hula, Some(&permit)).unwrap();
    assert_eq!(wait(&mut table, hula, Some(&permit)), Err(TooManyWaiting));
    assert_eq!(wait(&mut table, hula, None), Err(TooManyWaiting));
    wait(&mut table, "controller-b.hula.atlas", None).unwrap();
    let third = "controller-c.hula.atlas";
    assert_eq!(wait(&mut table, third, None), Err(TooManyWaiting), "system");
    wait(&mut table, "controller.lono.atlas", None).unwrap();
    let fourth = "controller.lani.atlas";
    assert_eq!(
        wait(&mut table, fourth, None),
        Err(TooManyWaiting),
        "in all"
    );
    table.stop_waiting(first);
    table.stop_waiting(first);
    assert_eq!(table.occupancy().waiting, 4);
    wait(&mut table, fourth, None).unwrap();
}

#[test]
fn who_has_waited_leaves_nothing_behind() {
    let mut table = table();
    let permit = peer("controller.hula.atlas").stream("333", 22).unwrap();
    for _ in 0..1000 {
        let controller = "controller.hula.atlas".parse().unwrap();
        let (id, _) = table.wait(Some(&permit), &controller).unwrap();
        table.stop_waiting(id);
    }
    assert!(table.waiting.is_empty());
}

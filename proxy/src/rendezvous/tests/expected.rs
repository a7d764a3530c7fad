//! Connections that are expected to forward: who is sent a stream before, and at which port.

use super::*;

#[test]
fn who_is_expected_is_sent_a_stream_at_the_port_that_it_will_get() {
    let (mut world, device) = (World::new(), "333.hula.atlas");
    assert_eq!(world.pick_expected("333", 22, &[]), None, "nobody is there");
    world.expect(device, own(1));
    let (reach, port) = world.pick_expected("333", 22, &[]).unwrap();
    assert_eq!(reach, 1);
    assert_eq!(world.pick_expected("333", 22, &[]), None, "it is busy");
    assert_eq!(world.pick("333", 22), Pick::Nobody, "it serves nothing yet");
    assert_eq!(world.table.occupancy(), Occupancy::default());
    let other = world.forward("334.hula.atlas", "", u32::from(port), own(2));
    assert_eq!(other, Err(ForwardRefusal::Taken), "the port is kept");
    assert_eq!(world.forward(device, "localhost", 0, own(1)), Ok(port));
    assert_eq!(world.pick("333", 22), Pick::Busy, "the stream goes on");
    world.table.release(ConnectionId(1));
    assert_eq!(member_of(world.pick("333", 22)), 1);
    world.table.release(ConnectionId(1));
    assert_eq!(world.pick_expected("333", 22, &[]), None, "it has asked");
}

#[test]
fn nobody_else_is_sent_a_stream_before_its_forward() {
    let (mut world, device) = (World::new(), "333.hula.atlas");
    world.expect(device, foreign(1));
    assert_eq!(world.pick_expected("333", 22, &[]), None, "a foreign one");
    world.expect(device, own(2));
    assert_eq!(world.pick_expected("333", 22, &[2]), None, "it declined");
    assert_eq!(world.pick_expected("333", 80, &[]), None, "another service");
    assert_eq!(world.pick_expected("334", 22, &[]), None, "another device");
    assert_eq!(world.pick_expected("localhost", 10_000, &[]), None);
    world.forward(device, "333", 22, own(3)).unwrap();
    assert_eq!(
        world.pick_expected("333", 22, &[]),
        None,
        "the name is another service's"
    );
    world.table.gone(ConnectionId(3), world.now);
    assert!(world.table.gone(ConnectionId(2), world.now));
    assert_eq!(world.pick_expected("333", 22, &[]), None, "it is gone");
    // Who has asked in vain is not expected to ask any more.
    world.forward("334.hula.atlas", "", 20_000, own(4)).unwrap();
    world.expect(device, own(5));
    let taken = world.forward(device, "", 20_000, own(5));
    assert_eq!(taken, Err(ForwardRefusal::Taken));
    assert_eq!(world.pick_expected("333", 22, &[]), None);
    world.expect(device, own(5));
    assert_eq!(
        world.pick_expected("333", 22, &[]),
        None,
        "nor a second time"
    );
}

#[test]
fn the_latest_is_asked_and_only_while_nobody_serves() {
    let (mut world, device) = (World::new(), "333.hula.atlas");
    world.expect(device, own(1));
    world.expect(device, own(2));
    let (first, port) = world.pick_expected("333", 22, &[]).unwrap();
    assert_eq!(first, 2);
    world.expect(device, own(3));
    assert_eq!(world.pick_expected("333", 22, &[]), Some((3, port)));
    world.table.gone(ConnectionId(3), world.now);
    assert_eq!(world.pick_expected("333", 22, &[]), None);
    // What was promised is kept to, also when another was quicker to ask for it.
    let quicker = world.forward(device, "", u32::from(port), own(1));
    assert_eq!(quicker, Ok(port));
    world.expect(device, own(4));
    assert_eq!(
        world.pick_expected("333", 22, &[]),
        None,
        "somebody serves it"
    );
    assert_eq!(world.forward(device, "localhost", 0, own(2)), Ok(port));
    let second = world.forward(device, "localhost", 0, own(2)).unwrap();
    assert_ne!(second, port, "its second service has another");
}

#[test]
fn a_port_is_promised_within_the_limit_and_as_long_as_it_is_kept() {
    let (mut world, limits) = (World::new(), Limits::default());
    let device = "333.hula.atlas";
    world.expect(device, own(1));
    let (_, port) = world.pick_expected("333", 22, &[]).unwrap();
    world.table.gone(ConnectionId(1), world.now);
    world.now += limits.port_keep / 2;
    world.expect(device, own(2));
    assert_eq!(world.pick_expected("333", 22, &[]), Some((2, port)));
    world.now += limits.port_keep / 2;
    world.table.expire(world.now);
    assert_eq!(world.table.entries.len(), 1, "kept from the last promise");
    world.table.gone(ConnectionId(2), world.now);
    world.now += limits.port_keep / 2;
    world.table.expire(world.now);
    assert!(world.table.entries.is_empty() && world.table.devices.is_empty());
    for number in 0..u32::try_from(limits.entries_per_device).unwrap() {
        let member = own(100 + u64::from(number));
        world.forward(device, "333", 100 + number, member).unwrap();
    }
    world.expect(device, own(3));
    assert_eq!(world.pick_expected("333", 22, &[]), None, "it has too many");
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::*;
use crate::gate::tests::{admitted, gate};
use crate::topic::tests::{filter, name};

const DEVICE: &str = "333.hula.atlas";
const CONTROLLER: &str = "controller-a.hula.atlas";
const PRESENCE: &str = "atlas/hula/333/tunnel/presence";

fn hub() -> (Arc<Hub>, mpsc::Receiver<Arc<Message>>) {
    let limits = Limits {
        bus_queue: 2,
        ..Limits::default()
    };
    Hub::new(gate(), limits, None)
}

fn attach(hub: &Arc<Hub>, id: &str, clean: bool) -> Attachment {
    hub.attach(admitted(&hub.gate, id), clean, None).unwrap()
}

fn presence(hub: &Hub, text: &str) -> Accepted {
    let message = Message::new(name(PRESENCE), text.as_bytes(), Qos::AtLeastOnce, true);
    hub.gate
        .publish(&admitted(&hub.gate, DEVICE), message)
        .unwrap()
}

fn watch(hub: &Hub, attachment: &Attachment) {
    let client = admitted(&hub.gate, CONTROLLER);
    let granted = hub.gate.subscribe(&client, filter(PRESENCE)).unwrap();
    attachment.subscribe(&granted, Qos::AtLeastOnce).unwrap();
}

fn next(attachment: &Attachment) -> Option<String> {
    let outgoing = attachment.next().unwrap()?;
    Some(String::from_utf8(outgoing.message.payload.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_kept_session_expires_unless_its_client_is_there() {
    let (hub, _for_bus) = hub();
    let attachment = attach(&hub, CONTROLLER, false);
    watch(&hub, &attachment);
    let later = |hours| Instant::now() + Duration::from_hours(hours);
    hub.sweep(later(2));
    drop(attachment);
    let attachment = attach(&hub, CONTROLLER, false);
    assert!(attachment.session_present());
    hub.sweep(later(2));
    drop(attachment);
    hub.sweep(Instant::now());
    assert_eq!(hub.counters.snapshot().sessions, 1);
    hub.sweep(later(1));
    assert_eq!(hub.counters.snapshot().sessions, 0);
    assert!(!attach(&hub, CONTROLLER, false).session_present());
    assert_eq!(hub.lock().seats.expiring(), 1);
    // Nobody is subscribed any more.
    assert_eq!(hub.lock().routing.subscribers(&name(PRESENCE)), 0);
}

#[tokio::test]
async fn what_has_lost_its_seat_reaches_nobody() {
    let (hub, _for_bus) = hub();
    let old = attach(&hub, CONTROLLER, false);
    watch(&hub, &old);
    let new = attach(&hub, CONTROLLER, false);
    old.rung().await;
    assert!(matches!(old.next(), Err(Cut::TakenOver)));
    old.unsubscribe(&[filter(PRESENCE)]);
    let device = attach(&hub, DEVICE, true);
    device.publish(presence(&hub, "1")).unwrap();
    new.rung().await;
    let outgoing = new.next().unwrap().unwrap();
    old.acknowledge(outgoing.pkid.unwrap());
    drop((old, device));
    assert_eq!(hub.counters.snapshot().connected, 1);
    assert_eq!(new.standing(), Ok(()));
    drop(new);
    // Not acknowledged by the one who could.
    let again = attach(&hub, CONTROLLER, false);
    assert!(again.next().unwrap().unwrap().dup);
}

#[tokio::test]
async fn what_has_lost_its_seat_says_nothing() {
    for clean in [true, false] {
        let (hub, mut for_bus) = hub();
        let witness = attach(&hub, CONTROLLER, true);
        watch(&hub, &witness);
        // Decided by the gate while the old connection still had the seat.
        let old = attach(&hub, DEVICE, clean);
        let message = presence(&hub, "old");
        let new = attach(&hub, DEVICE, clean);
        assert!(matches!(
            old.publish(message),
            Err(PublishError::Cut(Cut::TakenOver))
        ));
        assert_eq!(next(&witness), None);
        assert!(for_bus.try_recv().is_err());
        assert_eq!(hub.counters.snapshot().retained_messages, 0);
        new.publish(presence(&hub, "new")).unwrap();
        assert_eq!(next(&witness).as_deref(), Some("new"));
    }
}

/// Retained and wills, as text.
fn kept(hub: &Hub) -> (Vec<String>, Vec<String>) {
    let everything = hub.everything();
    assert!(everything.is_everything);
    let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
    let mut wills: Vec<_> = everything
        .wills
        .values()
        .map(|will| text(will.as_ref().unwrap()))
        .collect();
    wills.sort();
    let retained = everything.retained.iter();
    (retained.map(|one| text(&one.0)).collect(), wills)
}

#[tokio::test]
async fn everything_is_what_is_retained_and_every_will_also_while_draining() {
    let will = |text: &str| Message::new(name(PRESENCE), text.as_bytes(), Qos::AtLeastOnce, true);
    let left = Kept {
        retained: vec![will("online")],
        wills: vec![("334.hula.atlas".into(), will("334 is lost"))],
    };
    let (hub, _for_bus) = Hub::new(gate(), Limits::default(), Some(left));
    let lost = presence(&hub, "333 is lost");
    let device = hub
        .attach(admitted(&hub.gate, DEVICE), true, Some(lost))
        .unwrap();
    let expected = (
        vec!["online".to_owned()],
        vec!["333 is lost".to_owned(), "334 is lost".to_owned()],
    );
    assert_eq!(kept(&hub), expected);
    hub.drain();
    drop(device);
    assert_eq!(kept(&hub), expected);
}

/// Better nothing than what is not true.
#[tokio::test]
async fn a_will_for_which_there_is_no_room_is_told_and_nobody_stays_online() {
    let limits = Limits {
        retained_bytes: PRESENCE.len() + 6,
        ..Limits::default()
    };
    let (hub, mut for_bus) = Hub::new(gate(), limits, None);
    let witness = attach(&hub, CONTROLLER, true);
    watch(&hub, &witness);
    let lost = presence(&hub, "lost, and too long");
    let device = hub
        .attach(admitted(&hub.gate, DEVICE), true, Some(lost))
        .unwrap();
    device.publish(presence(&hub, "online")).unwrap();
    drop(device);
    assert_eq!(next(&witness).as_deref(), Some("online"));
    assert_eq!(next(&witness).as_deref(), Some("lost, and too long"));
    assert_eq!(hub.counters.snapshot().retained_messages, 0);
    assert_eq!(for_bus.recv().await.unwrap().payload, "online");
    assert_eq!(for_bus.recv().await.unwrap().payload, "lost, and too long");
}

#[tokio::test]
async fn a_draining_hub_lets_nobody_in_and_everybody_go() {
    let (hub, _for_bus) = hub();
    let attachment = attach(&hub, CONTROLLER, true);
    hub.drain();
    attachment.rung().await;
    assert!(matches!(attachment.next(), Err(Cut::Drain)));
    let refused = hub
        .attach(admitted(&hub.gate, DEVICE), true, None)
        .map(drop);
    assert_eq!(refused, Err(AttachError::Draining));
}

#[tokio::test]
async fn a_panic_with_the_lock_held_stops_nobody() {
    let (hub, _for_bus) = hub();
    let attachment = attach(&hub, CONTROLLER, true);
    watch(&hub, &attachment);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = hub.state.lock();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    let device = attach(&hub, DEVICE, true);
    device.publish(presence(&hub, "1")).unwrap();
    assert_eq!(next(&attachment).as_deref(), Some("1"));
}

#[tokio::test]
async fn what_does_not_fit_on_the_bus_comes_later_and_is_the_newest() {
    let (hub, mut for_bus) = hub();
    let device = attach(&hub, DEVICE, true);
    for text in ["1", "2", "3", "4"] {
        device.publish(presence(&hub, text)).unwrap();
    }
    assert_eq!(for_bus.recv().await.unwrap().payload, "1");
    let late = hub.late_for_bus(10);
    assert_eq!(
        late.iter()
            .map(|message| &message.payload[..])
            .collect::<Vec<_>>(),
        [b"4"]
    );
    assert!(hub.late_for_bus(10).is_empty());
    hub.is_late_for_bus(&late[0]);
    device.publish(presence(&hub, "")).unwrap();
    assert_eq!(hub.late_for_bus(10)[0].payload, "");
}

const LOST: &str = "lost";

/// A hub after a restart: 333 was online, and its will was that it is lost.
fn restarted() -> (Arc<Hub>, mpsc::Receiver<Arc<Message>>) {
    let message =
        |text: &str| Message::new(name(PRESENCE), text.as_bytes(), Qos::AtLeastOnce, true);
    let kept = Kept {
        retained: vec![message("online")],
        wills: vec![(DEVICE.into(), message(LOST))],
    };
    Hub::new(gate(), Limits::default(), Some(kept))
}

fn attach_with_will(hub: &Arc<Hub>, text: &str) -> Attachment {
    let will = presence(hub, text);
    hub.attach(admitted(&hub.gate, DEVICE), true, Some(will))
        .unwrap()
}

/// What would be on the disk: the message of the topic, and the will of the device or that it has none.
#[expect(
    clippy::option_option,
    reason = "not written is another thing than removed"
)]
fn on_disk(hub: &Hub) -> (Option<String>, Option<Option<String>>) {
    let text = |message: &Message| String::from_utf8(message.payload.to_vec()).unwrap();
    let batch = hub.journal.take();
    let retained = batch.retained.first().map(|entry| text(&entry.0));
    let will = batch.wills.get(DEVICE);
    (retained, will.map(|will| will.as_deref().map(text)))
}

#[tokio::test]
async fn who_was_online_is_seen_as_lost_until_it_is_back() {
    let (hub, mut for_bus) = restarted();
    let early = attach(&hub, CONTROLLER, true);
    watch(&hub, &early);
    assert_eq!(next(&early).as_deref(), Some(LOST));
    let device = attach_with_will(&hub, "lost again");
    // What it had said was of another session, and it says nothing before it speaks; nothing was published.
    let late = attach(&hub, "controller-b.hula.atlas", true);
    watch(&hub, &late);
    assert_eq!(next(&late).as_deref(), Some(LOST));
    assert_eq!(next(&early), None);
    assert!(for_bus.try_recv().is_err());
    let expected = (Some(LOST.to_owned()), Some(Some("lost again".to_owned())));
    assert_eq!(on_disk(&hub), expected);
    assert_eq!(hub.counters.snapshot().held_wills, 0);
    assert!(!hub.give_up(10));
    drop(device);
    assert_eq!(next(&early).as_deref(), Some("lost again"));
    assert_eq!(on_disk(&hub), (Some("lost again".to_owned()), Some(None)));
}

#[tokio::test]
async fn who_does_not_come_back_is_lost() {
    let (hub, mut for_bus) = restarted();
    let witness = attach(&hub, CONTROLLER, true);
    watch(&hub, &witness);
    assert_eq!(next(&witness).as_deref(), Some(LOST));
    assert!(!hub.give_up(10));
    assert_eq!(next(&witness).as_deref(), Some(LOST));
    assert_eq!(for_bus.try_recv().unwrap().payload, LOST);
    assert_eq!(on_disk(&hub), (Some(LOST.to_owned()), Some(None)));
    let count = hub.counters.snapshot();
    assert_eq!((count.wills, count.held_wills), (1, 0));
}

/// MQTT-3.1.2-8: nobody else would publish it.
#[tokio::test]
async fn who_comes_back_without_its_will_was_lost() {
    let (hub, _for_bus) = restarted();
    let device = attach(&hub, DEVICE, true);
    let witness = attach(&hub, CONTROLLER, true);
    watch(&hub, &witness);
    assert_eq!(next(&witness).as_deref(), Some(LOST));
    assert_eq!(on_disk(&hub), (Some(LOST.to_owned()), Some(None)));
    drop(device);
    assert_eq!(next(&witness), None);
}

#[tokio::test]
async fn something_newer_is_seen_at_once() {
    let (hub, _for_bus) = restarted();
    let message = Message::new(name(PRESENCE), b"newer", Qos::AtLeastOnce, true);
    hub.publish_for_service(message).unwrap();
    let witness = attach(&hub, CONTROLLER, true);
    watch(&hub, &witness);
    assert_eq!(next(&witness).as_deref(), Some("newer"));
}

#[tokio::test]
async fn a_draining_hub_leaves_the_wills_to_the_next_one() {
    let (hub, _for_bus) = restarted();
    let other = hub
        .gate
        .publish(
            &admitted(&hub.gate, "334.hula.atlas"),
            Message::new(
                name("atlas/hula/334/tunnel/presence"),
                LOST.as_bytes(),
                Qos::AtLeastOnce,
                true,
            ),
        )
        .unwrap();
    let attachment = hub
        .attach(admitted(&hub.gate, "334.hula.atlas"), true, Some(other))
        .unwrap();
    hub.drain();
    drop(attachment);
    assert!(!hub.give_up(10));
    let batch = hub.journal.take();
    assert_eq!((batch.retained.len(), batch.wills.len()), (0, 1));
    assert!(batch.wills.values().all(Option::is_some));
    assert_eq!(hub.counters.snapshot().wills, 0);
}

#[tokio::test]
async fn a_goodbye_takes_the_will_along() {
    let (hub, _for_bus) = restarted();
    attach_with_will(&hub, "never").disconnect();
    assert_eq!(on_disk(&hub), (Some(LOST.to_owned()), Some(None)));
    // Who has no will costs the disk nothing.
    attach(&hub, CONTROLLER, true).disconnect();
    drop(attach(&hub, CONTROLLER, true));
    assert_eq!(hub.journal.take().len(), 0);
}

/// What is on the disk is never a presence without the will that ends it.
#[tokio::test]
async fn a_will_is_never_later_than_what_its_client_says() {
    let (hub, _for_bus) = Hub::new(gate(), Limits::default(), Some(Kept::default()));
    let device = attach_with_will(&hub, LOST);
    let mark = device.publish(presence(&hub, "online")).unwrap();
    assert_eq!(
        on_disk(&hub),
        (Some("online".to_owned()), Some(Some(LOST.to_owned())))
    );
    assert!(mark > device.durable());
}

#[tokio::test]
async fn a_held_will_is_a_session() {
    let message = Message::new(name(PRESENCE), b"x", Qos::AtLeastOnce, true);
    let kept = Kept {
        retained: vec![],
        wills: vec![(DEVICE.into(), message)],
    };
    let limits = Limits {
        sessions: 1,
        ..Limits::default()
    };
    let (hub, _for_bus) = Hub::new(gate(), limits, Some(kept));
    let refused = hub.attach(admitted(&hub.gate, CONTROLLER), true, None);
    assert_eq!(refused.map(drop), Err(AttachError::Full));
    drop(attach(&hub, DEVICE, true));
    attach(&hub, CONTROLLER, true);
}

#[tokio::test]
async fn a_journal_that_is_full_is_said_to_be() {
    let limits = Limits {
        sessions: 1,
        retained_messages: 1,
        ..Limits::default()
    };
    let (hub, _for_bus) = Hub::new(gate(), limits, Some(Kept::default()));
    let device = attach_with_will(&hub, LOST);
    device.publish(presence(&hub, "1")).unwrap();
    assert!(matches!(
        device.publish(presence(&hub, "2")),
        Err(PublishError::Full(_))
    ));
    let refused = hub.attach(
        admitted(&hub.gate, DEVICE),
        true,
        Some(presence(&hub, LOST)),
    );
    assert_eq!(refused.map(drop), Err(AttachError::Will(RetainedFull)));
    assert_eq!(hub.counters.snapshot().retained_refused, 1);
    hub.journal.take();
    device.publish(presence(&hub, "3")).unwrap();
}

/// From now on nobody may say or hear a presence.
fn forbid(hub: &Hub) {
    let home = tempfile::tempdir().unwrap();
    for role in policies::RoleDocument::ALL {
        let narrowed = role.json().replace("/tunnel/presence", "/tunnel/nothing");
        assert_ne!(narrowed, role.json());
        std::fs::write(crate::policy_files::path(home.path(), role), narrowed).unwrap();
    }
    let realm = "atlas".parse().unwrap();
    let policies = crate::policy_files::load_policies(Some(home.path()), &realm).unwrap();
    assert!(hub.gate.replace(policies));
}

/// Who asks between new policies and their recheck was let in by the old ones.
#[tokio::test]
async fn what_was_decided_by_old_policies_is_decided_again() {
    let (hub, _for_bus) = hub();
    let controller = attach(&hub, CONTROLLER, true);
    let client = admitted(&hub.gate, CONTROLLER);
    let granted = hub.gate.subscribe(&client, filter(PRESENCE)).unwrap();
    let (device, will) = (admitted(&hub.gate, DEVICE), presence(&hub, LOST));
    forbid(&hub);
    assert!(matches!(
        controller.subscribe(&granted, Qos::AtLeastOnce),
        Err(SubscribeError::Refused(_))
    ));
    assert_eq!(hub.lock().routing.subscribers(&name(PRESENCE)), 0);
    let refused = hub.attach(device.clone(), true, Some(will)).map(drop);
    assert!(matches!(refused, Err(AttachError::Refused(_))));
    assert_eq!(hub.counters.snapshot().sessions, 1);
    assert!(hub.attach(device, true, None).is_ok());
}

#[tokio::test]
async fn a_will_that_is_no_longer_permitted_is_not_published() {
    // Of one who goes, of one who is displaced, and of one that an earlier broker left behind.
    for how in 0..3 {
        let (hub, mut for_bus) = if how == 2 { restarted() } else { hub() };
        let device = (how < 2).then(|| attach_with_will(&hub, LOST));
        forbid(&hub);
        hub.recheck();
        match how {
            0 => drop(device),
            1 => drop(attach(&hub, DEVICE, true)),
            _ => assert!(!hub.give_up(10)),
        }
        assert!(for_bus.try_recv().is_err(), "{how}");
        let count = hub.counters.snapshot();
        assert_eq!((count.wills, count.withdrawn_wills), (0, 1), "{how}");
        if how == 2 {
            assert_eq!(on_disk(&hub), (None, Some(None)));
        }
    }
}

/// A controller that costs memory may cost others nothing: those who read have their share.
#[tokio::test]
async fn what_waits_for_all_is_bounded_and_nobody_who_reads_is_cut() {
    let limits = Limits {
        all_queues_bytes: 200_000,
        ..Limits::default()
    };
    let (hub, _for_bus) = Hub::new(gate(), limits, None);
    let greedy: Vec<_> = ["controller-a.hula.atlas", "controller-b.hula.atlas"]
        .map(|id| {
            let attachment = attach(&hub, id, true);
            watch(&hub, &attachment);
            attachment
        })
        .into();
    let reader = attach(&hub, "controller-c.hula.atlas", true);
    watch(&hub, &reader);
    let device = attach(&hub, DEVICE, true);
    let text = "x".repeat(10_000);
    for _ in 0..20 {
        device.publish(presence(&hub, &text)).unwrap();
        let outgoing = reader.next().unwrap().unwrap();
        reader.acknowledge(outgoing.pkid.unwrap());
    }
    for greedy in &greedy {
        assert_eq!(greedy.standing(), Err(Cut::QueueFull));
    }
    assert_eq!(reader.standing(), Ok(()));
    assert!(hub.queue_depths().bytes <= 200_000 + 64 * 1024);
}

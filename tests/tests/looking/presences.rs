//! What other agents say of themselves: those of an earlier version, and those that mean no good.

use std::process::Command;

use e2e::{CEILING, Device, Mosquitto, Screen, World, run, wait_until};
use serde_json::{Value, json};

#[test]
fn agents_of_every_kind_are_listed_and_none_does_harm() {
    let world = World::new();
    let _serve = world.serve();
    let controller = world.enroll("hula", "controller-a");
    let [old, new, odd, loud] =
        ["333", "444", "555", "666"].map(|device| world.enroll("hula", device));

    // As an agent of before proxy and controllers were told writes it, and one that will come.
    say(
        &world,
        &old,
        r#"{"v":1,"online":true,"since":1795305600,"lost":false,"version":"0.1.0","epoch":1795305600123}"#,
    );
    say(
        &world,
        &new,
        r#"{"v":1,"online":true,"since":1795305600,"version":"0.2.0","epoch":1,"proxy":"proxy.example.org:2222","controllers":["controller-a"],"mood":{"is":"good"}}"#,
    );
    // Within the rules; it would turn the line round, and take another number of columns than it has characters.
    let turned = "{\"v\":1,\"online\":true,\"since\":18446744073709551615,\"version\":\"1\u{202e}2\u{200b}\u{5bb6}\",\"epoch\":1}";
    say(&world, &odd, turned);
    say(&world, &loud, &plain(r#""0.1.0""#, "[]"));
    let all = json!([
        "333.hula.atlas",
        "444.hula.atlas",
        "555.hula.atlas",
        "666.hula.atlas"
    ]);
    wait_until("four devices", CEILING, || {
        let listed = names(&world, &controller);
        if listed == all {
            Ok(())
        } else {
            Err(listed.to_string())
        }
    });
    let entry = world.listed(&controller, &old).unwrap();
    let expected = json!({"device": "333.hula.atlas", "online": true, "since": 1_795_305_600, "lost": false,
        "version": "0.1.0", "proxy": null, "controllers": []});
    assert_eq!(entry, expected);
    let entry = world.listed(&controller, &new).unwrap();
    assert_eq!(entry["proxy"], "proxy.example.org:2222");
    assert_eq!(entry["controllers"], json!(["controller-a"]));
    let table = world.run_as(&controller, &["list"]).success().stdout;
    let line = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{table}")).to_owned()
    };
    assert!(
        line("333").ends_with("2026-11-22 00:00:00Z     0.1.0"),
        "{table}"
    );
    assert!(
        line("444").ends_with("0.2.0    proxy.example.org:2222  controller-a"),
        "{table}"
    );
    assert!(
        line("555").ends_with("online   ?                        1?2??"),
        "{table}"
    );
    assert!(table.is_ascii(), "{table}");

    // Outside of the rules: it is not listed, and does nothing to whoever looks on.
    let mut watch = Command::new(e2e::tunnel_binary());
    watch
        .env("TUNNEL_DIR", controller.dir())
        .args(["list", "--watch"]);
    let screen = Screen::start(&world, "watch", (100, 12), &watch);
    let before = screen.wait_until("a whole picture", is_whole);
    let crowd: Vec<String> = (0..65).map(|n| format!("controller-{n}")).collect();
    let huge = vec!["c"; 3000];
    for (what, payload) in [
        ("escapes", plain(r#""\u001b[2J\u001b]0;owned\u0007""#, "[]")),
        ("raw escapes", plain("\"\u{1b}[2J\"", "[]")),
        ("a crowd", plain(r#""0.1.0""#, &json!(crowd).to_string())),
        ("a huge list", plain(r#""0.1.0""#, &json!(huge).to_string())),
        (
            "a name with an escape",
            plain(r#""0.1.0""#, r#"["controller-\u001b[2J"]"#),
        ),
        ("a deep list", plain(r#""0.1.0""#, &"[".repeat(6000))),
        ("noise", "\u{1b}[2J".to_owned()),
    ] {
        say(&world, &loud, &payload);
        let outcome = world.run_as(&controller, &["list", "-v"]).success();
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!said.contains(['\u{1b}', '\u{7}']), "{what}: {said:?}");
        assert!(
            said.contains("a presence that cannot be read"),
            "{what}: {said}"
        );
        assert!(outcome.stdout.contains("333.hula.atlas"), "{what}: {said}");
        assert!(!outcome.stdout.contains("666.hula.atlas"), "{what}: {said}");
    }
    // Whoever looks on sees the others as they were, and it too as soon as it says something that can be read.
    screen.wait_for("3 of 3 online");
    say(&world, &loud, &plain(r#""0.3.0""#, r#"["controller-b"]"#));
    let after = screen.wait_until("a whole picture again", |shown| {
        is_whole(shown) && shown.contains("controller-b")
    });
    let others = |shown: &str| -> Vec<String> {
        let lines = shown.lines().filter(|line| !line.starts_with("666"));
        lines.map(|line| line.trim_end().to_owned()).collect()
    };
    assert_eq!(others(&after), others(&before));
    screen.press("C-c");
    assert_eq!(screen.wait(), 0);
}

/// All four, down to the last line.
fn is_whole(shown: &str) -> bool {
    shown.contains("4 of 4 online") && shown.contains("Ctrl-C ends")
}

/// An online presence with these values.
fn plain(version: &str, controllers: &str) -> String {
    format!(
        r#"{{"v":1,"online":true,"since":1795305600,"version":{version},"epoch":1,"controllers":{controllers}}}"#
    )
}

/// Has a device say this of itself.
#[track_caller]
fn say(world: &World, device: &Device, payload: &str) {
    let mut publish = Mosquitto::client("mosquitto_pub", world, device, &device.id());
    let topic = format!("atlas/hula/{}/tunnel/presence", device.device());
    publish.args(["-q", "1", "-r", "-t", &topic, "-m", payload]);
    run(&mut publish, CEILING).success();
}

fn names(world: &World, controller: &Device) -> Value {
    let listed = world.run_as(controller, &["list", "--json"]).success();
    let devices: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    devices
        .iter()
        .map(|entry| entry["device"].clone())
        .collect()
}

//! Clients that we did not write, each as a device and as a controller of a realm as it is built: they connect, subscribe
//! to what is theirs, publish what is theirs, see what is retained, and the will of the one that is killed.
//!
//! The scripts beside this file speak with the test in lines. In: `subscribe FILTER`, `publish TOPIC RETAIN TEXT`. Out:
//! `connected CODE`, `subscribed QOS`, `published`, `message TOPIC QOS RETAIN TEXT`.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use e2e::{CEILING, Device, Mosquitto, Packages, run, tool, wait_until};

use super::realm::{CONTROL, ORDER, PRESENCE, PRESENCES, Realm};

#[test]
fn paho_mqtt() {
    play(Library::Paho);
}

#[test]
fn the_aws_iot_device_sdk() {
    play(Library::AwsIot);
}

#[test]
fn mqtt_js() {
    play(Library::MqttJs);
}

/// `mosquitto_pub` and `mosquitto_sub`: each is one connection for one thing, and a client id has only one of them.
#[test]
fn mosquitto_pub_and_mosquitto_sub() {
    let realm = Realm::start();
    let publish = |device: &Device, words: &[&str]| {
        let mut command = Mosquitto::client("mosquitto_pub", &realm.world, device, &device.id());
        run(command.args(["-q", "1"]).args(words), CEILING)
    };
    let subscribe = |name: &str, device: &Device, words: &[&str]| {
        let mut command = Mosquitto::client("mosquitto_sub", &realm.world, device, &device.id());
        command
            .args(["-q", "1", "-F", "message %t %q %r %p"])
            .args(words);
        realm.world.daemon(name, &mut command)
    };
    publish(&realm.device, &["-r", "-t", PRESENCE, "-m", "online"]).success();
    let mut controller = subscribe("controller", &realm.controller, &["-t", PRESENCES]);
    controller.wait_for_line(&format!("message {PRESENCE} 1 1 online"));
    let will = [
        "--will-topic",
        PRESENCE,
        "--will-payload",
        "gone",
        "--will-qos",
        "1",
    ];
    let words = [&["-t", CONTROL, "--will-retain"][..], &will].concat();
    let device = subscribe("device", &realm.device, &words);
    let order = ORDER.replace("controller-a", "controller-b");
    // It does not say when it is subscribed, so the order is repeated until then.
    wait_until("the order to come", CEILING, || {
        publish(&realm.other, &["-t", &order, "-m", "order"]).success();
        let heard = device.stdout();
        if heard.contains(&format!("message {order} 1 0 order")) {
            Ok(())
        } else {
            Err(heard)
        }
    });
    // What is another's ends the connection, and the program says so.
    let refused = publish(&realm.other, &["-t", PRESENCE, "-m", "forged"]);
    assert_ne!(refused.code, Some(0), "{}", refused.report());
    device.kill();
    controller.wait_for_line(&format!("message {PRESENCE} 1 0 gone"));
    let mut late = subscribe("late", &realm.other, &["-t", PRESENCES]);
    late.wait_for_line(&format!("message {PRESENCE} 1 1 gone"));
    assert!(!controller.stdout().contains("forged"));
}

/// A device and two controllers, all with this library.
fn play(library: Library) {
    let realm = Realm::start();
    let will = Some((PRESENCE, "gone"));
    let mut device = Foreign::start(library, &realm, &realm.device, will);
    device.say(&format!("subscribe {CONTROL}"));
    device.hear("subscribed 1");
    device.say(&format!("publish {PRESENCE} 1 online"));
    device.hear("published");
    let mut controller = Foreign::start(library, &realm, &realm.controller, None);
    controller.say(&format!("subscribe {PRESENCES}"));
    controller.hear("subscribed 1");
    controller.hear(&format!("message {PRESENCE} 1 1 online"));
    controller.say(&format!("publish {ORDER} 0 order"));
    controller.hear("published");
    device.hear(&format!("message {ORDER} 1 0 order"));
    device.kill();
    controller.hear(&format!("message {PRESENCE} 1 0 gone"));
    let mut late = Foreign::start(library, &realm, &realm.other, None);
    late.say(&format!("subscribe {PRESENCES}"));
    late.hear(&format!("message {PRESENCE} 1 1 gone"));
    controller.leave();
    late.leave();
}

#[derive(Clone, Copy, Debug)]
enum Library {
    Paho,
    AwsIot,
    MqttJs,
}

impl Library {
    /// Its script, and what runs it.
    #[track_caller]
    fn command(self) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/foreign");
        let python = |script: &str| {
            let mut command = Command::new(Packages::MqttPython.folder().join("bin/python"));
            command.arg(scripts.join(script));
            command
        };
        match self {
            Self::Paho => python("with_paho.py"),
            Self::AwsIot => python("with_awsiot.py"),
            Self::MqttJs => {
                let mut command = Command::new(tool("node"));
                command.env(
                    "NODE_PATH",
                    Packages::MqttNode.folder().join("node_modules"),
                );
                command.arg(scripts.join("with_mqttjs.js"));
                command
            }
        }
    }
}

/// A running script. Dropping it kills it.
struct Foreign {
    child: Child,
    input: Option<ChildStdin>,
    output: PathBuf,
    errors: PathBuf,
}

impl Foreign {
    /// Starts it, and returns when it is connected.
    #[track_caller]
    fn start(library: Library, realm: &Realm, device: &Device, will: Option<(&str, &str)>) -> Self {
        let file = |stream: &str| {
            let name = format!("{library:?}-{}.{stream}", device.device());
            realm.world.logs().join(name)
        };
        let (output, errors) = (file("stdout"), file("stderr"));
        let (will_topic, will_text) = will.unwrap_or_default();
        let mut command = library.command();
        realm.world.mark(&mut command);
        command
            .args(["127.0.0.1", &realm.world.broker_port().to_string()])
            .arg(realm.world.realm().join("ca/ca.cert"))
            .arg(device.certificate())
            .arg(device.tls_key())
            .args([&device.id(), will_topic, will_text])
            .stdin(Stdio::piped())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(&errors).unwrap());
        let mut child = command.spawn().unwrap();
        let foreign = Self {
            input: child.stdin.take(),
            child,
            output,
            errors,
        };
        foreign.hear("connected 0");
        foreign
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_ref().unwrap(), "{line}").unwrap();
    }

    /// Waits for a line.
    #[track_caller]
    fn hear(&self, line: &str) {
        wait_until(&format!("`{line}`"), CEILING, || {
            let output = fs::read_to_string(&self.output).unwrap();
            if output.lines().any(|said| said == line) {
                return Ok(());
            }
            Err(output + &fs::read_to_string(&self.errors).unwrap())
        });
    }

    /// Ends it as a crash does.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Lets it say goodbye.
    #[track_caller]
    fn leave(mut self) {
        drop(self.input.take());
        let status = wait_until("the script to end", CEILING, || {
            self.child.try_wait().unwrap().ok_or_else(String::new)
        });
        let errors = fs::read_to_string(&self.errors).unwrap();
        assert!(status.success(), "{status}: {errors}");
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

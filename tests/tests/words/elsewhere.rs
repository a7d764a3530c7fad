//! What is said when it is not the files: a proxy with another key or other keys, a registry at GitHub, a strange home.

use std::fs;
use std::os::unix::net::UnixListener;

use e2e::World;

use super::book::Book;
use super::breaking::Break;
use super::errors::settings;

#[test]
fn a_controller_in_a_strange_place() {
    let world = World::new();
    let controller = world.enroll_alone("hula", "controller-a");
    let mut book = Book::of(&world);
    let typed = |words: &[&str]| world.tunnel_as(&controller, words);
    let own = controller.dir().join("realm.toml");
    let connect = ["connect", "--port", "61000", "you@333", "--", "true"];
    let others = "host_keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZcumSzPm+oqEHLFSDpKTZ33xfjD8EtBE9lulkjrcxm\"] # [";
    let sent = world.realm().join("registry");
    {
        let _proxy = world.proxy();
        let other = Break::edit(&own, "host_keys = [", others);
        book.with("a proxy with another key", other, &mut typed(&connect));
    }
    fs::rename(&sent, world.path("aside")).unwrap();
    fs::create_dir(&sent).unwrap();
    {
        let _proxy = world.proxy();
        book.with(
            "a proxy that has no keys",
            Break::nothing(),
            &mut typed(&connect),
        );
    }
    fs::remove_dir(&sent).unwrap();
    fs::rename(world.path("aside"), &sent).unwrap();

    let text = fs::read_to_string(&own).unwrap();
    let (before, _) = text.split_once("[registry]").unwrap();
    let at_github = format!("{before}[registry]\ngithub = \"octo/atlas\"\n");
    for words in [&["registry", "login"][..], &["registry", "delete", "first"]] {
        let at_github = Break::to(&own, at_github.as_bytes());
        book.with("a registry at GitHub", at_github, &mut typed(words));
    }
    let title = format!("{}.hula.atlas.sshkey.pub", "x".repeat(300));
    let long = ["registry", "show", &title];
    book.with("a long title", Break::nothing(), &mut typed(&long));

    let strange = world.path("a${b}");
    fs::create_dir(&strange).unwrap();
    for file in ["realm.toml", "device.toml"] {
        fs::copy(controller.dir().join(file), strange.join(file)).unwrap();
    }
    let mut print = typed(&["ssh-config"]);
    book.with(
        "a folder that ssh would read otherwise",
        Break::nothing(),
        print.env("TUNNEL_DIR", strange),
    );
    let mut install = typed(&["ssh-config", "--install"]);
    book.with(
        "a home that is a file",
        Break::nothing(),
        install.env("HOME", &own),
    );
    let socket = world.path("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    let pass = ["fdpass", &socket.to_string_lossy()].map(str::to_owned);
    let pass: Vec<&str> = pass.iter().map(String::as_str).collect();
    book.with(
        "no ssh that takes a stream",
        Break::nothing(),
        &mut typed(&pass),
    );

    let list = world.realm().join("ca/crl.pem");
    let mut revoke = world.tunnel();
    revoke.args(["signer", "revoke", &controller.id(), "--dir"]);
    let broken = Break::to(&list, b"nothing\n");
    book.with("a list that is none", broken, revoke.arg(world.realm()));
    settings().bind(|| insta::assert_snapshot!("a-controller-in-a-strange-place", book.text()));
}

//! The shape of the workspace: which crate may know which, and what every one of them has.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what is wrong in a test ends the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

/// Each member, and those that it may depend on. A new member has to be entered here.
const MAY_USE: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("policies", &[]),
    ("daemon", &["policies", "protocol"]),
    ("enrollment", LIBRARIES),
    ("shell", LIBRARIES),
    ("agent", LIBRARIES),
    ("broker", LIBRARIES),
    ("controller", LIBRARIES),
    // Key sync reads the registry.
    ("proxy", WITH_REGISTRY),
    // It takes requests from the registry, and puts certificates there.
    ("signer", WITH_REGISTRY),
    (
        "cli",
        &[
            "agent",
            "broker",
            "controller",
            "daemon",
            "enrollment",
            "policies",
            "protocol",
            "proxy",
            "shell",
            "signer",
        ],
    ),
    // The end-to-end tests drive the binary and speak to it as strangers do.
    ("e2e", &[]),
    ("xtask", &["e2e"]),
    ("russh-util", &[]),
];

const LIBRARIES: &[&str] = &["daemon", "policies", "protocol"];
const WITH_REGISTRY: &[&str] = &["daemon", "enrollment", "policies", "protocol"];

/// What the pure crates must not have anywhere beneath them.
const IMPURE: &[&str] = &[
    "mio", "ring", "rumqttc", "rumqttd", "russh", "rustix", "rustls", "socket2", "tokio",
];

/// Names that say nothing of what is inside.
const DRAWERS: &[&str] = &[
    "common", "helper", "helpers", "manager", "misc", "util", "utils",
];

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let metadata = metadata();
    let members = members(&metadata);
    let allowed: BTreeMap<&str, BTreeSet<&str>> = MAY_USE
        .iter()
        .map(|(member, uses)| (*member, uses.iter().copied().collect()))
        .collect();
    let names: BTreeSet<&str> = members.keys().copied().collect();
    assert_eq!(
        names,
        allowed.keys().copied().collect(),
        "the members that the rules know"
    );
    for (name, package) in &members {
        let uses: BTreeSet<&str> = package
            .dependencies
            .iter()
            .map(|dependency| dependency.name.as_str())
            .filter(|dependency| names.contains(dependency))
            .collect();
        let forbidden: Vec<_> = uses.difference(&allowed[name]).collect();
        assert!(
            forbidden.is_empty(),
            "`{name}` may not depend on {forbidden:?}"
        );
    }
}

#[test]
fn only_the_binary_depends_on_all() {
    let metadata = metadata();
    let members = members(&metadata);
    let uses: BTreeSet<&str> = members["cli"]
        .dependencies
        .iter()
        .map(|dependency| dependency.name.as_str())
        .filter(|dependency| members.contains_key(dependency))
        .collect();
    let expected = MAY_USE.iter().find(|(name, _)| *name == "cli").unwrap().1;
    assert_eq!(uses, expected.iter().copied().collect());
}

#[test]
fn pure_crates_have_no_runtime_no_network_and_no_keys() {
    let metadata = metadata();
    for name in ["protocol", "policies"] {
        let beneath = beneath(&metadata, name);
        assert!(
            beneath.contains("serde_json"),
            "`{name}` was walked: {beneath:?}"
        );
        let found: Vec<_> = IMPURE
            .iter()
            .filter(|impure| beneath.contains(**impure))
            .collect();
        assert!(found.is_empty(), "`{name}` has {found:?} beneath it");
    }
    // That the walk would have found them.
    let daemon = beneath(&metadata, "daemon");
    for impure in ["rumqttc", "russh", "rustls", "tokio"] {
        assert!(daemon.contains(impure), "`daemon` without `{impure}`");
    }
}

/// Without it each packet's memory comes from the kernel anew: docs/decisions/0025-packets-of-64-kib.md.
#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn the_allocator_is_built_with_the_settings_of_this_workspace() {
    let config = std::fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
    let line = config
        .lines()
        .find_map(|line| line.strip_prefix("JEMALLOC_SYS_WITH_MALLOC_CONF = "));
    let setting = line.unwrap().trim_matches('"');
    // The allocator tells at the end how it was built.
    let told = Command::new(e2e::tunnel_binary())
        .arg("--version")
        .env("_RJEM_MALLOC_CONF", "stats_print:true")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stderr);
    let built = format!("config.malloc_conf: \"background_thread:true,{setting}\"");
    assert!(told.contains(&built), "`{built}` is not in:\n{told}");
}

#[test]
fn russh_is_built_with_the_russh_util_of_this_workspace() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let mut seen = 0;
    for node in &resolve.nodes {
        if metadata[&node.id].name.as_str() != "russh" {
            continue;
        }
        let utils = node.deps.iter().filter(|dep| dep.name == "russh_util");
        for util in utils {
            let package = &metadata[&util.pkg];
            // Where the patch is not used, it is the published one.
            assert!(
                package.source.is_none()
                    && package
                        .manifest_path
                        .ends_with("patches/russh-util/Cargo.toml"),
                "russh is built with {}",
                package.id
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 1, "russh and its russh-util");
}

#[test]
fn one_cryptography_library_is_linked_for_tls() {
    let linked = linked("cli");
    assert!(linked.contains("ring"), "the tree was read: {linked:?}");
    for banned in [
        "aws-lc-rs",
        "aws-lc-sys",
        "native-tls",
        "openssl",
        "openssl-sys",
    ] {
        assert!(
            !linked.contains(banned),
            "`{banned}` is linked into the binary"
        );
    }
}

#[test]
fn every_member_takes_lints_licence_and_version_from_the_workspace() {
    let metadata = metadata();
    for (name, package) in members(&metadata) {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let lines: Vec<&str> = manifest.lines().map(str::trim).collect();
        assert!(
            lines
                .windows(2)
                .any(|pair| pair == ["[lints]", "workspace = true"]),
            "`{name}` does not take the workspace's lints"
        );
        for inherited in ["edition", "license", "publish", "rust-version", "version"] {
            // What stands in for another crate has that one's version.
            if inherited == "version" && name == "russh-util" {
                continue;
            }
            let line = format!("{inherited}.workspace = true");
            assert!(
                lines.contains(&line.as_str()),
                "`{name}` does not take the workspace's {inherited}"
            );
        }
        assert_eq!(
            package.license.as_deref(),
            Some("Apache-2.0"),
            "licence of `{name}`"
        );
    }
    let licence = std::fs::read_to_string(root().join("LICENSE")).unwrap();
    assert!(licence.contains("Apache License") && licence.contains("Version 2.0, January 2004"));
}

#[test]
fn nothing_is_named_like_a_drawer() {
    let metadata = metadata();
    let mut seen = 0;
    for (name, package) in members(&metadata) {
        assert!(!DRAWERS.contains(&name), "crate `{name}`");
        for file in files(package.manifest_path.parent().unwrap().as_std_path(), "rs") {
            seen += 1;
            // `NAME.rs` and `NAME/mod.rs` both name a module.
            let module = |path: &Path| {
                path.file_stem()
                    .is_some_and(|stem| DRAWERS.iter().any(|drawer| stem == *drawer))
            };
            assert!(
                !module(&file) && !file.parent().is_some_and(module),
                "{}",
                file.display()
            );
        }
    }
    assert!(seen > 50, "only {seen} source files were seen");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents: Vec<PathBuf> = files(&root().join("docs"), "md");
    documents.extend(
        std::fs::read_dir(root())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
    );
    let mut links = 0;
    for document in &documents {
        let text = std::fs::read_to_string(document).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            if link.contains("://") || target.is_empty() {
                continue;
            }
            links += 1;
            let path = document.parent().unwrap().join(target);
            assert!(
                path.exists(),
                "{}: `{link}` leads nowhere",
                document.display()
            );
        }
    }
    assert!(
        links > 10,
        "only {links} links were seen in {} documents",
        documents.len()
    );
}

#[test]
fn the_map_names_every_crate_and_only_files_that_are_there() {
    let metadata = metadata();
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (_, package) in members(&metadata) {
        let folder = package.manifest_path.parent().unwrap();
        let folder = folder.file_name().unwrap();
        assert!(
            map.contains(&format!("`{folder}/`")),
            "ARCHITECTURE.md does not name `{folder}/`"
        );
    }
    let mut named = 0;
    for word in map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/'))
    {
        if word.contains(|c: char| c.is_whitespace() || "<>*:{".contains(c)) || !word.contains('.')
        {
            continue;
        }
        named += 1;
        assert!(
            root().join(word).exists(),
            "ARCHITECTURE.md names `{word}`, which is not there"
        );
    }
    assert!(
        named > 10,
        "only {named} files were seen in ARCHITECTURE.md"
    );
}

#[test]
fn every_test_that_a_claim_names_is_there() {
    let metadata = metadata();
    let members = members(&metadata);
    let claims = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let mut named = 0;
    for path in claims
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains("::"))
    {
        let mut modules: Vec<&str> = path.split("::").collect();
        let (member, test) = (modules.remove(0), modules.pop().unwrap());
        let folder = members[member].manifest_path.parent().unwrap();
        let head = format!("fn {test}(");
        let is_there = |file: &PathBuf| {
            std::fs::read_to_string(file).unwrap().contains(&head)
                && stands_for(file.strip_prefix(folder).unwrap(), &modules)
        };
        assert!(
            files(folder.as_std_path(), "rs").iter().any(is_there),
            "SECURITY.md names `{path}`, which is not there"
        );
        named += 1;
    }
    assert!(named > 5, "only {named} tests are named in SECURITY.md");
}

/// Whether this file of a member is that of the modules, or has the last of them, `tests`, inside.
fn stands_for(file: &Path, modules: &[&str]) -> bool {
    let file = file.with_extension("");
    let mut parts: Vec<&str> = file.iter().map(|part| part.to_str().unwrap()).collect();
    let mut modules = modules.to_vec();
    for path in [&mut parts, &mut modules] {
        if matches!(path.last(), Some(&"main" | &"mod" | &"tests")) {
            path.pop();
        }
    }
    parts.ends_with(&modules)
}

#[test]
fn a_test_is_looked_for_in_the_file_of_its_path() {
    let file = |path: &'static str| Path::new(path);
    assert!(stands_for(file("tests/it/limits.rs"), &["limits"]));
    assert!(stands_for(file("src/store.rs"), &["store", "tests"]));
    assert!(stands_for(file("src/store/tests.rs"), &["store", "tests"]));
    assert!(stands_for(file("tests/tests/words/mod.rs"), &["words"]));
    assert!(!stands_for(file("tests/it/doorway.rs"), &["limits"]));
    assert!(!stands_for(file("tests/limits/it.rs"), &["limits"]));
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".to_owned()])
        .exec()
        .unwrap()
}

fn members(metadata: &Metadata) -> BTreeMap<&str, &Package> {
    let members: BTreeMap<&str, &Package> = metadata
        .workspace_packages()
        .into_iter()
        .map(|package| (package.name.as_str(), package))
        .collect();
    assert!(members.len() >= MAY_USE.len(), "found {:?}", members.keys());
    members
}

/// The names of all packages that are built for this member, but for its own tests.
fn beneath<'a>(metadata: &'a Metadata, member: &str) -> BTreeSet<&'a str> {
    let resolve = metadata.resolve.as_ref().unwrap();
    let nodes: BTreeMap<&PackageId, _> =
        resolve.nodes.iter().map(|node| (&node.id, node)).collect();
    let mut open = vec![&members(metadata)[member].id];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) {
            let built = nodes[id].deps.iter().filter(|dependency| {
                let kinds = &dependency.dep_kinds;
                kinds
                    .iter()
                    .any(|kind| kind.kind != DependencyKind::Development)
            });
            open.extend(built.map(|dependency| &dependency.pkg));
        }
    }
    seen.into_iter()
        .map(|id| metadata[id].name.as_str())
        .collect()
}

/// All packages that are built for a member, on any target. The metadata names more: for it, a weak feature such as
/// `reqwest?/rustls` brings in `reqwest`.
fn linked(member: &str) -> BTreeSet<String> {
    let output = e2e::cargo()
        .args(["tree", "--locked", "--package", member])
        .args(["--edges", "normal,build", "--target", "all"])
        .args(["--prefix", "none", "--format", "{p}"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split_whitespace().next()?.to_owned()))
        .collect()
}

/// All files with this extension beneath a folder.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

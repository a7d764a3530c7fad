//! The pages for people, typed as they stand there: README.md and docs/.
//!
//! A block of type `console` is run in the order of its page, each line on the computer that its prompt names: `server$`,
//! `remote#`, `laptop$`, or `$` for whoever reads. What is shown below a command is what it has to say; `…` and numbers may
//! differ. A page goes on where another has ended when it says `<!-- after: README.md -->`. A block that cannot be run here
//! has `<!-- not run: the reason -->` above it.

pub(crate) mod block;
mod coverage;
mod shape;
mod story;
mod town;

use story::tell;

#[test]
fn readme() {
    tell("README.md");
}

#[test]
fn connecting() {
    tell("docs/connecting.md");
}

#[test]
fn doctor() {
    tell("docs/doctor.md");
}

#[test]
fn looking() {
    tell("docs/looking.md");
}

#[test]
fn migrating() {
    tell("docs/migrating.md");
}

#[test]
fn operations() {
    tell("docs/operations.md");
}

#[test]
fn proxy() {
    tell("docs/proxy.md");
}

#[test]
fn realm_admin() {
    tell("docs/realm-admin.md");
}

#[test]
fn running_an_agent() {
    tell("docs/running-an-agent.md");
}

/// The pages that are told by a test of their own above; but for one, whose machines are those of `packaging`.
const TOLD: &[&str] = &[
    "README.md",
    "docs/connecting.md",
    "docs/doctor.md",
    "docs/installing.md",
    "docs/looking.md",
    "docs/migrating.md",
    "docs/operations.md",
    "docs/proxy.md",
    "docs/realm-admin.md",
    "docs/running-an-agent.md",
];

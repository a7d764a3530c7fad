//! What the administrator reads when AWS does not do what the signer wants.

use e2e::aws::AwsTrouble;
use e2e::{CEILING, Outcome, SilentServer, run};

use super::aws_stage::AwsStage;

#[track_caller]
fn assert_fails(outcome: &Outcome, code: i32, error: &str, hint: &str) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.report());
    assert_eq!(outcome.lines("error"), [error], "{}", outcome.report());
    assert!(
        outcome.lines("hint").iter().any(|line| line.contains(hint)),
        "{}",
        outcome.report()
    );
}

#[test]
fn without_region_or_credentials_nothing_begins() {
    let stage = AwsStage::new();
    let device = stage.hand_in("333");
    let bare = |command: &[&str]| {
        let mut bare = stage.world.tunnel();
        bare.env("AWS_EC2_METADATA_DISABLED", "true")
            .args(command)
            .arg("--dir")
            .arg(stage.world.realm());
        bare
    };
    for command in [
        &["signer", "run", "--once"][..],
        &["signer", "run"],
        &["signer", "list"],
    ] {
        let outcome = run(&mut bare(command), CEILING);
        assert_fails(
            &outcome,
            78,
            "there are no AWS credentials",
            "`AWS_PROFILE`",
        );
    }
    // The metadata of an instance that does not answer do not hold it up for long.
    let silent = SilentServer::start();
    let mut slow = bare(&["signer", "run", "--once"]);
    slow.env("AWS_EC2_METADATA_DISABLED", "false").env(
        "AWS_EC2_METADATA_SERVICE_ENDPOINT",
        format!("http://{}", silent.address()),
    );
    assert_fails(
        &run(&mut slow, CEILING),
        78,
        "there are no AWS credentials",
        "`AWS_PROFILE`",
    );
    assert_eq!(stage.certificates(&device.id()), []);

    let table = stage.aws.table().replace("region = \"eu-west-1\"\n", "");
    stage.write_server(&table);
    let mut command = stage.signer(&["run", "--once"]);
    command.env("AWS_EC2_METADATA_DISABLED", "true");
    let unknown = "it is not known which AWS region the realm is in";
    assert_fails(
        &run(&mut command, CEILING),
        78,
        unknown,
        "`region` of `[signer.aws]`",
    );
    // From the environment, and from a profile with its keys.
    command.env("AWS_REGION", "eu-west-1");
    run(&mut command, CEILING).success();
    let home = stage.world.path("home");
    std::fs::create_dir(home.join(".aws")).unwrap();
    std::fs::write(
        home.join(".aws/config"),
        "[profile field]\nregion = eu-west-1\n",
    )
    .unwrap();
    let keys =
        "[field]\naws_access_key_id = a\naws_secret_access_key = canary/wJalrXUtnFEMI+K7MDENG\n";
    std::fs::write(home.join(".aws/credentials"), keys).unwrap();
    stage.hand_in("334");
    let mut profile = bare(&["signer", "run", "--once"]);
    let outcome = run(profile.env("AWS_PROFILE", "field"), CEILING).success();
    assert!(
        outcome.stdout.contains("334.hula.atlas.x509.csr: signed"),
        "{}",
        outcome.report()
    );
}

#[test]
fn what_is_wrong_is_said_and_mended_later() {
    let stage = AwsStage::new();
    let device = stage.hand_in("333");
    let failing = |said: &[&str]| {
        let outcome = stage.sign_once();
        assert_eq!(outcome.code, Some(1), "{}", outcome.report());
        for said in said {
            assert!(
                outcome.stderr.contains(said),
                "{said}: {}",
                outcome.report()
            );
        }
        assert!(!outcome.report().contains("canary"), "{}", outcome.report());
        let held = stage.certificates(&device.id());
        assert!(
            held.iter()
                .all(|certificate| certificate.status != "ACTIVE"),
            "{held:?}"
        );
    };
    stage.aws.fail(
        "POST",
        "/certificates",
        0,
        AwsTrouble::Refused(403, "AccessDeniedException"),
    );
    failing(&[
        "AWS refused `iot:CreateCertificateFromCsr` (403 AccessDeniedException)",
        "permit `iot:CreateCertificateFromCsr`",
    ]);
    stage.aws.fail(
        "POST",
        "/certificates",
        0,
        AwsTrouble::Refused(403, "UnrecognizedClientException"),
    );
    failing(&["the AWS credentials are wrong or have expired"]);
    stage.write_server(&(stage.aws.table() + "target_policy = \"field.station\"\n"));
    failing(&["there is no policy `field.station`", "tunnel policies aws"]);
    failing(&["there is no policy `field.station`"]);
    stage.aws.make_policy("field.station");
    stage.sign_once().success();
    let held = stage.certificates(&device.id());
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(
        (held[0].status.as_str(), &held[0].policies[..]),
        ("ACTIVE", &["field.station".to_owned()][..])
    );
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let stage = AwsStage::new();
    let table = stage.aws.table();
    let mut days = stage.signer(&["run", "--once", "--days", "7"]);
    assert_fails(
        &run(&mut days, CEILING),
        64,
        "AWS IoT Core decides how long its certificates are good",
        "`--days`",
    );
    stage.write_server(
        "\n[signer.aws]\nregion = \"eu-west-1\"\nendpoint = \"http://iot.example.org\"\n",
    );
    assert_fails(
        &stage.sign_once(),
        78,
        "`http://iot.example.org` is not the `https://` address of AWS IoT Core's control plane",
        "remove `endpoint`",
    );
    stage.write_server(&table);
    let file = stage.world.realm().join("realm.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("signed_by = \"aws-iot\"\n", "")).unwrap();
    let error =
        "`server.toml` has the devices signed by AWS IoT Core, and `realm.toml` does not say so";
    assert_fails(&stage.sign_once(), 78, error, "signed_by");
}

use dlt_spec::spec::{Decision, Initial, InitialName, Size};
use dlt_spec::{ExitCode, Origin, Overlay, Spec, SpecError, diff, fingerprint};

use crate::with;

fn file(text: &str) -> Result<Overlay, SpecError> {
    Overlay::from_toml(Origin::File("my.toml".into()), text)
}

fn message(result: Result<Overlay, SpecError>) -> String {
    result.expect_err("the text is wrong").to_string()
}

#[test]
fn law_the_last_layer_wins_and_the_rest_stays() {
    let layers = [
        file("[tying]\ndecide_every = 4\ndecision = \"per-layer\"").unwrap(),
        file("[tying]\ndecide_every = 7").unwrap(),
        Overlay::from_assignment("tying.decide_until=0.5").unwrap(),
    ];
    let spec = Spec::assemble(&layers).unwrap();
    assert_eq!((spec.tying.decide_every, spec.tying.decide_until), (7, 0.5));
    assert_eq!(spec.tying.decision, Decision::PerLayer);

    let changed: Vec<_> = diff(&Spec::default(), &spec).iter().map(|change| change.key).collect();
    assert_eq!(changed, ["tying.decision", "tying.decide_every", "tying.decide_until"]);
    assert_eq!(Spec::assemble(&[]).unwrap(), Spec::default());

    let empty = [file("").unwrap(), file("# nothing\n[tying]\n[model]\n").unwrap()];
    assert_eq!(Spec::assemble(&empty).unwrap(), Spec::default());
}

#[test]
fn assignments_take_toml_and_bare_words() {
    let spec = with(&[
        " tying.initial = [0, 0, 1] ",
        "model.positions=129",
        "training.steps=auto",
        "optimizer.clip_norm=inf",
        "optimizer.learning_rate=1",
        "data.split=[1, 0.5, 0]",
        "data.source=../a b=c.txt",
        "agent.recording=",
        "name=2024",
    ])
    .unwrap();
    assert_eq!(spec.tying.initial, Initial::Owners(vec![0, 0, 1]));
    assert_eq!((spec.model.positions, spec.training.steps), (Size::Fixed(129), Size::AUTO));
    assert_eq!((spec.optimizer.clip_norm, spec.optimizer.learning_rate), (f64::INFINITY, 1.0));
    assert_eq!(spec.data.split, [1.0, 0.5, 0.0]);

    assert_eq!(
        (&*spec.data.source, &*spec.agent.recording, &*spec.name),
        ("../a b=c.txt", "", "2024")
    );
    let quoted = with(&["data.source=\"x y\"", "tying.initial=\"cycle\""]).unwrap();

    assert_eq!(
        (&*quoted.data.source, quoted.tying.initial),
        ("x y", Initial::Named(InitialName::Cycle))
    );
}

#[test]
fn options_say_which_one_was_wrong() {
    let spec = Spec::assemble(&[Overlay::from_option("--steps", "training.steps", "20").unwrap()])
        .unwrap();
    assert_eq!(spec.training.steps, Size::Fixed(20));
    let wrong = message(Overlay::from_option("--seed", "seed", "-1"));
    assert!(wrong.starts_with("--seed: `seed` must be a whole number"), "{wrong}");
}

#[test]
fn rejects_an_unknown_key_with_its_origin_and_the_nearest() {
    let cases = [
        (
            file("[tying]\ndecide_evry = 4"),
            "my.toml: unknown key `tying.decide_evry`",
            "`tying.decide_every`",
        ),
        (file("[tieing]\ndecide_every = 4"), "my.toml: unknown key `tieing`", "`tying`"),
        (
            file("\"tying.decide_every\" = 4"),
            "my.toml: unknown key `tying.decide_every`",
            "`tying.decide_every`",
        ),
        (file("decide_every = 4"), "my.toml: unknown key `decide_every`", "`tying.decide_every`"),
        (
            file("[model]\ndecide_every = 4"),
            "my.toml: unknown key `model.decide_every`",
            "`tying.decide_every`",
        ),
        (
            Overlay::from_assignment("agent.epsilon_flor=0"),
            "--set agent.epsilon_flor=0: unknown key `agent.epsilon_flor`",
            "`agent.epsilon_floor`",
        ),
        (
            Overlay::from_assignment("learning_rat=1"),
            "--set learning_rat=1",
            "`optimizer.learning_rate`",
        ),
    ];

    for (result, start, nearest) in cases {
        let error = result.unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::BadSpec);

        let text = error.to_string();
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with(&format!("the nearest is {nearest}")), "{text}");
    }
}

#[test]
fn rejects_a_wrong_type_with_what_was_expected_and_what_came() {
    let cases = [
        (
            file("[model]\nlayers = \"twelve\""),
            "my.toml: `model.layers` must be a whole number from 1 to 4096; got the string \
             \"twelve\"",
        ),
        (
            file("[model]\nlayers = 1.5"),
            "`model.layers` must be a whole number from 1 to 4096; got the float 1.5",
        ),
        (file("[model]\nlayers = -1"), "; got the integer -1"),
        (file("model = 3"), "`model` must be a section; got the integer 3"),
        (
            file("[seed]\na = 1"),
            "`seed` must be a whole number of at most 9223372036854775807; got a table",
        ),
        (file("[model.layers]\na = 1"), "; got a table"),
        (file("[[model]]\nlayers = 1"), "`model` must be a section; got the array"),
        (
            file("[optimizer]\nclip_norm = true"),
            "must be a number above 0, inf allowed; got the boolean true",
        ),
        (
            file("[data]\nsource = 1"),
            "`data.source` must be text that is not empty; got the integer 1",
        ),
        (
            file("[data]\nsplit = [0.9, 0.1]"),
            "must be 3 numbers, each above 0 and below 1; got the array [0.9, 0.1]",
        ),
        (
            file("[tying]\ndecision = \"jiont\""),
            "must be \"joint\", \"per-layer\", \"split\", \"swap\", \"single\"; got the string \
             \"jiont\"; the nearest is \"joint\"",
        ),
        (
            file("[tying]\ninitial = [0, -1]"),
            "or the owner of each layer as a list; got the array [0, -1]",
        ),
        (
            Overlay::from_assignment("training.batch=many"),
            "--set training.batch=many: `training.batch` must be a whole number from 1 to \
             2147483647; got",
        ),
        (Overlay::from_assignment("training.batch="), "got the string \"\""),
        (
            Overlay::from_assignment("seed=18446744073709551615"),
            "got the string \"18446744073709551615\"",
        ),
        (Overlay::from_assignment("seed=1\nname=\"x\""), "`seed` must be"),
    ];

    for (result, part) in cases {
        let text = message(result);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn rejects_text_that_is_not_toml_with_its_place() {
    let text = message(file("name = \"a\"\n[model]\nlayers = = 3\n"));
    assert!(text.starts_with("my.toml, line 3, column 10: not valid TOML: "), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    assert!(
        message(file("seed = 1\nseed = 2"))
            .contains("line 2, column 1: not valid TOML: duplicate key")
    );
}

#[test]
fn rejects_an_assignment_without_an_equals_sign_or_key() {
    for text in ["tying.decide_every", "", "=3", " = "] {
        let error = Overlay::from_assignment(text).unwrap_err();
        assert!(error.to_string().contains("expected key=value"), "{error}");
        assert_eq!(error.exit_code(), ExitCode::Usage);
    }
}

#[test]
fn rejects_another_layout_before_its_unknown_keys() {
    assert_eq!(
        message(file("schema = 2\nfuture = 1")),
        "my.toml: schema 2, but this program reads schema 1"
    );
    assert!(file("schema = 1").is_ok());
}

#[test]
fn rejects_epochs_that_fixed_steps_would_override() {
    let error = with(&["training.steps=30", "training.epochs=3"]).unwrap_err().to_string();
    assert_eq!(
        error,
        "--set training.epochs=3: `training.epochs` has no effect while training.steps = 30; also \
         set training.steps to \"auto\""
    );
    assert!(with(&["training.steps=30", "training.epochs=3", "training.steps=auto"]).is_ok());
    assert!(with(&["training.epochs=3", "training.steps=30"]).is_ok());
    assert!(Spec::assemble(&[file("[training]\nsteps = 30\nepochs = 3").unwrap()]).is_ok());
}

#[test]
fn diff_and_fingerprint_see_every_change() {
    let a = Spec::default();
    assert!(diff(&a, &a).is_empty());
    assert_eq!(fingerprint(&a), fingerprint(&a.clone()));

    let b = with(&["agent.gamma=0.5", "seed=9"]).unwrap();
    let changes: Vec<String> = diff(&a, &b).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["`seed`: 1 became 9", "`agent.gamma`: 0.99 became 0.5"]);
    assert_ne!(fingerprint(&a), fingerprint(&b));
    assert_eq!(fingerprint(&a).len(), 16);
}

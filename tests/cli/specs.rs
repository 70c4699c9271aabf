//! `dlt spec`, and the help.

use dlt_spec::presets::{METHODS, PRESETS};
use dlt_spec::{ExitCode, Overlay, Spec, presets};

use crate::workplace::{Said, Workplace};

#[test]
fn every_preset_is_printed_in_full_and_reads_back() {
    let place = Workplace::new();

    for preset in PRESETS {
        let text = place.dlt(&["spec", preset.name()]).ok().out;
        assert_eq!(
            toml::from_str::<Spec>(&text).unwrap(),
            preset.spec().unwrap(),
            "{}",
            preset.name()
        );
        assert!(text.contains("# Paper: 15 (section 4"), "{text}");

        assert!(
            text.starts_with(&format!("# {}", preset.header().lines().next().unwrap())),
            "{text}"
        );
    }
}

#[test]
fn a_method_and_assignments_lie_over_the_preset() {
    let place = Workplace::new();
    let text = place
        .dlt(&["spec", "smoke", "--method", "reference", "--set", "tying.decide_every=9"])
        .ok()
        .out;

    let expected = Spec::assemble(&[
        presets::preset("smoke").unwrap().overlay().unwrap(),
        presets::method("reference").unwrap().overlay().unwrap(),
        Overlay::from_assignment("tying.decide_every=9").unwrap(),
    ]);
    assert_eq!(toml::from_str::<Spec>(&text).unwrap(), expected.unwrap());
}

#[test]
fn the_default_preset_is_the_main_job() {
    let place = Workplace::new();
    assert_eq!(place.dlt(&["spec"]).ok().out, place.dlt(&["spec", "shakespeare-12"]).ok().out);
}

#[test]
fn the_list_has_a_line_for_each_preset_and_method() {
    let place = Workplace::new();
    let list = place.dlt(&["spec", "--list"]).ok().out;
    for preset in PRESETS.iter().chain(METHODS) {
        let lines = list
            .lines()
            .filter(|line| line.trim_start().starts_with(&format!("{} ", preset.name())));
        assert_eq!(lines.count(), 1, "{}: {list}", preset.name());
    }
}

#[test]
fn the_help_teaches_commands_places_and_exit_codes() {
    let place = Workplace::new();
    let help = place.dlt(&["--help"]).ok().out;

    for word in [
        "train",
        "eval",
        "generate",
        "inspect",
        "spec",
        "runs/NAME-SEED",
        "DLT_CACHE",
        "--preset smoke",
    ] {
        assert!(help.contains(word), "{word} is missing in\n{help}");
    }

    for code in ExitCode::ALL {
        assert!(help.contains(code.meaning()), "{code:?} is missing in\n{help}");
    }

    for task in ["train", "eval", "generate", "inspect", "spec"] {
        let help = place.dlt(&[task, "--help"]).ok().out;
        assert!(help.contains("Examples:"), "{task}: {help}");
    }

    let version = place.dlt(&["--version"]).ok().out;
    assert!(version.starts_with(concat!("dlt ", env!("CARGO_PKG_VERSION"))), "{version}");
    for part in ["\nfeatures: figures, hub, parquet", "\nCPU: ", "\ncompiler: rustc "] {
        assert!(version.contains(part), "{part} is missing in\n{version}");
    }

    let in_f32 = Said::by(place.command(&["--version"]).env("DLT_PRODUCTS", "f32")).ok().out;
    assert!(in_f32.contains(", products of bf16 by f32\n"), "{in_f32}");

    let short = place.dlt(&["-V"]).ok().out;
    assert_eq!(Some(short.trim_end()), version.lines().next());
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_error() {
    let place = Workplace::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = place.command(&["spec"]).stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{output:?}");
}

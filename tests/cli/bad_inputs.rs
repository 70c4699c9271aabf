//! The table of bad inputs. Each one gives a message that says what is wrong and where, and the
//! right exit code.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dlt_spec::ExitCode::{self, BadData, BadSpec, Resources, Usage};

use crate::workplace::Workplace;

/// A bad input is answered at once; far more than this is a hang.
const LIMIT: Duration = Duration::from_secs(30);

/// A row: command line, exit code, and parts of the message.
type Row = (&'static str, ExitCode, &'static [&'static str]);

/// A correct start of a small run; the rows add what is wrong.
const TRAIN: &str = "train --preset smoke --steps 2";

/// The same for pictures, and for texts with classes.
const SEE: &str = "train --preset vit-cifar --steps 2";
const SORT: &str = "train --preset smoke --set model.objective=classes --steps 2";

/// In a row, `TRAIN`, `SEE`, `SORT` and `REPLAY` are replaced by the start of a small run. `TRAIN`
/// gets `--data text.txt` if the row has no `--data`.
const TABLE: &[Row] = &[
    // Specs.
    ("train gone.toml", BadSpec, &["cannot read the spec gone.toml"]),
    ("train broken.toml", BadSpec, &["broken.toml, line 2, column 7", "not valid TOML"]),
    ("train latin.toml", BadSpec, &["cannot read the spec latin.toml", "utf-8"]),
    ("train schema.toml", BadSpec, &["schema.toml: schema 99, but this program reads schema 1"]),
    (
        "train key.toml",
        BadSpec,
        &["key.toml: unknown key `tying.decide_evry`", "nearest is `tying.decide_every`"],
    ),
    ("train section.toml", BadSpec, &["unknown key `modle`", "nearest is `model`"]),
    ("train type.toml", BadSpec, &["type.toml: `model.layers` must be a whole number", "\"many\""]),
    ("train twice.toml", BadSpec, &["twice.toml, line 3", "not valid TOML", "duplicate"]),
    ("train deep.toml", BadSpec, &["deep.toml"]),
    ("train pipe.toml", BadSpec, &["pipe.toml: it is a pipe"]),
    ("train latin.txt", BadData, &["latin.txt is not UTF-8", "0xe9", "offset 3"]),
    ("train pipe", BadData, &["pipe: it is a pipe"]),
    ("train run", Usage, &["got a run folder", "--resume run to continue it"]),
    ("train text.txt short.txt", Usage, &["data may be named once, got text.txt and short.txt"]),
    // Assignments.
    ("TRAIN --set model.layers", Usage, &["--set model.layers: expected key=value"]),
    ("TRAIN --set =3", Usage, &["expected key=value"]),
    ("TRAIN --set model.layers=0", BadSpec, &["`model.layers` is 0", "from 1 to 4096"]),
    ("TRAIN --set model.layers=-1", BadSpec, &["`model.layers` must be a whole number", "-1"]),
    ("TRAIN --set model.layers=2.5", BadSpec, &["`model.layers` must be a whole number", "2.5"]),
    ("TRAIN --set model.layers=5000", BadSpec, &["`model.layers` is 5000"]),
    ("TRAIN --set model.heads=5", BadSpec, &["`model.heads` is 5", "divisor of model.width = 32"]),
    ("TRAIN --set model.positions=3", BadSpec, &["at least model.context = 32"]),
    (
        "TRAIN --set model.vocabulary=7",
        BadSpec,
        &["model.vocabulary: expected at least the tokenizer's 50257"],
    ),
    ("TRAIN --set model.dropout=1", BadSpec, &["`model.dropout` is 1.0", "below 1"]),
    ("TRAIN --set model.width=99999999999999", BadSpec, &["`model.width`"]),
    (
        "TRAIN --set model.width=1000000",
        Resources,
        &["memory: the next steps take about", "the model itself is too large"],
    ),
    ("TRAIN --set seed=99999999999999999999", BadSpec, &["`seed` must be a whole number"]),
    ("TRAIN --set optimizer.learning_rate=nan", BadSpec, &["`optimizer.learning_rate` is nan"]),
    ("TRAIN --set optimizer.learning_rate=0", BadSpec, &["above 0, finite"]),
    ("TRAIN --set optimizer.beta1=1.0", BadSpec, &["`optimizer.beta1` is 1.0"]),
    ("TRAIN --set optimizer.schedule=linear", BadSpec, &["\"constant\", \"cosine\"", "nearest"]),
    ("TRAIN --set data.split=[0.5,0.5]", BadSpec, &["`data.split` must be 3 numbers"]),
    ("TRAIN --set data.split=[0.5,0.4,0.4]", BadSpec, &["whose sum is 1, not 1.3"]),
    ("TRAIN --set tying.initial=[0,2,0]", BadSpec, &["entry 1 is 2: expected at most 1"]),
    ("TRAIN --set tying.initial=[0,0]", BadSpec, &["expected 3 layers, got 2"]),
    ("TRAIN --set tying.unit=half", BadSpec, &["`tying.unit`", "\"attention\", \"feed-forward\""]),
    ("TRAIN --set tying.own=gains", BadSpec, &["`tying.own`", "\"norms\", \"scales\", \"biases\""]),
    ("TRAIN --set tying.exempt=[3]", BadSpec, &["layers from 0 to 2: model.layers is 3"]),
    ("TRAIN --set tying.exempt=[0,1,2]", BadSpec, &["two or more must be left to be tied"]),
    (
        "TRAIN --set tying.state_vector=raw",
        BadSpec,
        &["\"canonical\" unless tying.decision is \"per-layer\""],
    ),
    ("TRAIN --set agent.policy=fixed", BadSpec, &["`agent.pattern`", "other than \"frozen\""]),
    ("TRAIN --set agent.recording=x", BadSpec, &["empty unless agent.policy is \"replay\""]),
    (
        "TRAIN --set training.epochs=3",
        BadSpec,
        &["`training.epochs` has no effect while training.steps = 2"],
    ),
    ("TRAIN --set training.micro_batch=3", BadSpec, &["divisor of training.batch = 4"]),
    ("TRAIN --set training.non_finite=maybe", BadSpec, &["\"stop\", \"skip\""]),
    (
        "TRAIN --set training.activations=f16",
        BadSpec,
        &["`training.activations`", "\"f32\", \"bf16\""],
    ),
    (
        "TRAIN --set training.products=tf32",
        BadSpec,
        &["`training.products`", "\"f32\", \"bf16x3\""],
    ),
    (
        "TRAIN --dtype bf16 --set training.products=bf16x3",
        BadSpec,
        &["`training.products` is \"bf16x3\"", "which has no f32 matrices"],
    ),
    ("TRAIN --dtype f16", Usage, &["'--dtype <FORMAT>'", "possible values: f32, bf16"]),
    ("TRAIN --set checkpoint.keep_last=0", BadSpec, &["`checkpoint.keep_last` is 0"]),
    ("TRAIN --set checkpoint.every_steps=0", BadSpec, &["`checkpoint.every_steps` is 0"]),
    ("TRAIN --set checkpoint.every_minutes=-1", BadSpec, &["`checkpoint.every_minutes` is -1.0"]),
    ("TRAIN --set name=../up", BadSpec, &["`name` is \"../up\"", "letters, digits"]),
    ("TRAIN --set name=.hidden", BadSpec, &["not starting with a dot"]),
    (
        "TRAIN --set evaluation.select_on=test",
        BadSpec,
        &["\"validation\", \"validation-and-test\""],
    ),
    // Data.
    ("TRAIN --data gone.txt", BadData, &["no text at \"gone.txt\"", "shakespeare"]),
    ("TRAIN --data empty.txt", BadData, &["empty.txt holds no text"]),
    ("TRAIN --data latin.txt", BadData, &["latin.txt is not UTF-8", "0xe9", "offset 3"]),
    ("TRAIN --data short.txt", BadData, &["short.txt has", "but one window", "takes 33"]),
    ("TRAIN --data images", BadData, &["no text files in images", ".txt"]),
    (
        "TRAIN --data halves",
        BadData,
        &["halves has no file for the train split, only test.txt, valid.txt"],
    ),
    (
        "TRAIN --data doubles",
        BadData,
        &["\"train.raw\" and \"train.txt\" are one text in two forms"],
    ),
    ("TRAIN --data dangling", BadData, &["no text at \"dangling\""]),
    ("TRAIN --data circle", BadData, &["cannot read circle"]),
    ("TRAIN --data pipe", BadData, &["pipe: it is a pipe"]),
    ("TRAIN --data piped", BadData, &["piped/train.jsonl: it is a pipe, expected a file"]),
    (
        "TRAIN --data leading",
        BadData,
        &["leading/train.txt: it is a link to gone, which does not exist"],
    ),
    ("SEE --data pipe", BadData, &["pipe: it is a pipe, expected a file or a folder"]),
    ("SEE --data seen", BadData, &["seen/data_batch_1.bin: it is a pipe, expected a file"]),
    ("SEE --data half", BadData, &["half/test_batch.bin: it is a pipe, expected a file"]),
    (
        "SEE --data seen/data_batch_1.bin",
        BadData,
        &["data_batch_1.bin: it is a pipe, expected a file or a folder"],
    ),
    ("SORT --data pipe", BadData, &["pipe: it is a pipe, expected a file or a folder"]),
    ("SORT --data piped", BadData, &["piped/train.jsonl: it is a pipe, expected a file"]),
    ("SORT --data told", BadData, &["told/train.tsv: it is a pipe, expected a file"]),
    ("TRAIN --data /dev/zero", BadData, &["/dev/zero: it is a device"]),
    (
        "TRAIN --data text.txt --set training.batch=99999",
        BadData,
        &["a batch of 99999 windows cannot be drawn"],
    ),
    // Tokenizers.
    (
        "TRAIN --set data.tokenizer=gone.json",
        BadData,
        &["cannot use the tokenizer \"gone.json\"", "No such file"],
    ),
    (
        "TRAIN --set data.tokenizer=broken.json",
        BadData,
        &["cannot use the tokenizer \"broken.json\""],
    ),
    ("TRAIN --set data.tokenizer=text.txt", BadData, &["cannot use the tokenizer \"text.txt\""]),
    ("TRAIN --set data.tokenizer=hollow.json", BadData, &["hollow.json", "`vocab` is empty"]),
    ("TRAIN --set data.tokenizer=pipe", BadData, &["\"pipe\": it is a pipe"]),
    // Recordings.
    ("REPLAY gone", BadData, &["agent.recording: no recording of decisions at gone"]),
    ("REPLAY torn.jsonl", BadData, &["torn.jsonl: line 2"]),
    ("REPLAY falling.jsonl", BadData, &["falling.jsonl: line 3", "step"]),
    ("REPLAY lying.jsonl", BadData, &["lying.jsonl: line 2"]),
    ("REPLAY deeper.jsonl", BadSpec, &["4", "3"]),
    ("REPLAY endless.jsonl", BadData, &["endless.jsonl: line 1", "layers"]),
    ("REPLAY newer.jsonl", BadData, &["newer.jsonl: line 1", "version"]),
    ("REPLAY latin.txt", BadData, &["latin.txt"]),
    ("REPLAY empty.txt", BadData, &["empty.txt: line 1"]),
    // Checkpoints and models.
    ("train --resume gone", BadData, &["gone: no such run folder"]),
    ("train --resume text.txt", BadData, &["text.txt: no such run folder"]),
    ("train --resume images", Usage, &["cannot resume images: it has no spec.toml"]),
    ("train --resume run", Usage, &["cannot resume run: it has finished after 2 steps"]),
    ("train --resume run --steps 1", Usage, &["2 steps are done, but training.steps is only 1"]),
    (
        "train --resume run --seed 9",
        BadSpec,
        &["cannot resume run with another spec", "`seed`: 1 became 9"],
    ),
    ("train --resume run --method reference", Usage, &["--method", "cannot be used with"]),
    (
        "train --resume hurt --steps 9",
        BadData,
        &["none of its checkpoints can be used", "step-000000000002", "checksum"],
    ),
    (
        "train --resume unreadable --steps 9",
        BadSpec,
        &["unreadable/spec.toml, line 1", "not valid TOML"],
    ),
    ("eval gone", BadData, &["gone: no such run folder or model file"]),
    ("eval images", BadData, &["images: not a run folder"]),
    ("eval text.txt", BadData, &["text.txt: not a safetensors file"]),
    (
        "eval run/checkpoint/step-000000000002.safetensors",
        BadData,
        &["not one of dlt's model files"],
    ),
    (
        "eval cut.safetensors",
        BadData,
        &["cut.safetensors: expected", "it is cut short or too long"],
    ),
    ("eval newer.safetensors", BadData, &["expected model layout version 1, 2 or 3, got 9"]),
    ("eval run --text gone.txt", BadData, &["no text at \"gone.txt\""]),
    ("eval run --text nowhere.jsonl::body", BadData, &["no text at \"nowhere.jsonl::body\""]),
    ("eval run --text pipe", BadData, &["pipe: it is a pipe"]),
    ("eval pipe", BadData, &["pipe: no such run folder or model file"]),
    ("inspect pipe", BadData, &["pipe"]),
    ("inspect torn.jsonl", BadData, &["torn.jsonl"]),
    ("inspect run --svg text.txt", Usage, &["cannot write text.txt"]),
    ("doctor gone", BadData, &["gone: no such run folder"]),
    ("doctor images", BadData, &["images: not a run folder"]),
    ("doctor hurt", BadData, &["1 file is damaged or missing in hurt"]),
    // Command lines.
    ("", Usage, &["Usage: dlt"]),
    ("trian", Usage, &["unrecognized subcommand 'trian'", "train"]),
    ("train --preset smok", Usage, &["unknown preset `smok`", "nearest is `smoke`"]),
    ("TRAIN --method papper", Usage, &["unknown method `papper`", "nearest is `paper`"]),
    ("TRAIN --threads 0", Usage, &["--threads"]),
    ("TRAIN --device gpu", Usage, &["expected auto, cpu, cuda or cuda:N"]),
    ("TRAIN --device cuda:99", Resources, &["device cuda:99"]),
    ("TRAIN --device cpu --tf32", Resources, &["device cpu", "expected a GPU"]),
    ("TRAIN --seed nine", Usage, &["--seed", "nine"]),
    ("TRAIN --nonsense", Usage, &["unexpected argument '--nonsense'"]),
    ("TRAIN --out run", Usage, &["run already exists", "--resume run"]),
    ("TRAIN --out text.txt/below", Resources, &["cannot create text.txt"]),
    ("generate run", Usage, &["--prompt"]),
    ("generate run --prompt x --temperature -1", Usage, &["temperature"]),
    ("generate run --prompt x --top-p 2", Usage, &["top-p: expected more than 0 and at most 1"]),
    ("generate run --prompt x --top-k 0", Usage, &["top-k: expected at least 1"]),
    ("eval run --split nope", Usage, &["train, validation, test"]),
    ("spec nope", Usage, &["unknown preset `nope`"]),
    ("spec --list smoke", Usage, &["cannot be used with"]),
];

/// Writes the bad files, folders and runs that the table names.
fn clutter(place: &Workplace) {
    for (name, content) in [
        ("empty.txt", &b""[..]),
        ("latin.txt", b"caf\xe9 au lait"),
        ("latin.toml", b"name = \"caf\xe9\""),
        ("short.txt", b"Brevity is the soul of wit."),
        ("broken.toml", b"seed = 1\n[model\n"),
        ("schema.toml", b"schema = 99\nnew = 1\n"),
        ("key.toml", b"[tying]\ndecide_evry = 4\n"),
        ("section.toml", b"[modle]\nlayers = 4\n"),
        ("type.toml", b"[model]\nlayers = \"many\"\n"),
        ("twice.toml", b"[model]\nlayers = 2\nlayers = 3\n"),
        ("broken.json", b"{\"version\":"),
        ("hollow.json", br#"{"version":"1.0","model":{"type":"WordLevel","vocab":{},"unk_token":"x"}}"#),
        ("torn.jsonl", b"{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":3}\n{\"step\":1,\"act"),
        (
            "falling.jsonl",
            b"{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":3}\n{\"step\":9,\"action\":[0,0,0],\"state\":[0,0,0]}\n{\"step\":8,\"action\":[0,0,0],\"state\":[0,0,0]}\n",
        ),
        (
            "lying.jsonl",
            b"{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":3}\n{\"step\":1,\"action\":[0,1,1],\"state\":[0,0,0]}\n",
        ),
        ("deeper.jsonl", b"{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":4}\n"),
        ("endless.jsonl", b"{\"format\":\"dlt-states\",\"version\":1,\"n_layers\":99999999999}\n"),
        ("newer.jsonl", b"{\"format\":\"dlt-states\",\"version\":7,\"n_layers\":3}\n"),
    ] {
        place.write(name, content);
    }

    place.write("deep.toml", format!("x = {}", "[".repeat(50_000)));
    for (folder, files) in [
        ("images", &["a.png"][..]),
        ("halves", &["test.txt", "valid.txt"]),
        ("doubles", &["train.txt", "train.raw", "valid.txt", "test.txt"]),
    ] {
        fs::create_dir(place.path(folder)).unwrap();
        files.iter().for_each(|file| place.write(&format!("{folder}/{file}"), "some words"));
    }

    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", place.path("dangling")).unwrap();
        std::os::unix::fs::symlink("circle", place.path("circle")).unwrap();
        for folder in ["piped", "leading", "seen", "half", "told"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        place.write("piped/valid.jsonl", "{\"text\": \"some words\", \"label\": 1}");
        place.write("half/data_batch_1.bin", [0; 3073]);
        place.write("seen/test_batch.bin", [0; 3073]);
        place.write("told/dev.tsv", "sentence\tlabel\nsome words\t1\n");
        std::os::unix::fs::symlink("gone", place.path("leading/train.txt")).unwrap();
        let special =
            ["piped/train.jsonl", "seen/data_batch_1.bin", "half/test_batch.bin", "told/train.tsv"];
        for pipe in ["pipe", "pipe.toml"].into_iter().chain(special) {
            assert!(Command::new("mkfifo").arg(place.path(pipe)).status().unwrap().success());
        }
    }

    for run in ["run", "hurt", "unreadable"] {
        place
            .dlt(&[
                "train", "--preset", "smoke", "--data", "text.txt", "--steps", "2", "--out", run,
            ])
            .ok();
    }

    let checkpoint = "hurt/checkpoint/step-000000000002.safetensors";
    let mut bytes = fs::read(place.path(checkpoint)).unwrap();
    let middle = bytes.len() / 2;

    bytes[middle] ^= 1;
    place.write(checkpoint, bytes);
    place.write("unreadable/spec.toml", "[model");

    let model = fs::read(place.path("run/model.safetensors")).unwrap();
    place.write("cut.safetensors", &model[..model.len() - 1]);

    let header = 8 + u64::from_le_bytes(model[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(model[8..header].to_vec()).unwrap();
    let newer = text.replace("\"dlt-model\":\"2\"", "\"dlt-model\":\"9\"");

    place.write("newer.safetensors", [&model[..8], newer.as_bytes(), &model[header..]].concat());
}

/// Runs the program for no longer than the limit.
fn answer(mut command: Command, what: &str) -> (Option<i32>, String, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() > LIMIT => {
                child.kill().unwrap();
                panic!("{what}: no answer within {LIMIT:?}");
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };

    let mut out = String::new();
    let mut err = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();

    (status.code(), out, err)
}

fn names(place: &Workplace) -> BTreeSet<String> {
    let entries = fs::read_dir(place.path(".")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[cfg(unix)]
#[test]
fn rejects_every_input_of_the_table_with_its_message_and_code() {
    let place = Workplace::new();
    clutter(&place);

    let before = names(&place);
    assert!(TABLE.len() >= 60);
    assert_eq!(
        TABLE.iter().map(|row| row.0).collect::<BTreeSet<_>>().len(),
        TABLE.len(),
        "there is a row twice"
    );

    let mut wrong = Vec::new();
    for &(line, code, parts) in TABLE {
        let replay =
            format!("{TRAIN} --data text.txt --set agent.policy=replay --set agent.recording=");
        let mut typed = line.replace("REPLAY ", &replay).replace("SEE ", &format!("{SEE} "));
        typed = typed.replace("SORT ", &format!("{SORT} "));

        if typed.starts_with("TRAIN") {
            let data = if line.contains("--data") { "" } else { " --data text.txt" };
            typed = typed.replacen("TRAIN", &format!("{TRAIN}{data}"), 1);
        }

        let arguments: Vec<_> = typed.split_whitespace().collect();
        let (got, _, err) = answer(place.command(&arguments), line);
        let noise = ["panicked", "backtrace", "Caused by", "RUST_BACKTRACE"]
            .iter()
            .any(|noise| err.contains(noise));
        let is_told = parts.iter().all(|part| err.contains(part));

        if got != Some(i32::from(code.number())) || !is_told || noise {
            wrong.push(format!("{line}\n  expected {code:?} and {parts:?}\n  got {got:?}: {err}"));
        }
    }

    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(names(&place), before, "a refused input leaves nothing behind");
}

#[test]
fn rejects_or_survives_every_strange_environment() {
    let place = Workplace::new();
    let table: &[(&str, &str, i32, &str)] = &[
        ("DLT_LOG", "=,=", 2, "DLT_LOG: not a log filter"),
        ("DLT_LOG", "dlt_data=loudly", 2, "DLT_LOG: not a log filter"),
        ("DLT_CACHE", "text.txt", 0, "tokens cannot be cached and are kept in memory"),
        ("DLT_CACHE", "/proc/none", 0, "tokens cannot be cached and are kept in memory"),
        ("RAYON_NUM_THREADS", "many", 0, ""),
        ("CANDLE_NUM_THREADS", "-3", 0, ""),
        ("GLIBC_TUNABLES", "nonsense", 0, ""),
        ("NO_COLOR", "1", 0, ""),
        ("DLT_PRODUCTS", "", 0, ""),
        ("DLT_PRODUCTS", "f32", 0, ""),
        (
            "DLT_PRODUCTS",
            "fast",
            2,
            "DLT_PRODUCTS: cannot choose what multiplies bf16 matrices: expected ",
        ),
    ];

    for (number, &(name, value, code, says)) in table.iter().enumerate() {
        let out = format!("run-{number}");
        let mut command = place.command(&[
            "train", "--preset", "smoke", "--data", "text.txt", "--steps", "1", "--out", &out,
        ]);
        command.env(name, value);

        let (got, _, err) = answer(command, name);
        assert_eq!(got, Some(code), "{name}={value}: {err}");
        assert!(err.contains(says) && !err.contains("panicked"), "{name}={value}: {err}");
        assert_eq!(place.path(&out).exists(), code == 0, "{name}={value}");
    }
}

/// A damaged cache does not change the result.
#[test]
fn a_damaged_cache_is_made_again() {
    let place = Workplace::new();
    let train = |out: &str| {
        let mut command = place.command(&[
            "train", "--preset", "smoke", "--data", "text.txt", "--steps", "1", "--out", out,
        ]);
        command.env("DLT_CACHE", place.path("cache"));
        answer(command, out)
    };

    assert_eq!(train("a").0, Some(0));
    for entry in fs::read_dir(place.path("cache")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;

        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
    }

    let (code, _, err) = train("b");
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("cannot be used and are made again"), "{err}");
    assert_eq!(place.read("a/states.jsonl"), place.read("b/states.jsonl"));
}

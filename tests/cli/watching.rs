//! `dlt watch`: what it answers and to whom, and that no client can keep it from answering others.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::workplace::Workplace;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Watching {
    process: Child,
    address: SocketAddr,
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Watching {
    fn start(place: &Workplace, run: &str, more: &[&str]) -> Self {
        let mut command = place.command(&["watch", run]);
        if !more.contains(&"--port") {
            command.args(["--port", "0"]);
        }

        let mut process =
            command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();

        let address = line.trim().strip_prefix("http://").and_then(|line| line.strip_suffix('/'));
        Self { address: address.unwrap_or_else(|| panic!("{line}")).parse().unwrap(), process }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// Sends this as it is and reads to the end.
    fn say(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        answer(stream)
    }

    fn ask(&self, method: &str, path: &str, more: &str) -> Answer {
        self.say(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\n{more}\r\n",
            self.address.port()
        ))
    }

    fn news(&self) -> Value {
        let answer = self.ask("GET", "/data.json", "");
        assert_eq!(answer.status, 200, "{}", answer.head);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn wait_for(&self, fact: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();

        loop {
            let news = self.news();
            if fact(&news) {
                return news;
            }

            assert!(
                begin.elapsed() < LIMIT,
                "still {} steps, trouble {}",
                news["steps"],
                news["trouble"]
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn it_answers_two_paths_for_reading_and_only_under_its_own_name() {
    let place = Workplace::new();
    place.train("run", &[]);

    let watching = Watching::start(&place, "run", &[]);
    assert!(watching.address.ip().is_loopback());

    let page = watching.ask("GET", "/", "");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("connect-src 'self'") && page.body.contains("Finished: 12 steps"));

    for header in [
        "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY",
        "Cross-Origin-Resource-Policy: same-origin",
    ] {
        assert!(page.head.contains(header), "{}", page.head);
    }

    assert!(!page.head.contains("Access-Control"), "no other page may read it");
    let head = watching.ask("HEAD", "/", "");
    assert_eq!((head.status, &*head.body), (200, ""));
    assert!(head.head.contains(&format!("Content-Length: {}", page.body.len())));

    for path in [
        "/spec.toml",
        "/../run/spec.toml",
        "/%2e%2e/etc/passwd",
        "/data.json?x",
        "//",
        "/favicon.ico",
    ] {
        let answer = watching.ask("GET", path, "");
        assert_eq!((answer.status, answer.body.contains("seed")), (404, false), "{path}");
    }

    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = watching.ask(method, "/data.json", "Content-Length: 3\r\n");
        assert_eq!(answer.status, 405, "{method}");
    }

    let port = watching.address.port();
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "localhost:1",
        &format!("127.0.0.1.evil.example:{port}"),
    ] {
        let answer = watching.say(&format!("GET /data.json HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((answer.status, answer.body.contains("steps")), (403, false), "{host}");
    }

    for host in [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]
    {
        assert_eq!(
            watching.say(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status,
            200,
            "{host}"
        );
    }

    assert_eq!(watching.say("GET / HTTP/1.1\r\n\r\n").status, 400, "no host");
    assert_eq!(watching.say("\u{1}\u{2}\r\n\r\n").status, 400);

    let large = watching.ask("GET", "/", &format!("X: {}\r\n", "y".repeat(40_000)));
    assert_eq!(large.status, 431);
}

#[test]
fn who_knows_the_news_gets_none() {
    let place = Workplace::new();
    place.train("run", &[]);

    let watching = Watching::start(&place, "run", &[]);
    let first = watching.ask("GET", "/data.json", "");
    let version = first.head.lines().find_map(|line| line.strip_prefix("ETag: ")).unwrap();
    let again = watching.ask("GET", "/data.json", &format!("If-None-Match: {version}\r\n"));

    assert_eq!((again.status, &*again.body), (304, ""));
    assert_eq!(watching.ask("GET", "/data.json", "If-None-Match: \"other\"\r\n").status, 200);
}

#[test]
fn slow_clients_do_not_keep_others_waiting_and_are_sent_away() {
    let place = Workplace::new();
    place.train("run", &[]);

    let watching = Watching::start(&place, "run", &[]);
    let mut slow: Vec<TcpStream> = (0..40).map(|_| watching.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HT").unwrap();
    }

    let begin = Instant::now();
    assert_eq!(watching.ask("GET", "/data.json", "").status, 200);
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "this was before any of them was given up: {:?}",
        begin.elapsed()
    );

    // A client that sends a byte now and then gains no time.
    let mut dripping = slow.pop().unwrap();
    let end = loop {
        if dripping.write_all(b"x").is_err() || begin.elapsed() > Duration::from_secs(30) {
            break begin.elapsed();
        }
        std::thread::sleep(Duration::from_millis(500));
    };

    assert!(end < Duration::from_secs(20), "{end:?}");

    for stream in slow {
        assert_eq!(answer(stream).status, 408);
    }
}

#[test]
fn more_connections_than_it_takes_are_told_to_come_later() {
    let place = Workplace::new();
    place.train("run", &[]);

    let watching = Watching::start(&place, "run", &[]);
    let held: Vec<TcpStream> = (0..64).map(|_| watching.connect()).collect();
    assert_eq!(answer(watching.connect()).status, 503);
    drop(held);

    let begin = Instant::now();

    while watching.ask("GET", "/data.json", "").status != 200 {
        assert!(begin.elapsed() < LIMIT, "connections that were closed must be free again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_news_grow_while_the_run_goes_on_and_it_outlives_the_run() {
    let place = Workplace::new();
    let arguments = [
        "train",
        "--preset",
        "smoke",
        "--data",
        "text.txt",
        "--steps",
        "2000",
        "--out",
        "run",
        "--quiet",
        "--set",
        "evaluation.every_steps=2000",
    ];

    let mut training =
        place.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begin = Instant::now();
    while !place.path("run/states.jsonl").is_file() {
        assert!(begin.elapsed() < LIMIT, "the run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }

    let watching = Watching::start(&place, "run", &[]);
    let steps = |news: &Value| news["steps"].as_u64().unwrap();
    let first = steps(&watching.wait_for(|news| steps(news) > 0));
    let grown = watching.wait_for(|news| steps(news) > first);

    assert_eq!(grown["finished"], false);
    assert!(grown["parts"]["run-0-glance"].as_str().unwrap().contains(" of 2,000"));
    training.kill().unwrap();
    training.wait().unwrap();

    fs::rename(place.path("run"), place.path("elsewhere")).unwrap();

    let gone = watching.wait_for(|news| news["trouble"].is_string());
    assert!(gone["trouble"].as_str().unwrap().contains("not a run folder"), "{}", gone["trouble"]);
    assert!(steps(&gone) >= steps(&grown), "the last known state stays");
    fs::rename(place.path("elsewhere"), place.path("run")).unwrap();
    watching.wait_for(|news| news["trouble"].is_null());

    let metrics = place.read("run/metrics.jsonl");
    let cut: String = metrics.lines().take(6).map(|line| format!("{line}\n")).collect();
    place.write("run/metrics.jsonl", cut);
    watching.wait_for(|news| steps(news) < first.max(6));
    place.write("run/metrics.jsonl", format!("{metrics}nonsense\n"));

    let damaged = watching.wait_for(|news| news["trouble"].is_string());

    assert!(
        damaged["trouble"].as_str().unwrap().contains("metrics.jsonl: line"),
        "{}",
        damaged["trouble"]
    );
}

#[cfg(unix)]
#[test]
fn an_interruption_ends_it_well() {
    let place = Workplace::new();
    place.train("run", &[]);

    let mut watching = Watching::start(&place, "run", &[]);
    let id = watching.process.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());

    let begin = Instant::now();
    let status = loop {
        if let Some(status) = watching.process.try_wait().unwrap() {
            break status;
        }

        assert!(begin.elapsed() < LIMIT, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };

    assert_eq!(status.code(), Some(0));
}

#[test]
fn another_address_is_warned_of() {
    let place = Workplace::new();
    place.train("run", &[]);

    let mut watching = Watching::start(&place, "run", &["--address", "0.0.0.0"]);
    let mut said = String::new();
    let mut lines = BufReader::new(watching.process.stderr.take().unwrap());

    while !said.contains("warning: anyone who reaches this address can read the page") {
        assert!(lines.read_line(&mut said).unwrap() > 0, "{said}");
    }
}

#[test]
fn rejects_what_is_no_run_and_a_port_that_is_taken() {
    let place = Workplace::new();
    let said = place.dlt(&["watch", "nothing"]);
    assert_eq!(said.code, Some(4), "{said:?}");
    place.train("run", &[]);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = place.dlt(&["watch", "run", "--port", &port]);

    assert_eq!(said.code, Some(5), "{said:?}");
    assert!(said.err.contains("cannot serve a page"), "{said:?}");
}

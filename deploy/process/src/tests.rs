//! What only a process of its own can show: its end. Each case runs in a child, which is this very
//! test again with a word in its environment that says what to do.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

const CASE: &str = "BACKSTOP_TEST_CASE";
const SIGABRT: i32 = 6;

/// Runs the named test again in a child, as `case`.
fn child(test: &str, case: &str, stdin: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("tests::{test}"), "--exact", "--nocapture"])
        .env(CASE, case)
        .env("RUST_BACKTRACE", "0")
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn has_ended_within(child: &mut Child, time: Duration) -> bool {
    let step = Duration::from_millis(10);
    (0..time.as_millis() / step.as_millis()).any(|_| {
        std::thread::sleep(step);
        child.try_wait().unwrap().is_some()
    })
}

#[test]
fn a_panic_is_one_line_and_ends_the_process_where_it_must() {
    let test = "a_panic_is_one_line_and_ends_the_process_where_it_must";
    let panics = match std::env::var(CASE).as_deref() {
        Ok("abort") => Panic::Abort,
        Ok("contain") => Panic::Contain,
        _ => {
            for (case, signal) in [("abort", Some(SIGABRT)), ("contain", None)] {
                let output = child(test, case, Stdio::null()).wait_with_output().unwrap();
                let words = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.signal(), signal, "{case}: {words}");
                let lines: Vec<&str> =
                    words.lines().filter(|line| line.contains("ERROR core-prod")).collect();
                assert_eq!(lines.len(), 1, "{case}: {words}");
                assert!(lines[0].contains("panicked: two\\nlines at "), "{words}");
            }
            return;
        }
    };
    let _logs = start("core", Some("prod"), panics);
    let _ = std::thread::spawn(|| panic!("two\nlines")).join();
}

#[tokio::test]
async fn a_process_stops_when_the_pipe_on_its_stdin_closes_and_not_for_an_empty_file() {
    let test = "a_process_stops_when_the_pipe_on_its_stdin_closes_and_not_for_an_empty_file";
    if std::env::var(CASE).is_ok() {
        eprintln!("waiting");
        return lifeline().await;
    }
    let long = Duration::from_secs(5);
    let short = Duration::from_millis(200);
    let mut held = child(test, "pipe", Stdio::piped());
    let mut alone = child(test, "null", Stdio::null());
    for child in [&mut held, &mut alone] {
        let mut word = [0; 7];
        child.stderr.as_mut().unwrap().read_exact(&mut word).unwrap();
        assert!(!has_ended_within(child, short));
    }
    drop(held.stdin.take());
    assert!(has_ended_within(&mut held, long));
    assert!(alone.try_wait().unwrap().is_none());
    alone.kill().unwrap();
    alone.wait().unwrap();
}

#[tokio::test]
async fn a_word_on_the_lifeline_is_an_order_and_its_end_means_to_stop() {
    let test = "a_word_on_the_lifeline_is_an_order_and_its_end_means_to_stop";
    if std::env::var(CASE).is_ok() {
        let mut orders = Orders::new();
        eprintln!("waiting");
        assert_eq!(orders.next().await, Order::HandOver);
        eprintln!("handing");
        assert_eq!(orders.next().await, Order::Stop);
        return;
    }
    let mut held = child(test, "orders", Stdio::piped());
    let mut heard = |expected: &[u8; 8]| {
        let mut word = [0; 8];
        held.stderr.as_mut().unwrap().read_exact(&mut word).unwrap();
        assert_eq!(&word, expected);
    };
    heard(b"waiting\n");
    let mut lifeline = held.stdin.take().unwrap();
    lifeline.write_all(format!("no word of ours\n{HAND_OVER}\n").as_bytes()).unwrap();
    heard(b"handing\n");
    drop(lifeline);
    assert!(held.wait().unwrap().success());
}

//! Connections that cost a place and bring nothing: each is cut in its time, and none before it.

mod system;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use system::{PATIENCE, System, payment, until};

const SETTINGS: &str = r#"
[edge]
connections_max = 16
handshake_timeout = "1s"
header_timeout = "300ms"
"#;

/// `connections_max` of the settings.
const PLACES: usize = 16;

/// Connects and says only this much.
fn mute(address: std::net::SocketAddr, says: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(says).unwrap();
    stream
}

/// Waits until the edge has ended it.
fn ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // Closed or reset: both are an end, and patience running out is none.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it was never cut");
    }
}

#[test]
fn a_tls_handshake_takes_a_place_and_is_cut_in_its_time() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), SETTINGS).unwrap();
    let system = System::up(dir.path());
    let key = system.key(true);
    let takers = || (0..PLACES).map(|_| mute(system.listen, b"")).collect::<Vec<_>>();
    let mut all = until("every place is taken", || {
        let all = takers();
        let mut late = mute(system.plain, b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        late.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        // Turned away at once: a reset or an end, where a place would bring an answer.
        (!matches!(late.read(&mut [0; 1]), Ok(1))).then_some(all)
    });
    all.iter_mut().for_each(ended);
    until("there are places again", || {
        let mut stream = mute(system.plain, b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
        matches!(stream.read(&mut [0; 1]), Ok(1)).then_some(())
    });
    assert_eq!(system.connect().decide(&key, &payment("after")).status, 200);
}

#[test]
fn a_head_is_cut_in_its_time_and_an_idle_connection_is_not() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), SETTINGS).unwrap();
    let system = System::up(dir.path());
    let (mut idle, key) = (system.connect(), system.key(true));
    let mut slow = mute(system.plain, b"GET /nothing HTTP/1.1\r\nHost: a\r\nX-Slow: ");
    ended(&mut slow);
    // By now it has been idle for longer than a head may take.
    assert_eq!(idle.decide(&key, &payment("late")).status, 200);
    let mut wrong = mute(system.plain, b"I am no HTTP\r\n\r\n");
    let mut status = [0; 12];
    wrong.read_exact(&mut status).unwrap();
    assert_eq!(status, *b"HTTP/1.1 400");
}

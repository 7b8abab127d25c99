use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::*;

/// Far more than a socket holds, so that writers wait for readers.
const BYTES: usize = 5 << 20;
const WITHIN: Duration = Duration::from_secs(30);

fn pair() -> (Socket, Socket) {
    let (one, other) = UnixStream::pair().unwrap();
    (one.try_into().unwrap(), other.try_into().unwrap())
}

fn pattern(seed: usize) -> Vec<u8> {
    (0..BYTES).map(|index| u8::try_from((index * 31 + index / 251 + seed) % 256).unwrap()).collect()
}

/// Writes all of it while the other side writes as much, reads that to its end, and returns it.
async fn exchange(socket: Socket, sent: Vec<u8>) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(socket);
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    from.read_to_end(&mut received).await.unwrap();
    sending.await.unwrap();
    received
}

#[tokio::test]
async fn more_than_a_socket_holds_goes_both_ways_at_once_and_ends() {
    let (one, other) = pair();
    let both = async { tokio::join!(exchange(one, pattern(1)), exchange(other, pattern(2))) };
    let (at_one, at_other) = timeout(WITHIN, both).await.unwrap();
    assert!(at_one == pattern(2) && at_other == pattern(1));
}

#[tokio::test]
async fn slices_arrive_as_one_in_order() {
    let (mut one, mut other) = pair();
    let slices = [IoSlice::new(b"head "), IoSlice::new(b""), IoSlice::new(b"body")];
    assert_eq!(one.write_vectored(&slices).await.unwrap(), 9);
    let mut received = [0; 9];
    other.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"head body");
}

#[tokio::test]
async fn whoever_reads_or_writes_is_told_when_the_other_side_is_gone() {
    let (mut one, mut other) = pair();
    other.write_all(b"last words").await.unwrap();
    drop(other);
    let mut received = Vec::new();
    timeout(WITHIN, one.read_to_end(&mut received)).await.unwrap().unwrap();
    assert_eq!(received, b"last words");
    assert_eq!(one.write_all(b"?").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    // One that waited for room when it happened.
    let (mut one, other) = pair();
    let writing = tokio::spawn(async move { one.write_all(&pattern(0)).await });
    tokio::task::yield_now().await;
    drop(other);
    let ended = timeout(WITHIN, writing).await.unwrap().unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::BrokenPipe);
}

/// Counts how often the thread of a socket goes to sleep while it asks and is answered.
fn sleeps<S>(rounds: u64, socket: impl FnOnce(Stream) -> S) -> u64
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (one, mut other) = Stream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    let answering = std::thread::spawn(move || {
        let mut byte = [0];
        while other.read_exact(&mut byte).is_ok() {
            // Long enough for whoever asked to be asleep, twice.
            std::thread::sleep(Duration::from_millis(2));
            let _gone = other.write_all(&byte);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut socket = socket(one);
        for _ in 0..rounds {
            socket.write_all(b"?").await.unwrap();
            socket.read_exact(&mut [0]).await.unwrap();
        }
    });
    let sleeps = runtime.metrics().worker_park_count(0);
    drop(runtime);
    answering.join().unwrap();
    sleeps
}

#[test]
fn a_message_that_was_taken_wakes_nobody() {
    const ROUNDS: u64 = 100;
    let usual = sleeps(ROUNDS, |stream| UnixStream::from_std(stream).unwrap());
    let quiet =
        sleeps(ROUNDS, |stream| Socket::try_from(UnixStream::from_std(stream).unwrap()).unwrap());
    assert!(quiet <= ROUNDS + ROUNDS / 10, "{quiet} sleeps in {ROUNDS} rounds; tokio's: {usual}");
}

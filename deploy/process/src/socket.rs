//! Unix sockets whose task is woken to read, and to write only while it waits for room.
//!
//! A socket of tokio's asks the kernel for both at once, and of a Unix socket the kernel tells after every
//! message that the other side has taken it: there is room again. So each message sent would wake its
//! sender once more, for nothing; between our tiers that was every second wake-up.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Stream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::UnixStream;

/// The most that one call reads: what is read into is cleared first.
const READ_BYTES_MAX: usize = 16 << 10;

/// A connected Unix socket.
#[derive(Debug)]
pub struct Socket {
    stream: AsyncFd<Stream>,
    /// The same socket again, while a write waits for room.
    room: Option<AsyncFd<Stream>>,
}

impl Socket {
    /// Connects to whoever listens at `path`.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await?.try_into()
    }

    fn poll_write_with(
        &mut self,
        cx: &mut Context<'_>,
        write: impl Fn(&mut &Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(room) = &self.room {
                drop(ready!(room.poll_write_ready(cx))?);
                self.room = None;
            }
            match write(&mut self.stream.get_ref()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let again = self.stream.get_ref().try_clone()?;
                    self.room = Some(watch(again, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the new way is unsafe, for the sake of types whose descriptor may change; a stream's never does"
)]
fn watch(stream: Stream, interest: Interest) -> io::Result<AsyncFd<Stream>> {
    AsyncFd::with_interest(stream, interest)
}

/// A connection that was accepted, or made otherwise.
impl TryFrom<UnixStream> for Socket {
    type Error = io::Error;

    fn try_from(stream: UnixStream) -> io::Result<Self> {
        let stream = watch(stream.into_std()?, Interest::READABLE)?;
        Ok(Self { stream, room: None })
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes_max = std::cmp::min(buffer.remaining(), READ_BYTES_MAX);
        loop {
            let mut readable = ready!(self.stream.poll_read_ready(cx))?;
            let into = buffer.initialize_unfilled_to(bytes_max);
            match readable.try_io(|stream| stream.get_ref().read(into)) {
                Ok(Ok(count)) => {
                    // Less than there was room for: there is no more. The next message, or the end, tells itself.
                    if 0 < count && count < bytes_max {
                        readable.clear_ready();
                    }
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests;

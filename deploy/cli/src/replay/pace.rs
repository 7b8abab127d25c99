//! Waiting for the moment a request is due. Tokio's timer wakes at the next whole millisecond, which
//! would be booked on the server's account; the kernel's own timer is a twentieth of that late.

use tokio::time::Instant;

/// Waits until an instant.
pub enum Pace {
    /// As well as the kernel can: some 50 µs late.
    #[cfg(target_os = "linux")]
    Fine(tokio::io::unix::AsyncFd<kernel::Alarm>),
    /// By tokio's timer: up to 1 ms late, and true in paused time.
    Coarse,
}

impl Pace {
    /// The finest pace that this machine has.
    pub fn finest() -> Self {
        #[cfg(target_os = "linux")]
        if let Some(alarm) = kernel::Alarm::new() {
            return Self::Fine(alarm);
        }
        Self::Coarse
    }

    /// Returns at `due`, or at once when it has passed. Dropped while it waits, it forgets.
    pub async fn until(&mut self, due: Instant) {
        #[cfg(target_os = "linux")]
        if let Self::Fine(alarm) = self {
            while let Some(wait) = kernel::left(due) {
                if !kernel::ring(alarm, wait).await {
                    break;
                }
            }
        }
        // Past already when the alarm did its work; the whole wait when there is none.
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::os::fd::{AsFd, AsRawFd, RawFd};
    use std::time::Duration;

    use nix::sys::time::TimeSpec;
    use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
    use tokio::io::unix::AsyncFd;
    use tokio::time::Instant;

    /// A timer of the kernel that the runtime can wait for.
    pub struct Alarm(TimerFd);

    impl AsRawFd for Alarm {
        fn as_raw_fd(&self) -> RawFd {
            self.0.as_fd().as_raw_fd()
        }
    }

    impl Alarm {
        /// A timer at rest; `None` where the kernel gives none.
        #[allow(deprecated, reason = "the successor is unsafe; this descriptor is ours throughout")]
        pub fn new() -> Option<AsyncFd<Self>> {
            let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
            let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).ok()?;
            AsyncFd::new(Self(timer)).ok()
        }
    }

    /// What is left until then; nothing once it has passed.
    pub fn left(due: Instant) -> Option<Duration> {
        due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Waits so long, or less when an alarm set before still rings. False when there is no waiting on it.
    pub async fn ring(alarm: &mut AsyncFd<Alarm>, wait: Duration) -> bool {
        let once = Expiration::OneShot(TimeSpec::from_duration(wait));
        if alarm.get_ref().0.set(once, TimerSetTimeFlags::empty()).is_err() {
            return false;
        }
        let Ok(mut ready) = alarm.readable().await else { return false };
        ready.clear_ready();
        // Nothing to read means that it was the ring of an earlier alarm: the caller looks at the time.
        let _ = alarm.get_ref().0.wait();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn never_returns_before_the_moment_even_when_an_earlier_wait_was_dropped() {
        let mut pace = Pace::finest();
        let start = Instant::now();
        let soon = tokio::time::timeout(Duration::from_millis(2), async {
            pace.until(start + Duration::from_hours(1)).await;
        });
        assert!(soon.await.is_err());
        for millis in [5, 6, 11] {
            let due = start + Duration::from_micros(millis * 1000 + 300);
            pace.until(due).await;
            assert!(Instant::now() >= due);
        }
    }
}

//! The listening sockets. They belong to `up`, which hands them to every proxy that it starts: while
//! there is none, whoever connects waits in the backlog until the next one accepts, and is not refused.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use backstop_process::doors::{COUNT, FIRST, NAMES};
use command_fds::{CommandFdExt as _, FdMapping};
use tokio::process::Command;

/// Sockets that listen, each under the name by which the proxy knows it. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Doors(Arc<[(&'static str, TcpListener)]>);

impl Doors {
    /// These, which nobody accepts on yet.
    pub fn new(doors: Vec<(&'static str, TcpListener)>) -> io::Result<Self> {
        for (_name, door) in &doors {
            // A property of the socket, whoever holds it: no proxy may wait in an accept.
            door.set_nonblocking(true)?;
        }
        Ok(Self(doors.into()))
    }

    /// The process that `command` starts gets them, and is told so in its environment; where there are
    /// none, it gets none that `up` itself was handed.
    pub fn hand_to(&self, command: &mut Command) -> io::Result<()> {
        if self.0.is_empty() {
            command.env_remove(COUNT).env_remove(NAMES);
            return Ok(());
        }
        let mapped = (FIRST..).zip(self.0.iter()).map(|(child_fd, (_name, door))| {
            Ok(FdMapping { parent_fd: door.try_clone()?.into(), child_fd })
        });
        let mapped = mapped.collect::<io::Result<Vec<_>>>()?;
        let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
        command.env(COUNT, names.len().to_string()).env(NAMES, names.join(":"));
        command.env_remove("LISTEN_PID");
        command.fd_mappings(mapped).map_err(io::Error::other)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    async fn a_child_gets_the_sockets_in_their_order_and_nobody_else_does() {
        let door = || TcpListener::bind("127.0.0.1:0").unwrap();
        let doors = Doors::new(vec![("listen", door()), ("admin", door())]).unwrap();
        let run = |doors: Doors| async move {
            let script =
                "echo $LISTEN_FDS $LISTEN_FDNAMES; readlink /proc/self/fd/3 /proc/self/fd/4";
            let mut command = Command::new("sh");
            command.args(["-c", script]).stdin(Stdio::null());
            doors.hand_to(&mut command).unwrap();
            let said = command.output().await.unwrap().stdout;
            String::from_utf8(said).unwrap()
        };
        let said = run(doors).await;
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[0], "2 listen:admin");
        assert!(
            lines.len() == 3 && lines[1..].iter().all(|it| it.starts_with("socket:")),
            "{said}"
        );
        assert!(!run(Doors::default()).await.contains("socket:"));
    }
}

//! A name server for one gateway, which answers as it is told.
//!
//! The gateway has a `/etc/resolv.conf` of its own, in a mount namespace, which only root may make.

use std::{
    io,
    net::Ipv4Addr,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinHandle, time::sleep};

/// The name of every provider.
pub(crate) const NAME: &str = "provider.test";

/// The seconds after which a system's resolver gives up by default: two attempts of five.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// A way to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answering {
    AtOnce,
    After(Duration),
    /// It says that it has failed.
    Failing,
    Never,
}

/// A name server, which ends with this.
#[derive(Debug)]
pub(crate) struct NameServer {
    address: Ipv4Addr,
    answering: Arc<Mutex<Answering>>,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    /// Returns whether this machine lets a process have a name server of its own.
    pub(crate) fn is_possible() -> bool {
        let namespace = Command::new("unshare").args(["-m", "true"]).stderr(Stdio::null()).status();
        let port = std::net::UdpSocket::bind((Ipv4Addr::new(127, 53, 0, 1), 53));
        namespace.is_ok_and(|status| status.success()) && port.is_ok()
    }

    /// Starts one. Two with the same number do not go together.
    pub(crate) async fn start(number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        let address = Ipv4Addr::new(127, 53, high, low);
        let socket = Arc::new(UdpSocket::bind((address, 53)).await.unwrap());
        let answering = Arc::new(Mutex::new(Answering::AtOnce));
        let now = answering.clone();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let (now, socket) = (*now.lock().unwrap(), socket.clone());
                let Some(answer) = answer(&buffer[..length], now == Answering::Failing) else { continue };
                tokio::spawn(async move {
                    match now {
                        Answering::Never => return,
                        Answering::After(time) => sleep(time).await,
                        Answering::AtOnce | Answering::Failing => {}
                    }
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        });
        Self { address, answering, task }
    }

    /// Answers so from now on.
    pub(crate) fn answer(&self, answering: Answering) {
        *self.answering.lock().unwrap() = answering;
    }

    /// Returns the content of a gateway's `/etc/resolv.conf`.
    pub(crate) fn resolv_conf(&self) -> String {
        format!("nameserver {}\n", self.address)
    }

    /// Waits as a client in this process would, whose resolver asked it.
    pub(crate) async fn look_up(&self) -> io::Result<()> {
        let answering = *self.answering.lock().unwrap();
        match answering {
            Answering::AtOnce => return Ok(()),
            Answering::After(time) => {
                sleep(time).await;
                return Ok(());
            }
            Answering::Failing => {}
            Answering::Never => sleep(GIVEN_UP).await,
        }
        Err(io::Error::other("the name has no address"))
    }
}

/// Answers a question of RFC 1035 for any name: 127.0.0.1, and no address of another kind.
fn answer(question: &[u8], fails: bool) -> Option<Vec<u8>> {
    let mut end = 12;
    while *question.get(end)? != 0 {
        end += 1 + usize::from(question[end]);
    }
    // The root's zero, type and class.
    let asked = question.get(12..end + 5)?;
    let has_address = !fails && asked.ends_with(&[0, 1, 0, 1]);
    let flags = if fails { [0x81, 0x82] } else { [0x81, 0x80] };
    let counts = [0, 1, 0, u8::from(has_address), 0, 0, 0, 0];
    let mut answer = [&question[..2], &flags[..], &counts[..], asked].concat();
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

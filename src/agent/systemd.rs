//! Telling systemd how it goes: datagrams to the socket that `$NOTIFY_SOCKET` names (sd_notify(3)).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// Speaks to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Systemd {
    address: Option<PathBuf>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// From the values of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. A watchdog of another process is none of
    /// ours.
    pub fn new(socket: Option<&str>, watchdog_us: Option<&str>, watchdog_pid: Option<&str>) -> Self {
        let address = socket.filter(|path| path.starts_with(['/', '@'])).map(PathBuf::from);
        let is_ours = watchdog_pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let us = watchdog_us.filter(|_| is_ours).and_then(|text| text.parse().ok()).filter(|us: &u64| *us > 0);
        Self { address, watchdog: us.map(Duration::from_micros) }
    }

    /// How often [`Systemd::alive`] is to be said: half of what the manager waits for.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.address.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// It can do its work.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// It reads its configuration again; [`Systemd::ready`] follows. `since_boot`: by the monotonic clock.
    pub fn reloading(&self, since_boot: Duration) {
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", since_boot.as_micros()));
    }

    /// It stops.
    pub fn stopping(&self) {
        self.say("STOPPING=1\n");
    }

    /// It lives.
    pub fn alive(&self) {
        self.say("WATCHDOG=1\n");
    }

    fn say(&self, text: &str) {
        if let Err(error) = self.send(text) {
            tracing::debug!(%error, "the service manager cannot be told");
        }
    }

    fn send(&self, text: &str) -> io::Result<()> {
        let Some(address) = &self.address else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        #[cfg(target_os = "linux")]
        if let Some(name) = address.to_str().and_then(|path| path.strip_prefix('@')) {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            return socket.send_to_addr(text.as_bytes(), &address).map(drop);
        }
        socket.send_to(text.as_bytes(), address).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_is_told_in_its_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let pid = std::process::id().to_string();
        let systemd = Systemd::new(path.to_str(), Some("3000000"), Some(&pid));
        assert_eq!(systemd.watchdog_every(), Some(Duration::from_millis(1500)));
        systemd.ready("waiting");
        systemd.reloading(Duration::from_micros(7));
        systemd.alive();
        systemd.stopping();
        for expected in ["READY=1\nSTATUS=waiting\n", "RELOADING=1\nMONOTONIC_USEC=7\n", "WATCHDOG=1\n", "STOPPING=1\n"]
        {
            let mut text = [0; 100];
            let len = manager.recv(&mut text).unwrap();
            assert_eq!(std::str::from_utf8(&text[..len]).unwrap(), expected);
        }
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let systemd = Systemd::new(None, Some("3000000"), None);
        assert_eq!(systemd.watchdog_every(), None);
        systemd.ready("");
        assert_eq!(Systemd::new(Some("/x"), Some("1000"), Some("1")).watchdog_every(), None);
        assert_eq!(Systemd::new(Some("vsock:2:1"), Some("1000"), None).watchdog_every(), None);
    }
}

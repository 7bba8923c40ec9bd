//! `--view` and `hig view DIR…`: a page in the browser that shows runs as they train, and controls those of this process.
//!
//! Curves, spectra and ends are read from the runs' folders, whoever writes them. A run of this process adds where it
//! is between its rows, and takes controls between its steps ([`live`]). Nothing is read, and nothing drawn, while no
//! page is open.

mod guard;
mod http;
mod hub;
mod live;
mod paint;
mod server;
mod shown;
mod table;
mod thin;

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use guard::Guard;
use halfinverse::task::{Registry, Task};
use hub::Hub;
pub(crate) use live::{Deed, Link};

use crate::arguments::{FolderViewArguments, ViewArguments};
use crate::failure::Failure;
use crate::interrupt;
use crate::picture::Pictures;
use crate::voice::say;

/// The port that is tried first.
pub(crate) const PORT: &str = "8800";
/// Ports that are tried, from the first one on.
const TRIES: u16 = 100;
/// How long a page may take to fetch a run's end.
const FAREWELL: Duration = Duration::from_secs(1);

/// A view that is served until it is dropped.
pub(crate) struct View {
    hub: Arc<Hub>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
}

impl View {
    /// Opens the view where one is asked for, and says its address.
    pub(crate) fn open(
        registry: &Registry,
        pictures: &Pictures,
        arguments: &ViewArguments,
    ) -> Result<Option<Self>, Failure> {
        let Some(port) = &arguments.view else { return Ok(None) };
        Self::serve(registry, pictures, "--view", port, arguments.view_host.as_deref()).map(Some)
    }

    fn serve(
        registry: &Registry,
        pictures: &Pictures,
        option: &str,
        port: &str,
        host: Option<&str>,
    ) -> Result<Self, Failure> {
        let wanted: u16 = port.parse().map_err(|_| {
            Failure::new(format!("`{option}={port}` must be a port, 0 (any free one) to 65535"))
        })?;
        let listener = listen(host.unwrap_or("127.0.0.1"), wanted)?;
        let address =
            listener.local_addr().map_err(|error| Failure::new(format!("cannot open the view: {error}")))?;
        let guard = if host.is_some() { Guard::with_token()? } else { Guard::local(address) };
        let taken = if [0, address.port()].contains(&wanted) {
            String::new()
        } else {
            format!(" (port {wanted} is taken)")
        };
        // Whatever is quiet, an address that nobody knows is no view.
        say(false, &format!("view: {}{taken}", guard.address(address)));
        let hub = Arc::new(Hub::new(registry, pictures));
        let accepting = Some(server::serve(listener, hub.clone(), guard));
        Ok(Self { hub, address, accepting })
    }

    /// Shows a study's cells, also those of other processes.
    pub(crate) fn study(&self, path: &Path) {
        self.hub.add(path);
    }

    /// Shows a run of this process that begins.
    pub(crate) fn begin(&self, path: &Path, task: &Task) -> Link {
        let cell = path.parent().is_some_and(|parent| parent.ends_with(crate::folder::CELLS));
        let name = if cell { path.file_name().unwrap_or_default() } else { path.as_os_str() };
        self.hub.begin(path, name.to_string_lossy().into_owned(), task)
    }
}

impl Drop for View {
    /// Lets open pages see the end.
    fn drop(&mut self) {
        self.hub.closing.store(true, Relaxed);
        let until = Instant::now() + FAREWELL;
        while self.hub.streams.load(Relaxed) > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        // Wakes the thread that accepts.
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(if own.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        if TcpStream::connect_timeout(&own, FAREWELL).is_ok()
            && let Some(accepting) = self.accepting.take()
        {
            let _ = accepting.join();
        }
    }
}

/// Listens at the port, or at the next free one.
fn listen(host: &str, port: u16) -> Result<TcpListener, Failure> {
    let refused = |error: &dyn std::fmt::Display| {
        Failure::new(format!(
            "cannot open the view at {host}: {error}; name an address of this machine with --view-host, or another port"
        ))
    };
    let ip = (host, port).to_socket_addrs().map_err(|error| refused(&error))?.next();
    let ip = ip.ok_or_else(|| refused(&"it has no address"))?.ip();
    let last = port.saturating_add(if port == 0 { 0 } else { TRIES });
    let mut error = std::io::Error::from(ErrorKind::AddrInUse);
    for port in port..=last {
        match TcpListener::bind((ip, port)) {
            Ok(listener) => return Ok(listener),
            Err(failed) if failed.kind() == ErrorKind::AddrInUse => error = failed,
            Err(failed) => return Err(refused(&failed)),
        }
    }
    Err(refused(&error))
}

/// `hig view DIR…`: until Ctrl-C.
pub(crate) fn run(
    registry: &Registry,
    pictures: &Pictures,
    arguments: &FolderViewArguments,
) -> Result<ExitCode, Failure> {
    interrupt::listen()?;
    let (port, host) = (&arguments.port, arguments.view_host.as_deref());
    for path in &arguments.folders {
        if !Hub::new(registry, pictures).add(path) {
            let shown = path.display();
            return Err(Failure::new(format!(
                "{shown} holds no run and no study: it has no config.toml, metrics.csv or plan.toml; name a folder that {} train or compare writes",
                crate::voice::program()
            )));
        }
    }
    let view = View::serve(registry, pictures, "--port", port, host)?;
    for path in &arguments.folders {
        view.hub.add(path);
    }
    while !interrupt::asked() {
        std::thread::sleep(Duration::from_millis(50));
        interrupt::show(0.0, "view");
    }
    Ok(ExitCode::SUCCESS)
}

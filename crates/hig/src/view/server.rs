//! The server: a thread that accepts, and one for each connection, of which there are few.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::http::{self, Refusal, Request, Response};
use super::hub::Hub;
use super::live::Control;
use super::thin::MOST;

/// Connections at a time; a browser has six at most. Further ones are dropped.
const CONNECTIONS: usize = 48;
/// Between two looks at the runs for a stream of events.
const EVERY: Duration = Duration::from_millis(250);
/// A stream says something so often, or it would not be noticed that its browser has gone.
const SIGN: Duration = Duration::from_secs(5);
/// Columns of one request, at most.
const COLUMNS: usize = 20;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/view.css");
const CHART: &str = include_str!("page/chart.js");
const SCRIPT: &str = include_str!("page/view.js");
const ICON: &str = include_str!("page/icon.svg");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const SVG: &str = "image/svg+xml";

/// What every connection needs.
pub(super) struct Server {
    hub: Arc<Hub>,
    guard: Guard,
    open: AtomicUsize,
}

/// A connection that counts.
struct Place(Arc<Server>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Accepts connections until the hub closes.
pub(super) fn serve(listener: TcpListener, hub: Arc<Hub>, guard: Guard) -> JoinHandle<()> {
    let server = Arc::new(Server { hub, guard, open: AtomicUsize::new(0) });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if server.hub.closing.load(Relaxed) {
                return;
            }
            // No more files can be opened, or the like: it passes.
            let Ok(stream) = stream else {
                std::thread::sleep(EVERY);
                continue;
            };
            let place = Place(server.clone());
            if server.open.fetch_add(1, Relaxed) >= CONNECTIONS {
                continue;
            }
            // Where no thread can be had the connection is dropped.
            let _ =
                std::thread::Builder::new().name("view".to_owned()).spawn(move || place.0.connection(stream));
        }
    })
}

impl Server {
    fn connection(&self, mut stream: TcpStream) {
        let Ok(request) = http::read(&mut stream) else { return };
        let response = match request.and_then(|request| Ok((self.guard.admit(&request)?.to_owned(), request)))
        {
            Ok((path, request)) if path == "events" && request.method == "GET" => {
                self.hub.streams.fetch_add(1, Relaxed);
                let _ = self.events(&mut stream, number(&request, "run"));
                self.hub.streams.fetch_sub(1, Relaxed);
                return;
            }
            Ok((path, request)) => self.answer(&path, &request).unwrap_or_else(Response::refused),
            Err(refusal) => Response::refused(refusal),
        };
        let _ = response.write(&mut stream);
        // What is left of a request that was too long is not read; the answer is to arrive all the same.
        let _ = stream.shutdown(Shutdown::Write);
    }

    fn answer(&self, path: &str, request: &Request) -> Result<Response, Refusal> {
        let expected = if path == "control" { "POST" } else { "GET" };
        if request.method != expected {
            return Err((405, "not with this method"));
        }
        let shown =
            || number(request, "run").and_then(|id| self.hub.run(id)).ok_or((404, "there is no such run"));
        match path {
            "" => Ok(Response::new(HTML, PAGE)),
            "view.css" => Ok(Response::new(CSS, STYLE)),
            "chart.js" => Ok(Response::new(JAVASCRIPT, CHART)),
            "view.js" => Ok(Response::new(JAVASCRIPT, SCRIPT)),
            "icon.svg" => Ok(Response::new(SVG, ICON)),
            "rows" => {
                self.hub.refresh();
                let shown = shown()?;
                let names: Vec<&str> =
                    request.query("columns").unwrap_or_default().split(',').take(COLUMNS).collect();
                let ends = (number(request, "from"), number(request, "to"));
                let logarithmic = request.query("log") == Some("1");
                let buckets = number(request, "buckets").unwrap_or(1000).clamp(1, MOST);
                let over = request.query("over").unwrap_or("step");
                let curves =
                    super::live::lock(&shown.table).curves(over, &names, ends, (logarithmic, buckets));
                json(&curves)
            }
            "spectrum" => json(&shown()?.spectra()),
            "picture.svg" => {
                let painting = shown()?.canvas.painting().ok_or((404, "nothing is drawn yet"))?;
                Ok(Response::new(SVG, painting.svg.as_str()))
            }
            "picture" => {
                let painting = shown()?.canvas.painting().ok_or((404, "nothing is drawn yet"))?;
                json(&serde_json::json!({ "caption": painting.caption, "step": painting.step }))
            }
            "control" => self.control(request),
            _ => Err((404, "there is no such page")),
        }
    }

    fn control(&self, request: &Request) -> Result<Response, Refusal> {
        if request.header("content-type")? != Some(JSON) {
            return Err((415, "a control is JSON"));
        }
        let control: Control =
            serde_json::from_slice(&request.body).map_err(|_| (400, "this is no control"))?;
        if let Control::LearningRate { to } = control
            && !(to > 0.0 && to.is_finite())
        {
            return Err((400, "a learning rate is a positive number"));
        }
        let id = number(request, "run").ok_or((404, "there is no such run"))?;
        self.hub.control(id, control).map_err(|sentence| (409, sentence))?;
        json(&())
    }

    /// Sends the overview whenever it has changed, until the browser goes or this process ends.
    fn events(&self, stream: &mut TcpStream, drawn: Option<usize>) -> std::io::Result<()> {
        http::begin_events(stream)?;
        let (mut sent, mut when) = (String::new(), Instant::now());
        loop {
            let closing = self.hub.closing.load(Relaxed);
            self.hub.refresh();
            if let Some(id) = drawn.filter(|_| !closing) {
                self.hub.paint(id);
            }
            let overview = serde_json::to_string(&self.hub.overview())?;
            if overview != sent || when.elapsed() > SIGN {
                http::send_event(stream, &overview)?;
                (sent, when) = (overview, Instant::now());
            }
            if closing {
                return Ok(());
            }
            std::thread::sleep(EVERY);
        }
    }
}

fn number<T: std::str::FromStr>(request: &Request, key: &str) -> Option<T> {
    request.query(key)?.parse().ok()
}

fn json(value: &impl serde::Serialize) -> Result<Response, Refusal> {
    let text = serde_json::to_vec(value).map_err(|_| (500, "this cannot be written as JSON"))?;
    Ok(Response::new(JSON, text))
}

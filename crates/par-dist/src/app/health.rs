//! [`Health`]: how a worker is, told by HTTP to whoever asks, such as a supervisor of containers.

use super::crew::Crew;
use super::worker::RunningWorker;
use serde_json::json;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use tiny_http::{Header, Method, Response, Server};

/// Tells how a worker is at `/health`, as JSON: 200 where it can speak to its broker, and 503 where it cannot. It ends with this value.
///
/// ```
/// use par_dist::app::{App, Health};
/// use std::io::{Read, Write};
///
/// let app = App::builder("demo").broker("memory:").build()?;
/// let worker = app.worker().start()?;
/// let health = Health::start(&worker, "127.0.0.1:0".parse()?)?;
/// let mut asks = std::net::TcpStream::connect(health.address())?;
/// asks.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
/// let mut text = String::new();
/// asks.read_to_string(&mut text)?;
/// assert!(text.contains(" 200 ") && text.contains("\"status\":\"ok\""), "{text}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Health {
    server: Arc<Server>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Health {
    /// Listens there; at port 0 at one that is free.
    ///
    /// # Errors
    /// What the system says if it cannot.
    pub fn start(worker: &RunningWorker, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let server = Arc::new(Server::from_listener(listener, None).map_err(io::Error::other)?);
        let (crew, here) = (Arc::clone(&worker.crew), Arc::clone(&server));
        let thread = std::thread::Builder::new()
            .name("par-dist-health".to_owned())
            .spawn(move || answer(&crew, &here))?;
        Ok(Health {
            server,
            address,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn answer(crew: &Crew, server: &Server) {
    for request in server.incoming_requests() {
        let known = request.url() == "/health" && *request.method() == Method::Get;
        let (code, text) = if known {
            let state = crew.state.lock();
            let status = if state.trouble.is_none() {
                "ok"
            } else {
                "no broker"
            };
            let body = json!({
                "status": status,
                "trouble": state.trouble,
                "running": state.running,
                "ended": state.ended,
            });
            (if state.trouble.is_none() { 200 } else { 503 }, body)
        } else {
            (404, json!({ "status": "only GET /health is answered" }))
        };
        let mut response = Response::from_string(text.to_string()).with_status_code(code);
        if let Ok(header) = Header::from_bytes("content-type", "application/json") {
            response.add_header(header);
        }
        // Who asked may have gone.
        let _ = request.respond(response);
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Health").field(&self.address).finish()
    }
}

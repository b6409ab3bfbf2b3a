//! One connection: a request within its limits, and the answer.

use super::{Job, Limits, Quick, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Nothing but what this server sends: a page can be as strange as a file's name.
const POLICY: &str = "default-src 'none'; img-src 'self' blob:; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// What answers a connection.
#[derive(Clone)]
pub struct Connection {
    pub limits: Limits,
    /// Whether only this machine can ask.
    pub local: bool,
    pub quick: Arc<Quick>,
    pub jobs: Sender<Job>,
}

impl Connection {
    /// Answers one request; what takes too long is cut off.
    pub async fn answer(self, stream: TcpStream) {
        let limits = self.limits;
        let service = service_fn(move |request| {
            let connection = self.clone();
            async move { Ok::<_, Infallible>(sent(connection.respond(request).await)) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(limits.time).keep_alive(false);
        // Who sends nonsense, too little or nothing is left alone. Twice the time: for what is received, and for what is sent.
        let _ = timeout(2 * limits.time, server.serve_connection(TokioIo::new(stream), service)).await;
    }

    async fn respond(&self, request: hyper::Request<Incoming>) -> Response {
        if self.local && !is_for_this_machine(request.headers()) {
            return Response::failed(421, "expected a request to this machine: open the address that was printed");
        }
        let (head, body) = request.into_parts();
        let most = self.limits.body;
        let too_large =
            || Response::failed(413, &format!("expected at most {most} bytes, found more, or a request that broke off"));
        // What says that it is too large is not waited for.
        if body.size_hint().lower() > most as u64 {
            return too_large();
        }
        let read = match timeout(self.limits.time, Limited::new(body, most).collect()).await {
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            Ok(Err(_)) => return too_large(),
            Err(_) => return Response::failed(408, "the request took too long"),
        };
        let request = Request {
            method: head.method.as_str().to_owned(),
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            body: read,
        };
        let (quick, jobs) = (self.quick.clone(), self.jobs.clone());
        let answered = spawn_blocking(move || match quick(&request) {
            Some(response) => Ok(response),
            None => {
                let (answer, answered) = oneshot::channel();
                // Where nobody takes it, nobody answers.
                let _ = jobs.send((request, answer));
                Err(answered)
            }
        });
        let gone = || Response::failed(503, "the server is about to stop");
        match answered.await {
            Ok(Ok(response)) => response,
            Ok(Err(answered)) => answered.await.unwrap_or_else(|_| gone()),
            Err(_) => Response::failed(500, "the request could not be answered"),
        }
    }
}

/// Whether the browser took this for a server of this machine: a page from elsewhere may have led it here under another name.
fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())).map_or(host, |(name, _)| name);
    name == "localhost" || name.trim_matches(['[', ']']).parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

fn sent(response: Response) -> hyper::Response<Full<Bytes>> {
    let builder = hyper::Response::builder().status(response.status).header(CONTENT_TYPE, response.kind);
    let builder = builder.header(X_CONTENT_TYPE_OPTIONS, "nosniff").header(CONTENT_SECURITY_POLICY, POLICY);
    let builder = if response.status == 405 { builder.header(ALLOW, "GET, POST") } else { builder };
    let builder = builder.header(CACHE_CONTROL, "no-store");
    builder.body(Full::new(response.body.into())).expect("a status and headers that are fixed")
}

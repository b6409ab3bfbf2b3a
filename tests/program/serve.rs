//! The limits of the server, and its end.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use xbm_fast::app::serve::{Limits, Request, Response, listen, serve};

const PATIENCE: Duration = Duration::from_secs(60);

/// What a server with such limits answers to `asked`, and that it ends.
fn with_server(limits: Limits, ask: impl FnOnce(SocketAddr)) {
    let listener = listen("0").unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), AtomicBool::new(false));
    let quick = |request: &Request| (request.path != "/slow").then(|| Response::ok("text/plain", request.body.clone()));
    std::thread::scope(|scope| {
        let server =
            scope.spawn(|| serve(listener, limits, &stop, Arc::new(quick), |_| Response::ok("text/plain", "by the device")));
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(address)));
        stop.store(true, Ordering::Release);
        server.join().unwrap().unwrap();
        asked.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    });
}

fn answer(address: SocketAddr, sent: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    let mut answer = String::new();
    // A connection that is cut off may be reset.
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[track_caller]
fn assert_status(answer: &str, status: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "expected {status}: {answer}");
}

#[test]
fn what_is_large_strange_or_from_elsewhere_is_refused() {
    with_server(Limits { body: 100, ..Limits::default() }, |address| {
        let post = |host: &str, stated: usize, body: &str| {
            answer(address, &format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {stated}\r\n\r\n{body}"))
        };
        assert!(post("localhost", 5, "hello").ends_with("hello"));
        assert_status(&post("127.0.0.1:8077", 5, "hello"), "200");
        assert_status(&post("[::1]:8077", 5, "hello"), "200");
        // Not one of its bytes is waited for.
        assert_status(&post("localhost", 101, ""), "413");
        let chunk = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n{}\r\n0\r\n\r\n",
            "x".repeat(101)
        );
        assert_status(&answer(address, &chunk), "413");
        for host in ["example.org", "localhost.example.org", "192.168.1.2:8077", ""] {
            assert_status(&post(host, 0, ""), "421");
        }
        assert_status(&answer(address, "nonsense\r\n\r\n"), "400");
        assert!(answer(address, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n").ends_with("by the device"));
    });
}

#[test]
fn who_sends_nothing_or_half_is_cut_off_and_holds_nobody_up() {
    let limits = Limits { time: Duration::from_millis(300), connections: 4, ..Limits::default() };
    with_server(limits, |address| {
        let idle: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_status(&answer(address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), "200");
        let half = answer(address, "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
        assert_status(&half, "408");
        for mut stream in idle {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            assert!(matches!(stream.read(&mut [0; 64]), Ok(_) | Err(_)), "it ends");
        }
    });
}

//! An index that lives, as it is typed: added to, looked at again, searched, served and handed on.

use super::place::{Place, TINY, assert_says};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn scene() -> Place {
    let place = Place::new();
    place.photos(6, 3, &[]);
    place.works(TINY);
    place
}

fn json(place: &Place, line: &str) -> serde_json::Value {
    let output = place.shell(&format!("xbm-fast {line}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Added, replaced, removed, unchanged.
#[track_caller]
fn assert_done(done: &serde_json::Value, expected: [u64; 4]) {
    let found = ["added", "replaced", "removed", "unchanged"].map(|key| done[key].as_u64().unwrap());
    assert_eq!(found, expected, "{done}");
}

#[test]
fn an_index_follows_its_photographs() {
    let place = scene();
    assert_says(&place.refuses("index add ix --data folder:photos"), &["a new index needs a model", "--checkpoint"]);
    assert!(!place.path("ix").exists());
    assert_done(&json(&place, "index add ix --data folder:photos --checkpoint run --json"), [18, 0, 0, 0]);
    assert_done(&json(&place, "index add ix --data folder:photos --json"), [0, 0, 0, 18]);
    place.shell("mkdir -p loose && cp 'photos/class 0/0.png' loose/a.png && echo words > loose/b.png && cp 'photos/class 1/1.png' loose/c.png");
    let said = place.works("index add ix --data folder:loose");
    assert_says(&said, &["left out", "b.png: expected an image", "2 added, 0 replaced, 0 removed, 0 unchanged; 20 images in ix"]);
    assert_done(&json(&place, "index add ix --data - --json < /dev/stdin << END\nloose/a.png\nloose/c.png\nEND"), [0, 0, 0, 2]);
    let piped = place.shell("cp loose/a.png piped.png && echo piped.png | xbm-fast index add ix --data - --json");
    assert_done(&serde_json::from_slice(&piped.stdout).unwrap(), [1, 0, 0, 0]);

    // One photograph is another now, one is gone, one has come.
    place.shell("cp 'photos/class 5/2.png' 'photos/class 0/0.png' && rm loose/c.png && cp 'photos/class 2/0.png' loose/d.png && rm piped.png");
    let found = json(&place, "search --index ix --query 'photos/class 5/2.png' --top 21 --json");
    let same = |found: &serde_json::Value| {
        let hits = found[0]["hits"].as_array().unwrap();
        hits.iter()
            .filter(|hit| hit["same_picture"] == true)
            .map(|hit| hit["path"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(same(&found), [place.path("photos/class 5/2.png").display().to_string()]);
    place.works("search --index ix --query 'photos/class 5/2.png' --top 21 --out stale.html");
    let stale = std::fs::read_to_string(place.path("stale.html")).unwrap();
    assert_says(&stale, &["was replaced since", "is no longer there", "xbm-fast index update"]);
    assert_done(&json(&place, "index update ix --json"), [1, 1, 2, 18]);
    let found = json(&place, "search --index ix --query 'photos/class 5/2.png' --top 21 --json");
    assert_eq!(found[0]["hits"].as_array().unwrap().len(), 20);
    let mut both = same(&found);
    both.sort();
    assert_eq!(both, ["photos/class 0/0.png", "photos/class 5/2.png"].map(|name| place.path(name).display().to_string()));
    // From anywhere, by a page with the pictures of now.
    place.shell("mkdir elsewhere && cd elsewhere && xbm-fast search --index ../ix --query ../loose/d.png --out found.html");
    let page = std::fs::read_to_string(place.path("elsewhere/found.html")).unwrap();
    assert!(!page.contains("no longer there") && !page.contains("was replaced"));

    let row = found[0]["hits"][0]["row"].as_u64().unwrap();
    assert_says(&place.works(&format!("index remove ix --id {row} 'photos/class 1'")), &["4 removed; 16 images in ix"]);
    assert_says(&place.refuses("index remove ix photos/none"), &["photos/none", "no image of the index is there"]);
    assert_says(&place.refuses(&format!("index remove ix --id {row}")), &["no image of the index has it"]);
    place.shell("rm 'photos/class 2/1.png'");
    assert_says(&place.works("index remove ix --missing"), &["1 removed; 15 images"]);
    let info = json(&place, "index info ix --json");
    assert_eq!((&info["images"], &info["dim"], &info["rows"]), (&15.into(), &8.into(), &"f32".into()));
    let output = place.shell("xbm-fast index info ix");
    assert_says(
        &String::from_utf8(output.stdout).unwrap(),
        &["ix: 15 images", "from      folder:", "best.safetensors", "8 numbers in f32"],
    );
    // A model that has moved, and one that is another.
    place.shell("mv run moved");
    assert_says(&place.refuses("index update ix"), &["say where it is with --checkpoint"]);
    assert_done(&json(&place, "index update ix --checkpoint moved --json"), [4, 0, 0, 15]);
    place.works(&super::place::tiny("--seed 4 --steps 4"));
    assert_says(&place.refuses("index add ix --data folder:loose --checkpoint run"), &["cannot be compared", "make a new index"]);
}

#[test]
fn what_is_exported_is_what_was_embedded() {
    let place = scene();
    place.works("index add ix --data folder:photos --checkpoint run");
    place.works("index add half --data folder:photos --checkpoint run --rows f16");
    place.works("embed --data folder:photos --checkpoint run --out rows.npy");
    for name in ["out.npy", "out.safetensors", "out.faiss"] {
        place.works(&format!("index export ix --out {name}"));
        assert_eq!(std::fs::read_to_string(place.path("out.csv")).unwrap().lines().count(), 1 + 18);
    }
    assert!(std::fs::read(place.path("rows.npy")).unwrap() == std::fs::read(place.path("out.npy")).unwrap());
    // What `faiss.write_index` writes before and after the length of an `IndexFlatIP` of 18 rows of 8 numbers.
    let (faiss, rows) = (std::fs::read(place.path("out.faiss")).unwrap(), std::fs::read(place.path("rows.npy")).unwrap());
    let numbers = &rows[rows.len() - 18 * 8 * 4..];
    let head = b"IxFI\x08\0\0\0\x12\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\x10\0\0\0\0\0\x01\0\0\0\0\x90\0\0\0\0\0\0\0";
    assert!(faiss == [&head[..], numbers].concat());
    assert_says(&place.refuses("search --index out.faiss --query 'photos/class 0/0.png'"), &["written only"]);
    place.works("index export rows.npy --out again.safetensors");
    for index in ["out.npy", "out.safetensors", "ix", "half"] {
        let found = json(&place, &format!("search --index {index} --query 'photos/class 3/1.png' --top 1 --json"));
        assert!((found[0]["hits"][0]["similarity"].as_f64().unwrap() - 1.0).abs() < 1e-3, "{index}: {found}");
    }
    assert_says(&place.refuses("index add half --data folder:photos --rows f32"), &["the index has rows of f16"]);
    assert_says(
        &place.refuses("index add photos --data folder:photos --checkpoint run"),
        &["an empty folder", "a folder of its own"],
    );
    assert_says(&place.refuses("index info photos"), &["expected an index", "index add"]);
    assert_says(&place.refuses("index info none"), &["none", "No such file"]);
}

/// A server that ends with the test.
struct Server(Child, u16);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(place: &Place, index: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xbm-fast"));
        command.args(["search", "--device", "cpu", "--index", index, "--serve", "127.0.0.1:0"]).current_dir(place.path(""));
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.find_map(|line| line.ok().filter(|line| line.starts_with("serving"))).expect("it says where");
        // Whatever it says later must not stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let port = line.split("127.0.0.1:").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
        Self(child, port)
    }

    /// Its exit code, once it has ended; nothing where it does not.
    fn ended(&mut self) -> Option<i32> {
        let patience = Instant::now() + Duration::from_secs(60);
        while Instant::now() < patience {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// The head and the body of an answer.
    fn ask(&self, head: &str, body: &[u8]) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "{head}\r\nHost: localhost:{}\r\nContent-Length: {}\r\n\r\n", self.1, body.len()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end].to_vec()).unwrap(), answer[end + 4..].to_vec())
    }

    fn json(&self, head: &str, body: &[u8]) -> (String, serde_json::Value) {
        let (head, body) = self.ask(head, body);
        (head, serde_json::from_slice(&body).unwrap())
    }
}

#[test]
fn a_browser_is_answered_until_somebody_asks_to_stop() {
    let place = scene();
    place.works("index add ix --data folder:photos --checkpoint run");
    let mut server = Server::start(&place, "ix");
    for (path, kind, words) in
        [("/", "text/html", "Search by picture"), ("/page.js", "javascript", "fetch("), ("/page.css", "css", "#drop")]
    {
        let (head, body) = server.ask(&format!("GET {path} HTTP/1.1"), b"");
        assert_says(&head, &["HTTP/1.1 200", kind, "content-security-policy: default-src 'none'", "nosniff"]);
        assert_says(&String::from_utf8(body).unwrap(), &[words]);
    }
    let picture = std::fs::read(place.path("photos/class 3/1.png")).unwrap();
    let (head, found) = server.json("POST /search?top=4 HTTP/1.1", &picture);
    assert_says(&head, &["200 OK", "application/json"]);
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 4);
    assert!(
        hits.iter().any(|hit| hit["same_picture"] == true && hit["path"].as_str().unwrap().ends_with("class 3/1.png")),
        "{found}"
    );
    let (head, small) = server.ask(&format!("GET /thumbnail/{} HTTP/1.1", hits[0]["row"]), b"");
    assert_says(&head, &["200 OK", "image/jpeg"]);
    assert_eq!(image::load_from_memory(&small).unwrap().width(), 18);
    // The index that is served is the one of now.
    assert_eq!(server.json("GET /info HTTP/1.1", b"").1["images"], 18);
    place.works("index remove ix 'photos/class 3'");
    let (_, found) = server.json("POST /search?top=100 HTTP/1.1", &picture);
    assert_eq!((found["hits"].as_array().unwrap().len(), &server.json("GET /info HTTP/1.1", b"").1["images"]), (15, &15.into()));

    for (line, body, status) in [
        ("POST /search HTTP/1.1", &b"words"[..], "422"),
        ("POST /search?top=0 HTTP/1.1", &picture, "400"),
        ("POST /search?top=many HTTP/1.1", &picture, "400"),
        ("GET /search HTTP/1.1", b"", "405"),
        ("DELETE / HTTP/1.1", b"", "405"),
        ("GET /../etc/passwd HTTP/1.1", b"", "404"),
        ("GET /thumbnail/99999 HTTP/1.1", b"", "404"),
        ("GET /thumbnail/-1 HTTP/1.1", b"", "404"),
    ] {
        let (head, answer) = server.json(line, body);
        assert_says(&head, &[&format!("HTTP/1.1 {status}")]);
        assert!(answer["error"].as_str().is_some_and(|words| !words.is_empty()), "{line}: {answer}");
    }
    let taken = format!("search --index ix --serve 127.0.0.1:{}", server.1);
    assert_says(&place.refuses(&taken), &["another program listens there; choose another port"]);
    assert_says(&place.refuses("search --index ix --serve nowhere"), &["expected HOST:PORT or PORT"]);

    // Not Ctrl-C's: that is ignored where a shell has started the tests in the background.
    let stopped = Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert_eq!(server.ended(), Some(0));
}

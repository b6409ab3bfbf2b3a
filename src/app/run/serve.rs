//! An index that answers a browser: a page, and JSON for programs.
//!
//! | request | answer |
//! |---|---|
//! | `POST /search?top=10`, an image file as the body | `{"hits": [...], "milliseconds": ...}`, hits as `xbm-fast search --json` prints them |
//! | `GET /info` | `{"images": ..., "data": ...}` |
//! | `GET /thumbnail/ROW` | a JPEG of that row's image, at most 192 pixels wide and high |
//! | `GET /` | the page |

use super::{Pictures, Query, Search};
use crate::app::data::Image;
use crate::app::report::Thumbnail;
use crate::app::serve::{Limits, Quick, Request, Response, serve};
use crate::error::Result;
use crate::ops::Backend;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// Hits where a request does not say how many.
const HITS: usize = 10;
/// Hits of one request at most.
const MOST_HITS: usize = 1000;

const PAGE: &str = include_str!("../serve/page.html");
const STYLE: &str = include_str!("../serve/page.css");
const SCRIPT: &str = include_str!("../serve/page.js");

/// Answers until `stop` is set.
///
/// # Errors
/// No thread can be started.
pub fn serve_search<B: Backend>(search: &mut Search<'_, B>, listener: TcpListener, stop: &AtomicBool) -> Result<()> {
    let pictures = search.pictures();
    let quick: Arc<Quick> = Arc::new(move |request| answer_quickly(request, &pictures));
    serve(listener, Limits::default(), stop, quick, |request| find(search, request))
}

/// All but a search; nothing for that.
fn answer_quickly(request: &Request, pictures: &Pictures) -> Option<Response> {
    let Request { method, path, .. } = request;
    let is_reading = method == "GET" || method == "HEAD";
    Some(match path.as_str() {
        "/search" if method == "POST" => return None,
        "/search" => Response::failed(405, "expected POST with an image file as the body"),
        _ if !is_reading => Response::failed(405, "expected GET"),
        "/" => Response::ok("text/html; charset=utf-8", PAGE),
        "/page.css" => Response::ok("text/css; charset=utf-8", STYLE),
        "/page.js" => Response::ok("text/javascript; charset=utf-8", SCRIPT),
        "/info" => {
            let index = pictures.index();
            let info = serde_json::json!({ "images": index.len(), "data": index.data() });
            Response::ok("application/json", info.to_string())
        }
        other => match other.strip_prefix("/thumbnail/").and_then(|row| row.parse().ok()) {
            Some(row) => thumbnail(pictures, row),
            None => Response::failed(404, "there is nothing here; the page is at /"),
        },
    })
}

fn thumbnail(pictures: &Pictures, number: usize) -> Response {
    let index = pictures.index();
    let Some(position) = index.position(number) else { return Response::failed(404, "no image of the index has that row") };
    let small = |image: Image| Thumbnail::from_rgb(&image.rgb, image.height, image.width).map_err(|error| error.to_string());
    let picture = pictures.find(&index, position).and_then(small);
    // Where the picture is gone, a crossed-out square says so.
    Response::ok("image/jpeg", picture.unwrap_or_else(|_| Thumbnail::missing()).into_jpeg())
}

fn find<B: Backend>(search: &mut Search<'_, B>, request: Request) -> Response {
    let top = match request.parameter("top").map(str::parse::<usize>) {
        None => HITS,
        Some(Ok(top)) if (1..=MOST_HITS).contains(&top) => top,
        Some(_) => return Response::failed(400, &format!("top: expected 1 to {MOST_HITS}")),
    };
    let start = Instant::now();
    search.refresh();
    match search.find(&[Query::bytes("the picture", request.body)], top) {
        Ok((found, _)) => {
            let milliseconds = 1e3 * start.elapsed().as_secs_f64();
            let answer = serde_json::json!({ "hits": found[0].hits, "milliseconds": milliseconds });
            Response::ok("application/json", answer.to_string())
        }
        Err(error) => Response::failed(422, &error.to_string()),
    }
}

//! Of poolings.

use super::Fault;

/// The source of poolings.
pub const POOL: &str = "pool.cu";
/// Of poolings: the search for maxima, and the strips of the backward pass.
pub const POOL_FAULTS: [Fault; 13] = [
    (
        "the first of equal maxima",
        POOL,
        "if (!(value <= best[c]) && best[c] == best[c]) {",
        "if (!(value < best[c]) && best[c] == best[c]) {",
    ),
    (
        "a NaN over everything",
        POOL,
        "if (!(value <= best[c]) && best[c] == best[c]) {",
        "if (value > best[c] && best[c] == best[c]) {",
    ),
    ("the first NaN", POOL, "if (!(value <= best[c]) && best[c] == best[c]) {", "if (!(value <= best[c])) {"),
    ("edges of the image", POOL, "return value < 0 ? 0 : value < int(size) ? value : int(size) - 1;", "return value;"),
    ("where a window ends in its row", POOL, "else if (place > 0 && place < WINDOW)", "else if (place > 0)"),
    ("threads to spare", POOL, "if (!strip.inside) return;", ""),
    ("output rows", POOL, "out_row >= int(params.out_height) || out_column", "out_column"),
    ("output columns", POOL, " || out_column >= int(params.out_width)) continue;", ") continue;"),
    ("rows of pixels", POOL, "if (mine && row < int(params.height) && ", "if (mine && "),
    ("columns of pixels", POOL, " && pixel.column < int(params.width)) {", ") {"),
    ("the row before the strip", POOL, "finish(row - 1, column, out_row > first);", "finish(row - 1, column, out_row > 0);"),
    ("the row behind the strip", POOL, "finish(row, column, out_row < end);", "finish(row, column, true);"),
    ("maxima of the shared row", POOL, "maxima[i] = last[i];", "maxima[i] = middle[i];"),
];

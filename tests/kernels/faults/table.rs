//! The seeded faults, by the source that a test compiles with them.

/// What is removed, the file it is in, its text, and what replaces it.
pub type Fault = (&'static str, &'static str, &'static str, &'static str);

/// Of the fused pair loss, and of the tiles that retrieval shares.
pub const PAIR_LOSS_FAULTS: [Fault; 25] = [
    (
        "barrier after the tile's copies have landed",
        "similarity.cuh",
        "stage that the next copy overwrites.\n    block_barrier();",
        "stage that the next copy overwrites.",
    ),
    (
        "wait for the tile's copies",
        "similarity.cuh",
        "tile++) {\n    copy_async_wait<0>();",
        "tile++) {\n    copy_async_wait<1>();",
    ),
    ("wait after the last tile", "similarity.cuh", "  }\n  copy_async_wait<0>();\n", "  }\n"),
    (
        "barrier before row sums overwrite memory rows",
        "similarity.cuh",
        "are still reading.\n  block_barrier();",
        "are still reading.",
    ),
    (
        "barrier after partial similarities are exchanged",
        "similarity.cuh",
        "partial similarities are there.\n  block_barrier();",
        "partial similarities are there.",
    ),
    (
        "blocks that a warp keeps for itself",
        "similarity.cuh",
        "if (block < Tiles::OWN_BLOCKS && place.owns_blocks()) continue;",
        "if (block < Tiles::OWN_BLOCKS) continue;",
    ),
    ("warps without blocks of their own, on adding", "similarity.cuh", "  if (!place.owns_blocks()) return;\n", ""),
    ("order of the sources of an exchange", "similarity.cuh", "place.slice - (place.slice > receiver)", "place.slice"),
    (
        "warps without blocks of their own, on weights",
        "pair_loss/fused.cu",
        "if (place.owns_blocks()) publish_weights",
        "publish_weights",
    ),
    (
        "barrier after weights are exchanged",
        "pair_loss/fused.cu",
        "Shared::PITCH, place, s);\n      block_barrier();",
        "Shared::PITCH, place, s);",
    ),
    ("barrier before row sums are read", "pair_loss/tile.cuh", "= mine;\n  }\n  block_barrier();", "= mine;\n  }"),
    ("which slices have sums of a row", "pair_loss/tile.cuh", "if (Tiles::owns_row(slice, row)) total", "total"),
    (
        "predicate of rows in use, on tiles",
        "pair_loss/tile.cuh",
        "bool found = tile.first + Tiles::ROWS > in_use;",
        "bool found = false;",
    ),
    (
        "predicate of rows in use, on pairs",
        "pair_loss/tile.cuh",
        "const uint32_t left = row < in_use, right = row + 1 < in_use;",
        "const uint32_t left = 1, right = 1;",
    ),
    ("predicate of anchors, on gradients", "pair_loss/fused.cu", "if (anchor >= params.tiles.rows.anchor_count) continue;", ""),
    (
        "predicate of anchors, on row sums",
        "pair_loss/tile.cuh",
        "if (row >= Tiles::ANCHORS || anchor >= anchors) return;",
        "if (row >= Tiles::ANCHORS) return;",
    ),
    (
        "predicate of the tile, on row sums",
        "pair_loss/tile.cuh",
        "if (row >= Tiles::ANCHORS || anchor >= anchors) return;",
        "if (anchor >= anchors) return;",
    ),
    (
        "end of the split",
        "similarity.cuh",
        "first_tile + source.tiles_per_split < tiles ? first_tile + source.tiles_per_split : tiles",
        "tiles",
    ),
    (
        "vote of the warp on skipping memory rows",
        "pair_loss/fused.cu",
        "if (!warp_any((bits & MAGNITUDES) != 0)) continue;",
        "if ((bits & MAGNITUDES) == 0) continue;",
    ),
    ("second stage", "similarity.cuh", "const uint32_t stage = tile % 2, first = tile", "const uint32_t stage = 0, first = tile"),
    (
        "predicate of rows in use, on copied rows",
        "similarity.cuh",
        "const bool valid = first + row < count && chunk * NUMBERS < dim;",
        "const bool valid = chunk * NUMBERS < dim;",
    ),
    (
        "end of a row that is shorter than its tiling",
        "similarity.cuh",
        "const bool valid = first + row < count && chunk * NUMBERS < dim;",
        "const bool valid = first + row < count;",
    ),
    (
        "predicate of rows in use, on copied labels",
        "similarity.cuh",
        "const bool valid = first + row < count;\n  copy",
        "const bool valid = true;\n  copy",
    ),
    ("predicate of the tile, on copied labels", "similarity.cuh", "if (row >= ROWS) return;", ""),
    ("own slot", "pair_loss/tile.cuh", "found |= !by_instance && uint32_t(own[which]) - tile.first < Tiles::ROWS;", ""),
];

/// The source of batch norms.
pub const BATCH_NORM: &str = "batch_norm.cu";
/// Of batch norms.
pub const BATCH_NORM_FAULTS: [Fault; 11] = [
    (
        "barrier before moments of lanes are read",
        BATCH_NORM,
        "  block_barrier();\n  if (!has_column(params, owned)) return;\n  const uint32_t",
        "  if (!has_column(params, owned)) return;\n  const uint32_t",
    ),
    (
        "barrier before gradients of lanes are read",
        BATCH_NORM,
        "  block_barrier();\n  if (!has_column(params, owned)) return;\n  float",
        "  if (!has_column(params, owned)) return;\n  float",
    ),
    (
        "barrier before moments of ranges are read",
        BATCH_NORM,
        "  }\n  block_barrier();\n  if (lane != 0 || channel",
        "  }\n  if (lane != 0 || channel",
    ),
    ("barrier before gradients of ranges are read", BATCH_NORM, "= sums;\n  block_barrier();\n", "= sums;\n"),
    ("threads to spare", BATCH_NORM, "owned.row_lane < owned.row_lanes && ", ""),
    ("end of the channels", BATCH_NORM, " && owned.channel < params.channels", ""),
    ("end of the columns", BATCH_NORM, "thread_index() < owned.columns && ", ""),
    ("end of the channels, of columns", BATCH_NORM, " && column_channel(owned) < params.channels", ""),
    (
        "end of the last range",
        BATCH_NORM,
        "left < params.rows_per_range ? uint32_t(left) : params.rows_per_range",
        "params.rows_per_range",
    ),
    (
        "end of the channels, of the sums of moments",
        BATCH_NORM,
        "if (lane != 0 || channel >= params.channels) return;\n  const Moments",
        "if (lane != 0) return;\n  const Moments",
    ),
    (
        "end of the channels, of the sums of gradients",
        BATCH_NORM,
        "if (lane != 0 || channel >= params.channels) return;\n  for",
        "if (lane != 0) return;\n  for",
    ),
];

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

/// The source of optimisers.
pub const OPTIMIZER: &str = "optimizer.cu";
/// Of optimisers: groups, and neighbours that move together.
pub const OPTIMIZER_FAULTS: [Fault; 9] = [
    (
        "neighbours of several groups",
        OPTIMIZER,
        "const bool together = stretch.holds(index, count.VALUE);",
        "const bool together = true;",
    ),
    ("neighbours one by one", OPTIMIZER, "visit_if_together(index + i, Count<1>{});", "(void)i;"),
    ("the group found last", OPTIMIZER, "if (!stretch.holds(index, 1)) stretch", "if (stretch.end == 0) stretch"),
    ("parameters of no group", OPTIMIZER, "if (together && stretch.in_group) visit", "if (together) visit"),
    ("end of a group", OPTIMIZER, "end = before.start + before.len;", "end = before.start + before.len + 1;"),
    ("end of the parameters between groups", OPTIMIZER, "low < count ? groups[low].start : ~uint64_t(0)", "~uint64_t(0)"),
    ("end of the vectors", OPTIMIZER, "in_vectors ? len / N : 0", "in_vectors ? len / N + 1 : 0"),
    (
        "values behind the vectors",
        OPTIMIZER,
        "i < len; i += threads) visit(i, Count<1>{});",
        "i < vectors * N; i += threads) visit(i, Count<1>{});",
    ),
    ("a gradient that is not finite", OPTIMIZER, "if (scalars.skip) return;", ""),
];

//! Of the fused pair loss and the tiles under it.

use super::Fault;

/// Of the fused pair loss.
pub const PAIR_LOSS_FAULTS: [Fault; 25] = [
    (
        "barrier after the tile's copies have landed",
        "pair_loss/similarity.cuh",
        "stage that the next copy overwrites.\n    block_barrier();",
        "stage that the next copy overwrites.",
    ),
    (
        "wait for the tile's copies",
        "pair_loss/similarity.cuh",
        "tile++) {\n    copy_async_wait<0>();",
        "tile++) {\n    copy_async_wait<1>();",
    ),
    ("wait after the last tile", "pair_loss/similarity.cuh", "  }\n  copy_async_wait<0>();\n", "  }\n"),
    (
        "barrier before row sums overwrite memory rows",
        "pair_loss/similarity.cuh",
        "are still reading.\n  block_barrier();",
        "are still reading.",
    ),
    (
        "barrier after partial similarities are exchanged",
        "pair_loss/similarity.cuh",
        "partial similarities are there.\n  block_barrier();",
        "partial similarities are there.",
    ),
    (
        "blocks that a warp keeps for itself",
        "pair_loss/similarity.cuh",
        "if (block < Tiles::OWN_BLOCKS && place.owns_blocks()) continue;",
        "if (block < Tiles::OWN_BLOCKS) continue;",
    ),
    ("warps without blocks of their own, on adding", "pair_loss/similarity.cuh", "  if (!place.owns_blocks()) return;\n", ""),
    ("order of the sources of an exchange", "pair_loss/similarity.cuh", "place.slice - (place.slice > receiver)", "place.slice"),
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
        "pair_loss/similarity.cuh",
        "first_tile + source.tiles_per_split < tiles ? first_tile + source.tiles_per_split : tiles",
        "tiles",
    ),
    (
        "vote of the warp on skipping memory rows",
        "pair_loss/fused.cu",
        "if (!warp_any((bits & MAGNITUDES) != 0)) continue;",
        "if ((bits & MAGNITUDES) == 0) continue;",
    ),
    (
        "second stage",
        "pair_loss/similarity.cuh",
        "const uint32_t stage = tile % 2, first = tile",
        "const uint32_t stage = 0, first = tile",
    ),
    (
        "predicate of rows in use, on copied rows",
        "pair_loss/similarity.cuh",
        "const bool valid = first + row < count && chunk * NUMBERS < dim;",
        "const bool valid = chunk * NUMBERS < dim;",
    ),
    (
        "end of a row that is shorter than its tiling",
        "pair_loss/similarity.cuh",
        "const bool valid = first + row < count && chunk * NUMBERS < dim;",
        "const bool valid = first + row < count;",
    ),
    (
        "predicate of rows in use, on copied labels",
        "pair_loss/similarity.cuh",
        "const bool valid = first + row < count;\n  copy",
        "const bool valid = true;\n  copy",
    ),
    ("predicate of the tile, on copied labels", "pair_loss/similarity.cuh", "if (row >= ROWS) return;", ""),
    ("own slot", "pair_loss/tile.cuh", "found |= !by_instance && uint32_t(own[which]) - tile.first < Tiles::ROWS;", ""),
];

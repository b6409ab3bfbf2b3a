// How a block of threads goes through its split of the memory: common to fused.cu and row_stats.cu.
#pragma once
#include "row.cuh"
#include "../similarity.cuh"

struct PairTiles {
  PairRows rows;
  const uint16_t* anchors;
  const uint16_t* memory;
  uint32_t tiles_per_split, padding;
};

template <int DIM>
struct PairTileShared {
  using Tiles = Tiling<DIM>;
  static constexpr uint32_t LABEL_BYTES = Tiles::ROWS * 4;
  static constexpr uint32_t ANCHORS = 0;
  static constexpr uint32_t ROWS = ANCHORS + Tiles::ANCHOR_BYTES;
  static constexpr uint32_t LABELS = ROWS + 2 * Tiles::ROW_TILE_BYTES;
  static constexpr uint32_t INSTANCES = LABELS + 2 * LABEL_BYTES;
  static constexpr uint32_t END = INSTANCES + 2 * LABEL_BYTES;
};

// Where this warp's similarities lie in a tile.
template <int DIM>
struct WarpPlace {
  uint32_t row_group = warp_index() / Tiling<DIM>::COLUMN_GROUPS, column_group = warp_index() % Tiling<DIM>::COLUMN_GROUPS;
  uint32_t first_anchor = block_x() * Tiling<DIM>::ANCHORS, anchor_row = row_group * 16, first_column = column_group * Tiling<DIM>::SCORE_COLUMNS;
};

// The memory rows of a tile.
struct TileRows {
  uint32_t first, in_use;
  uint32_t shared;  // where they lie
  const int32_t* labels;
  const int32_t* instances;
};

template <int DIM>
DEVICE void copy_tile(const PairTiles& params, uint32_t shared, uint32_t tile, uint32_t rows) {
  using Tiles = Tiling<DIM>;
  using Shared = PairTileShared<DIM>;
  const uint32_t stage = tile % 2, first = tile * Tiles::ROWS;
  copy_rows<DIM, Tiles::ROWS, Tiles::THREADS>(shared + Shared::ROWS + stage * Tiles::ROW_TILE_BYTES, params.memory, first, rows);
  copy_labels<Tiles::ROWS>(shared + Shared::LABELS + stage * Shared::LABEL_BYTES, params.rows.memory_labels, first, rows);
  if (params.rows.memory_instances) {
    copy_labels<Tiles::ROWS>(shared + Shared::INSTANCES + stage * Shared::LABEL_BYTES, params.rows.memory_instances, first, rows);
  }
}

// Shows the similarities of this warp with each tile to `visit`, which all threads of the block call together. When it returns, no
// thread reads the memory rows any more.
template <class T, int DIM, class Visit>
DEVICE void for_each_tile(const PairTiles& params, const WarpPlace<DIM>& place, uint8_t* memory, Visit visit) {
  using Tiles = Tiling<DIM>;
  using Shared = PairTileShared<DIM>;
  const uint32_t shared = shared_address(memory);
  const uint32_t rows = rows_in_use(params.rows);
  const uint32_t tiles = (rows + Tiles::ROWS - 1) / Tiles::ROWS;
  const uint32_t first_tile = block_y() * params.tiles_per_split;
  const uint32_t last_tile = first_tile + params.tiles_per_split < tiles ? first_tile + params.tiles_per_split : tiles;

  copy_rows<DIM, Tiles::ANCHORS, Tiles::THREADS>(shared + Shared::ANCHORS, params.anchors, place.first_anchor, params.rows.anchor_count);
  if (first_tile < last_tile) copy_tile<DIM>(params, shared, first_tile, rows);
  copy_async_commit();
  for (uint32_t tile = first_tile; tile < last_tile; tile++) {
    copy_async_wait<0>();
    // Everybody's copies have landed, and everybody is done with the stage that the next copy overwrites.
    block_barrier();
    if (tile + 1 < last_tile) copy_tile<DIM>(params, shared, tile + 1, rows);
    copy_async_commit();

    const uint32_t stage = tile % 2;
    const TileRows tile_rows{tile * Tiles::ROWS, rows, shared + Shared::ROWS + stage * Tiles::ROW_TILE_BYTES,
                             reinterpret_cast<const int32_t*>(memory + Shared::LABELS + stage * Shared::LABEL_BYTES),
                             reinterpret_cast<const int32_t*>(memory + Shared::INSTANCES + stage * Shared::LABEL_BYTES)};
    float s[Tiles::SCORE_BLOCKS][4];
    accumulate_similarities<T, DIM>(s, shared + Shared::ANCHORS, place.anchor_row, tile_rows.shared, place.first_column);
    visit(s, tile_rows);
  }
  copy_async_wait<0>();
  // What follows may overwrite memory rows that slower warps are still reading.
  block_barrier();
}

// Calls `visit(half, row, positive, similarity)` for every pair of this warp in a tile, with a reference to the similarity, and
// `none` for every other.
template <int BLOCKS, class Visit, class None>
DEVICE void for_each_pair(const PairRows& params, const AnchorRow (&anchors)[2], const TileRows& tile, uint32_t first_column, float (&s)[BLOCKS][4],
                          Visit visit, None none) {
  UNROLL
  for (int block = 0; block < BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e++) {
      const uint32_t column = first_column + fragment_column(block, e), row = tile.first + column;
      const AnchorRow& anchor = anchors[e / 2];
      const bool same_instance = params.memory_instances && tile.instances[column] == anchor.instance;
      const bool pair = row < tile.in_use && is_pair(anchor, row, same_instance);
      if (pair) {
        visit(e / 2, row, tile.labels[column] == anchor.label, s[block][e]);
      } else {
        none(s[block][e]);
      }
    }
  }
}

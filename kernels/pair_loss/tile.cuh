// How a block of threads goes through its split of the memory: common to fused.cu and row_stats.cu.
#pragma once
#include "row.cuh"
#include "../similarity.cuh"

struct PairTiles {
  PairRows rows;
  const uint16_t* anchors;
  const uint16_t* memory;
  uint32_t tiles_per_split, dim;
};

DEVICE TileSource tile_source(const PairTiles& params) {
  const PairRows& rows = params.rows;
  return {params.anchors, params.memory, rows.memory_labels, rows.memory_instances, rows.anchor_count, rows_in_use(rows), params.dim, params.tiles_per_split};
}

// A bit for each element of a block that is a pair. Few tiles need it: it is a call, so that the others pass it by.
DEVICE_CALL uint32_t pair_bits(uint32_t row, uint32_t in_use, uint32_t own_slot, uint32_t next_own_slot) {
  const uint32_t left = row < in_use, right = row + 1 < in_use;
  return (left & (row != own_slot)) | (right & (row + 1 != own_slot)) << 1 | (left & (row != next_own_slot)) << 2 |
         (right & (row + 1 != next_own_slot)) << 3;
}

// The anchors of this thread, and which of the pairs of a tile are none.
template <class Tiles>
struct PairAnchors {
  AnchorRow rows[Tiles::ANCHOR_ROWS];
  uint32_t in_use;

  DEVICE PairAnchors(const PairRows& params, const WarpPlace<Tiles>& place) : in_use(rows_in_use(params)) {
    UNROLL
    for (int which = 0; which < Tiles::ANCHOR_ROWS; which++) rows[which] = read_anchor(params, place.first_anchor + place.anchor(which));
  }

  // Whether every pair of the warp with this tile is one, as far as own slots and rows in use tell.
  DEVICE bool all_pairs(const TileRows& tile) const {
    bool own = tile.first + Tiles::ROWS > in_use;
    UNROLL
    for (int which = 0; which < Tiles::ANCHOR_ROWS; which++) own |= uint32_t(rows[which].own_slot) - tile.first < Tiles::ROWS;
    return !warp_any(own);
  }

  DEVICE bool is_pair(int which, uint32_t row) const { return row < in_use && int32_t(row) != rows[which].own_slot; }

  // The same for the elements of a block: rows `row` and `row + 1` with the anchors `which` and `which + 1`.
  DEVICE uint32_t pair_bits(int which, uint32_t row) const {
    return ::pair_bits(row, in_use, uint32_t(rows[which].own_slot), uint32_t(rows[which + 1].own_slot));
  }
};

struct alignas(8) Two {
  int32_t values[2];
};
DEVICE Two read_two(const int32_t* values) { return *reinterpret_cast<const Two*>(values); }

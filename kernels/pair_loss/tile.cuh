// How a block of threads goes through its split of the memory: common to fused.cu and row_stats.cu.
#pragma once
#include "row.cuh"
#include "lengths.cuh"
#include "similarity.cuh"

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
DEVICE_CALL uint32_t pair_bits(uint32_t row, uint32_t in_use, int32_t own_slot, int32_t next_own_slot) {
  const uint32_t left = row < in_use, right = row + 1 < in_use;
  const int32_t slot = int32_t(row), next_slot = slot + 1;
  return (left & (slot != own_slot)) | (right & (next_slot != own_slot)) << 1 | (left & (slot != next_own_slot)) << 2 |
         (right & (next_slot != next_own_slot)) << 3;
}

// The anchors of this thread, and which of the pairs of a tile are none.
template <class Place>
struct PairAnchors {
  using Tiles = typename Place::Tiles;
  int32_t labels[Tiles::ANCHOR_ROWS];
  int32_t own[Tiles::ANCHOR_ROWS];  // the instance, where instance ids are given, or else the slot, or -1
  uint32_t in_use;
  bool by_instance;

  DEVICE PairAnchors(const PairRows& params, const Place& place)
      : in_use(rows_in_use(params)), by_instance(params.memory_instances != nullptr) {
    UNROLL
    for (int which = 0; which < Tiles::ANCHOR_ROWS; which++) {
      const AnchorRow row = read_anchor(params, place.first_anchor + place.anchor(which));
      labels[which] = row.label;
      own[which] = by_instance ? row.instance : row.own_slot;
    }
  }

  // Whether every pair of the warp with this tile is one, as far as slots and rows in use tell.
  DEVICE bool all_pairs(const TileRows& tile) const {
    bool found = tile.first + Tiles::ROWS > in_use;
    UNROLL
    for (int which = 0; which < Tiles::ANCHOR_ROWS; which++) found |= !by_instance && uint32_t(own[which]) - tile.first < Tiles::ROWS;
    return !warp_any(found);
  }

  // A bit for each element of a block: rows `row` and `row + 1` with the anchors `which` and `which + 1`.
  DEVICE uint32_t pair_bits(int which, uint32_t row) const {
    return ::pair_bits(row, in_use, by_instance ? -1 : own[which], by_instance ? -1 : own[which + 1]);
  }

  DEVICE bool is_pair(int which, const TileRows& tile, uint32_t column) const {
    const uint32_t row = tile.first + column;
    return row < in_use && (by_instance ? tile.instances[column] : int32_t(row)) != own[which];
  }
};

using Two = Vector<int32_t, 2>;
DEVICE Two read_two(const int32_t* values) { return load_vector<2>(values); }

// Sums of each row over the four lanes that hold it, over_lanes(sums), and over the slices that own blocks of it, plus(sums, sums), in
// that order. write(at, sums) is called by one thread a row; `at` counts the rows of all splits.
template <class Tiles, class Sums, class Write>
DEVICE void write_row_sums(uint32_t anchors, const Sums (&rows)[Tiles::ANCHOR_ROWS], const WarpPlace<Tiles>& place, uint8_t* memory, const Write& write) {
  static_assert(sizeof(Sums) * Tiles::ANCHORS * Tiles::SLICES <= 2 * Tiles::ROW_TILE_BYTES, "they lie where the memory rows were");
  Sums* all = reinterpret_cast<Sums*>(memory + Tiles::ROWS_AT);
  UNROLL
  for (int which = 0; which < Tiles::ANCHOR_ROWS; which++) {
    const Sums mine = over_lanes(rows[which]);
    if (lane_index() % 4 == 0) all[place.slice * Tiles::ANCHORS + place.anchor(which)] = mine;
  }
  block_barrier();
  const uint32_t row = thread_index(), anchor = place.first_anchor + row;
  if (row >= Tiles::ANCHORS || anchor >= anchors) return;
  Sums total;
  for (uint32_t slice = 0; slice < Tiles::RECEIVERS; slice++) {
    if (Tiles::owns_row(slice, row)) total = plus(total, all[slice * Tiles::ANCHORS + row]);
  }
  write(uint64_t(block_y()) * anchors + anchor, total);
}

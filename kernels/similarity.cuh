// Similarities of a block of anchors with a tile of memory rows on the tensor cores: the first half of pair_loss/fused.cu and
// pair_loss/row_stats.cu and of retrieval.cu, and therefore in none of their folders.
#pragma once
#include "device/device.cuh"

// How a block of threads divides the work for rows of DIM 16-bit numbers. A warp owns 16 anchors; where a row is longer than 128 the
// warps of a row group share the similarities of its anchors by columns, and the gradient by parts of the row, so that a thread
// never accumulates more than 64 numbers of it.
template <int DIM>
struct Tiling {
  static_assert(DIM == 64 || DIM == 128 || DIM == 256 || DIM == 512, "other lengths are padded with zeros by the caller");
  static constexpr int ROW_GROUPS = DIM <= 256 ? 4 : 2;
  static constexpr int COLUMN_GROUPS = DIM <= 128 ? 1 : DIM / 128;
  static constexpr int ANCHORS = 16 * ROW_GROUPS;
  static constexpr int ROWS = DIM <= 128 ? 64 : 32;
  static constexpr int THREADS = ROW_GROUPS * COLUMN_GROUPS * int(WARP_SIZE);
  static constexpr int SCORE_COLUMNS = ROWS / COLUMN_GROUPS;
  static constexpr int SCORE_BLOCKS = SCORE_COLUMNS / 8;
  static_assert(SCORE_COLUMNS % 8 == 0, "a matrix product yields eight columns");

  static constexpr uint32_t ANCHOR_BYTES = ANCHORS * DIM * 2;
  static constexpr uint32_t ROW_TILE_BYTES = ROWS * DIM * 2;
};

// Starts copying ROWS rows from `first` on; rows from `count` on become zeros. Every thread of the block takes part.
template <int DIM, int ROWS, int THREADS>
DEVICE void copy_rows(uint32_t tile, const uint16_t* rows, uint32_t first, uint32_t count) {
  constexpr uint32_t CHUNKS = DIM * 2 / ASYNC_COPY_BYTES;
  for (uint32_t i = thread_index(); i < ROWS * CHUNKS; i += THREADS) {
    const uint32_t row = i / CHUNKS, chunk = i % CHUNKS;
    const bool valid = first + row < count;
    const uint16_t* source = rows + (valid ? uint64_t(first + row) * DIM + chunk * (ASYNC_COPY_BYTES / 2) : 0);
    copy_async_16(tile + swizzled<DIM>(row, chunk), source, valid);
  }
}

// The same for one label or instance id a row.
template <int ROWS>
DEVICE void copy_labels(uint32_t tile, const int32_t* labels, uint32_t first, uint32_t count) {
  const uint32_t row = thread_index();
  if (row >= ROWS) return;
  const bool valid = first + row < count;
  copy_async_4(tile + row * 4, labels + (valid ? first + row : 0), valid);
}

// s += anchors (16 from `anchor_row`) . rows (8 BLOCKS from `first_column`), in the accumulator layout of a matrix product.
template <class T, int DIM, int BLOCKS>
DEVICE void accumulate_similarities(float (&s)[BLOCKS][4], uint32_t anchors, uint32_t anchor_row, uint32_t rows, uint32_t first_column) {
  const uint32_t lane = lane_index();
  UNROLL
  for (int block = 0; block < BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e++) s[block][e] = 0.0f;
  }
  UNROLL
  for (uint32_t k = 0; k < DIM / 16; k += 2) {
    uint32_t a[2][4];
    load_matrices(a[0], anchors + swizzled<DIM>(anchor_row + lane % 16, 2 * k + lane / 16));
    load_matrices(a[1], anchors + swizzled<DIM>(anchor_row + lane % 16, 2 * k + 2 + lane / 16));
    UNROLL
    for (uint32_t block = 0; block < BLOCKS; block++) {
      uint32_t b[4];
      load_matrices(b, rows + swizzled<DIM>(first_column + block * 8 + lane % 8, 2 * k + lane / 8));
      multiply_accumulate(s[block], a[0], b[0], b[1], T{});
      multiply_accumulate(s[block], a[1], b[2], b[3], T{});
    }
  }
}

// Which anchor of the tile (0 or 8 further) and which column an accumulator element of this lane belongs to.
DEVICE uint32_t fragment_row(int e) { return lane_index() / 4 + (e < 2 ? 0 : 8); }
DEVICE uint32_t fragment_column(int block, int e) { return block * 8 + lane_index() % 4 * 2 + e % 2; }

// Sum over the four lanes that hold one row of an accumulator.
template <class T>
DEVICE T row_sum(T value) {
  value += warp_exchange(value, 1);
  return value + warp_exchange(value, 2);
}

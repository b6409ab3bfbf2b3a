// Similarities of a block of anchors with tiles of memory rows on the tensor cores: the first half of fused.cu and row_stats.cu.
//
// A warp takes 32 anchors, so that a fragment of memory rows is loaded once for two products. Rows longer than 128 are cut into
// slices: the warps of a row group take a slice each, of the inner dimension here and of the gradient's columns in fused.cu, so that
// no two of them load the same fragment. Their partial similarities are added in a fixed order, by a reduce-scatter in shared memory.
#pragma once
#include "../device/device.cuh"

// How a block of threads divides the work for rows of at most LENGTH 16-bit numbers; what is missing is read as zeros.
template <int LENGTH, int GROUPS, int TILE_ROWS>
struct TileShape {
  static constexpr int DIM = LENGTH, ROW_GROUPS = GROUPS, ROWS = TILE_ROWS;
  static constexpr int ANCHORS = 32 * ROW_GROUPS;
  static constexpr int SLICES = DIM <= 128 ? 1 : DIM / 128, SLICE = DIM / SLICES;
  static constexpr int THREADS = ROW_GROUPS * SLICES * int(WARP_SIZE);
  // A row group's similarities are blocks of 16 anchors x 8 rows: block 2 n + m is of the rows from 8 n and the anchors from 16 m on.
  static constexpr int BLOCKS = 2 * ROWS / 8;
  // Of which each of the first RECEIVERS warps ends up with OWN_BLOCKS.
  static constexpr int OWN_BLOCKS = BLOCKS > SLICES ? BLOCKS / SLICES : 1, RECEIVERS = BLOCKS / OWN_BLOCKS;
  // Anchors that a thread's own similarities belong to.
  static constexpr int ANCHOR_ROWS = OWN_BLOCKS > 1 ? 4 : 2;
  // Whether a slice's warp owns blocks of an anchor of the block of threads.
  static DEVICE constexpr bool owns_row(uint32_t slice, uint32_t anchor) { return ANCHOR_ROWS == 4 || (slice & 1) == anchor / 16 % 2; }
  static_assert(DIM % 64 == 0 && SLICE % 16 == 0 && ROWS % 16 == 0 && ROWS <= THREADS, "whole fragments");
  static_assert((RECEIVERS & (RECEIVERS - 1)) == 0 && RECEIVERS <= SLICES, "blocks are exchanged by exclusive or");

  static constexpr uint32_t ANCHOR_BYTES = ANCHORS * DIM * 2, ROW_TILE_BYTES = ROWS * DIM * 2, LABEL_BYTES = ROWS * 4;
  static constexpr uint32_t BLOCK_BYTES = 16 * 8 * 4;
  static constexpr uint32_t GROUP_EXCHANGE_BYTES = BLOCKS * (SLICES - 1) * BLOCK_BYTES;
  // Where they lie in shared memory; rows, labels and instance ids have two stages.
  static constexpr uint32_t ANCHORS_AT = 0, ROWS_AT = ANCHORS_AT + ANCHOR_BYTES, LABELS_AT = ROWS_AT + 2 * ROW_TILE_BYTES;
  static constexpr uint32_t INSTANCES_AT = LABELS_AT + 2 * LABEL_BYTES, EXCHANGE_AT = INSTANCES_AT + 2 * LABEL_BYTES;
  static constexpr uint32_t BYTES = EXCHANGE_AT + ROW_GROUPS * GROUP_EXCHANGE_BYTES;
};

// Every supported device allows a block 99 KiB; those of compute capability 8.0, 9.0 and 10.x, which LARGE tiles need, 163 KiB.
constexpr uint32_t SHARED_LIMIT = 99 * 1024, LARGE_SHARED_LIMIT = 163 * 1024;
constexpr bool is_narrow(int dim, bool large) { return dim > 512 || (dim == 512 && !large); }
template <int DIM, bool LARGE = false>
using Tiling = TileShape<DIM, is_narrow(DIM, LARGE) ? 1 : 2, is_narrow(DIM, LARGE) ? 16 : 32>;

// What the blocks read. All rows are `dim` numbers apart, a multiple of 8.
struct TileSource {
  const uint16_t* anchors;
  const uint16_t* rows;
  const int32_t* labels;
  const int32_t* instances;  // or null
  uint32_t anchor_count, row_count, dim, tiles_per_split;
};

// The memory rows of a tile.
struct TileRows {
  uint32_t first;
  uint32_t shared;  // where they lie
  const int32_t* labels;
  const int32_t* instances;
};

// Which anchor of the block of 16 (0 or 8 further) an accumulator element of this lane belongs to, and which of the 8 columns.
DEVICE uint32_t fragment_row(int e) { return lane_index() / 4 + (e < 2 ? 0 : 8); }
DEVICE uint32_t fragment_column(int e) { return lane_index() % 4 * 2 + e % 2; }

// What a warp works on. Its blocks are numbered with its own ones first: block b of the warp is block b ^ rotation of the row group.
template <class Shape>
struct WarpPlace {
  using Tiles = Shape;
  uint32_t row_group = warp_index() / Tiles::SLICES, slice = warp_index() % Tiles::SLICES;
  uint32_t first_anchor = block_x() * Tiles::ANCHORS, anchor_row = row_group * 32;
  uint32_t rotation = slice % Tiles::RECEIVERS * Tiles::OWN_BLOCKS;

  DEVICE bool owns_blocks() const { return Tiles::RECEIVERS == Tiles::SLICES || slice < Tiles::RECEIVERS; }
  // First of the two neighbouring rows of a tile that this lane's elements of a block belong to.
  DEVICE uint32_t column(uint32_t block) const { return ((block ^ rotation) >> 1) * 8 + fragment_column(0); }
  // The anchor, within the block of threads, that a thread's ANCHOR_ROWS belong to.
  DEVICE uint32_t anchor(int which) const {
    const uint32_t half = Tiles::ANCHOR_ROWS == 4 ? which / 2 : rotation & 1;
    return anchor_row + half * 16 + fragment_row(which % 2 * 2);
  }
  // Which of the ANCHOR_ROWS an element of an own block belongs to.
  static DEVICE constexpr int anchor_of(int block, int e) { return (Tiles::ANCHOR_ROWS == 4 ? block % 2 * 2 : 0) + e / 2; }
};

// Starts copying ROWS rows from `first` on; rows from `count` on and numbers from `dim` on become zeros. Every thread takes part.
template <class Tiles, int ROWS>
DEVICE void copy_rows(uint32_t tile, const uint16_t* rows, uint32_t first, uint32_t count, uint32_t dim) {
  constexpr uint32_t NUMBERS = ASYNC_COPY_BYTES / 2, CHUNKS = Tiles::DIM / NUMBERS;
  for (uint32_t i = thread_index(); i < ROWS * CHUNKS; i += Tiles::THREADS) {
    const uint32_t row = i / CHUNKS, chunk = i % CHUNKS;
    const bool valid = first + row < count && chunk * NUMBERS < dim;
    const uint16_t* source = rows + (valid ? uint64_t(first + row) * dim + chunk * NUMBERS : 0);
    copy_async_16(tile + swizzled<Tiles::DIM>(row, chunk), source, valid);
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

template <class Tiles>
DEVICE void copy_tile(const TileSource& source, uint32_t shared, uint32_t tile) {
  const uint32_t stage = tile % 2, first = tile * Tiles::ROWS;
  copy_rows<Tiles, Tiles::ROWS>(shared + Tiles::ROWS_AT + stage * Tiles::ROW_TILE_BYTES, source.rows, first, source.row_count, source.dim);
  copy_labels<Tiles::ROWS>(shared + Tiles::LABELS_AT + stage * Tiles::LABEL_BYTES, source.labels, first, source.row_count);
  if (source.instances) {
    copy_labels<Tiles::ROWS>(shared + Tiles::INSTANCES_AT + stage * Tiles::LABEL_BYTES, source.instances, first, source.row_count);
  }
}

// s = 32 anchors . ROWS rows over the slice of this warp, block by block in the warp's order.
template <class T, class Tiles>
DEVICE void multiply_slices(float (&s)[Tiles::BLOCKS][4], const WarpPlace<Tiles>& place, uint32_t anchors, uint32_t rows) {
  const uint32_t lane = lane_index(), first_chunk = place.slice * (Tiles::SLICE / 8);
  UNROLL
  for (int block = 0; block < Tiles::BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e++) s[block][e] = 0.0f;
  }
  UNROLL
  for (uint32_t k = 0; k < Tiles::SLICE / 16; k++) {
    uint32_t a[2][4];
    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
      const uint32_t row = place.anchor_row + (half ^ (place.rotation & 1)) * 16 + lane % 16;
      load_matrices(a[half], anchors + swizzled<Tiles::DIM>(row, first_chunk + 2 * k + lane / 16));
    }
    UNROLL
    for (uint32_t n = 0; n < Tiles::ROWS / 8; n += 2) {
      uint32_t b[4];
      const uint32_t row = ((n + lane / 16) ^ (place.rotation >> 1)) * 8 + lane % 8;
      load_matrices(b, rows + swizzled<Tiles::DIM>(row, first_chunk + 2 * k + lane / 8 % 2));
      UNROLL
      for (uint32_t half = 0; half < 2; half++) {
        multiply_accumulate(s[2 * n + half], a[half], b[0], b[1], T{});
        multiply_accumulate(s[2 * n + 2 + half], a[half], b[2], b[3], T{});
      }
    }
  }
}

using Four = Vector<float, 4>;

// Adds the partial similarities of the warps of a row group, to a warp's own blocks those of the others in their order. A block is
// exchanged lane by lane, as its fragment lies in the registers. Every thread of the block of threads takes part.
template <class Tiles>
DEVICE void reduce_scatter(float (&s)[Tiles::BLOCKS][4], const WarpPlace<Tiles>& place, uint8_t* memory) {
  constexpr uint32_t SOURCES = Tiles::SLICES - 1;
  Four* exchange = reinterpret_cast<Four*>(memory + Tiles::EXCHANGE_AT + place.row_group * Tiles::GROUP_EXCHANGE_BYTES) + lane_index();
  const auto slot = [&](uint32_t receiver, uint32_t source, uint32_t block) {
    return exchange + ((receiver * SOURCES + source) * Tiles::OWN_BLOCKS + block) * WARP_SIZE;
  };
  UNROLL
  for (uint32_t block = 0; block < Tiles::BLOCKS; block++) {
    if (block < Tiles::OWN_BLOCKS && place.owns_blocks()) continue;
    const uint32_t receiver = (block ^ place.rotation) / Tiles::OWN_BLOCKS, source = place.slice - (place.slice > receiver);
    *slot(receiver, source, block % Tiles::OWN_BLOCKS) = Four{{s[block][0], s[block][1], s[block][2], s[block][3]}};
  }
  // Everybody's partial similarities are there.
  block_barrier();
  if (!place.owns_blocks()) return;
  UNROLL
  for (uint32_t block = 0; block < Tiles::OWN_BLOCKS; block++) {
    UNROLL
    for (uint32_t source = 0; source < SOURCES; source++) {
      const Four other = *slot(place.slice, source, block);
      UNROLL
      for (int e = 0; e < 4; e++) s[block][e] += other.values[e];
    }
  }
}

// Shows the similarities of this warp's own blocks with each tile of the split to `visit`, which all threads of the block of threads
// call together. When it returns, no thread reads the memory rows any more.
template <class T, class Tiles, class Visit>
DEVICE void for_each_tile(const TileSource& source, const WarpPlace<Tiles>& place, uint8_t* memory, Visit visit) {
  const uint32_t shared = shared_address(memory), tiles = (source.row_count + Tiles::ROWS - 1) / Tiles::ROWS;
  const uint32_t first_tile = block_y() * source.tiles_per_split;
  const uint32_t last_tile = first_tile + source.tiles_per_split < tiles ? first_tile + source.tiles_per_split : tiles;

  copy_rows<Tiles, Tiles::ANCHORS>(shared + Tiles::ANCHORS_AT, source.anchors, place.first_anchor, source.anchor_count, source.dim);
  if (first_tile < last_tile) copy_tile<Tiles>(source, shared, first_tile);
  copy_async_commit();
  for (uint32_t tile = first_tile; tile < last_tile; tile++) {
    copy_async_wait<0>();
    // Everybody's copies have landed, and everybody is done with the stage that the next copy overwrites.
    block_barrier();
    if (tile + 1 < last_tile) copy_tile<Tiles>(source, shared, tile + 1);
    copy_async_commit();

    const uint32_t stage = tile % 2;
    const TileRows rows{tile * Tiles::ROWS, shared + Tiles::ROWS_AT + stage * Tiles::ROW_TILE_BYTES,
                        reinterpret_cast<const int32_t*>(memory + Tiles::LABELS_AT + stage * Tiles::LABEL_BYTES),
                        reinterpret_cast<const int32_t*>(memory + Tiles::INSTANCES_AT + stage * Tiles::LABEL_BYTES)};
    float s[Tiles::BLOCKS][4];
    multiply_slices<T>(s, place, shared + Tiles::ANCHORS_AT, rows.shared);
    if constexpr (Tiles::SLICES > 1) reduce_scatter(s, place, memory);
    visit(s, rows);
  }
  copy_async_wait<0>();
  // What follows may overwrite memory rows that slower warps are still reading.
  block_barrier();
}

// Sum over the four lanes that hold one row of an accumulator.
template <class T>
DEVICE T row_sum(T value) {
  value += warp_exchange(value, 1);
  return value + warp_exchange(value, 2);
}

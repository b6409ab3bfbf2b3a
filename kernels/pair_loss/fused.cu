// Weighted pair loss of a batch against the memory, and its gradient: S = Q M^T, W = w(S), G = W M in one pass.
//
// Neither S nor W is ever stored outside a block: a tile of S becomes, in registers, the weights of the second product. A discarded
// pair has weight exactly 0, and a slice of 16 memory rows without any weight for 16 anchors skips its second product, which changes
// no bit of the result. Blocks split the memory by ranges that depend on sizes only; their partial sums are added in a fixed order
// by combine.cu. No floating-point atomics.
// Range: rows of 64, 128, 256 or 512 16-bit numbers (shorter ones padded with zeros), up to 2^31 memory rows, any number of anchors.
// Weights are rounded to the memory's format. Bound: 4 anchors rows dim flops, or 2 rows dim bytes below about 90 anchors.
#include "tile.cuh"

struct PairLossParams {
  PairTiles tiles;
  float* gradients;   // (splits, anchors, dim)
  float* losses;      // (splits, anchors)
  int32_t* kept;      // (splits, anchors, 2)
};

template <int DIM>
struct PairLossShared : PairTileShared<DIM> {
  using Tiles = Tiling<DIM>;
  // Weights that the warps of a row group exchange: the pitch keeps eight rows in eight bank groups.
  static constexpr uint32_t WEIGHT_PITCH = Tiles::ROWS * 2 + 16;
  static constexpr uint32_t WEIGHTS = PairTileShared<DIM>::END;
  static constexpr uint32_t BYTES = WEIGHTS + (Tiles::COLUMN_GROUPS > 1 ? Tiles::ANCHORS * WEIGHT_PITCH : 0);
  static_assert(BYTES <= 99 * 1024, "the smallest supported device allows a block 99 KiB");
  // After the last tile the row sums of all column groups lie where the memory rows were.
  static_assert(sizeof(RowSums) * Tiles::ANCHORS * Tiles::COLUMN_GROUPS <= 2 * Tiles::ROW_TILE_BYTES, "sums fit");
};

// Turns similarities into signed weights, in place.
template <int BLOCKS>
DEVICE void weigh_tile(const PairRows& params, const AnchorRow (&anchors)[2], const TileRows& tile, uint32_t first_column, float (&s)[BLOCKS][4],
                       RowSums (&sums)[2]) {
  for_each_pair(
      params, anchors, tile, first_column, s,
      [&](int half, uint32_t row, bool positive, float& s) { s = weigh(params, anchors[half], row, positive, s, sums[half]); },
      [](float& s) { s = 0.0f; });
}

// gradient += weights (16 anchors x 16 memory rows, `a`) . those memory rows, the columns from `first_chunk` on.
template <class T, int DIM, int BLOCKS>
DEVICE void accumulate_gradient(float (&gradient)[BLOCKS][4], const uint32_t (&a)[4], uint32_t rows, uint32_t first_row, uint32_t first_chunk) {
  const uint32_t lane = lane_index();
  UNROLL
  for (uint32_t block = 0; block < BLOCKS; block += 2) {
    uint32_t b[4];
    load_matrices_transposed(b, rows + swizzled<DIM>(first_row + lane % 16, first_chunk + block + lane / 16));
    multiply_accumulate(gradient[block], a, b[0], b[1], T{});
    multiply_accumulate(gradient[block + 1], a, b[2], b[3], T{});
  }
}

// Writes the weights of this warp's columns for the other warps of its row group.
template <class T, int DIM, int BLOCKS>
DEVICE void publish_weights(uint8_t* weights, uint32_t anchor_row, uint32_t first_column, const float (&s)[BLOCKS][4]) {
  UNROLL
  for (int block = 0; block < BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e += 2) {
      const uint32_t row = anchor_row + fragment_row(e), column = first_column + fragment_column(block, e);
      *reinterpret_cast<uint32_t*>(weights + row * PairLossShared<DIM>::WEIGHT_PITCH + column * 2) = pack_pair<T>(s[block][e], s[block][e + 1]);
    }
  }
}

template <class T, int DIM, int BLOCKS>
DEVICE void second_product(float (&gradient)[BLOCKS][4], const float (&s)[Tiling<DIM>::SCORE_BLOCKS][4], uint32_t weights, uint32_t anchor_row,
                           uint32_t rows, uint32_t first_chunk) {
  UNROLL
  for (int slice = 0; slice < Tiling<DIM>::ROWS / 16; slice++) {
    uint32_t a[4];
    if constexpr (Tiling<DIM>::COLUMN_GROUPS == 1) {
      // Two neighbouring accumulators are the next operand already.
      a[0] = pack_pair<T>(s[2 * slice][0], s[2 * slice][1]);
      a[1] = pack_pair<T>(s[2 * slice][2], s[2 * slice][3]);
      a[2] = pack_pair<T>(s[2 * slice + 1][0], s[2 * slice + 1][1]);
      a[3] = pack_pair<T>(s[2 * slice + 1][2], s[2 * slice + 1][3]);
    } else {
      const uint32_t lane = lane_index();
      load_matrices(a, weights + (anchor_row + lane % 16) * PairLossShared<DIM>::WEIGHT_PITCH + slice * 32 + lane / 16 * 16);
    }
    // A discarded positive is -0.
    constexpr uint32_t MAGNITUDES = 0x7fff7fff;
    if (warp_any(((a[0] | a[1] | a[2] | a[3]) & MAGNITUDES) != 0)) accumulate_gradient<T, DIM>(gradient, a, rows, slice * 16, first_chunk);
  }
}

// The sums of a row over its four lanes and all column groups, in that order.
template <int DIM>
DEVICE void write_sums(const PairLossParams& params, RowSums (&sums)[2], const WarpPlace<DIM>& place, uint8_t* shared) {
  using Tiles = Tiling<DIM>;
  RowSums* all = reinterpret_cast<RowSums*>(shared + PairLossShared<DIM>::ROWS);
  UNROLL
  for (int half = 0; half < 2; half++) {
    RowSums& mine = sums[half];
    mine.loss = row_sum(mine.loss);
    mine.positives = row_sum(mine.positives);
    mine.negatives = row_sum(mine.negatives);
    if (lane_index() % 4 == 0) all[place.column_group * Tiles::ANCHORS + place.row_group * 16 + half * 8 + lane_index() / 4] = mine;
  }
  block_barrier();
  const uint32_t anchors = params.tiles.rows.anchor_count, row = thread_index(), anchor = place.first_anchor + row;
  if (row >= Tiles::ANCHORS || anchor >= anchors) return;
  RowSums total = all[row];
  for (int group = 1; group < Tiles::COLUMN_GROUPS; group++) {
    const RowSums& other = all[group * Tiles::ANCHORS + row];
    total.loss += other.loss;
    total.positives += other.positives;
    total.negatives += other.negatives;
  }
  const uint64_t at = uint64_t(block_y()) * anchors + anchor;
  params.losses[at] = total.loss;
  params.kept[2 * at] = total.positives;
  params.kept[2 * at + 1] = total.negatives;
}

template <int DIM, int BLOCKS>
DEVICE void write_gradient(const PairLossParams& params, const float (&gradient)[BLOCKS][4], uint32_t anchor_row, uint32_t first_column) {
  struct alignas(8) Pair {
    float low, high;
  };
  UNROLL
  for (int block = 0; block < BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e += 2) {
      const uint32_t anchor = anchor_row + fragment_row(e);
      if (anchor >= params.tiles.rows.anchor_count) continue;
      float* to = params.gradients + (uint64_t(block_y()) * params.tiles.rows.anchor_count + anchor) * DIM + first_column + fragment_column(block, e);
      *reinterpret_cast<Pair*>(to) = {gradient[block][e], gradient[block][e + 1]};
    }
  }
}

// One block: Tiles::ANCHORS anchors against the tiles of one split.
template <class T, int DIM>
DEVICE void pair_loss(const PairLossParams& params) {
  using Tiles = Tiling<DIM>;
  using Shared = PairLossShared<DIM>;
  constexpr int GRADIENT_COLUMNS = DIM / Tiles::COLUMN_GROUPS, GRADIENT_BLOCKS = GRADIENT_COLUMNS / 8;
  SHARED_MEMORY(memory);
  const WarpPlace<DIM> place;
  const PairRows& rows = params.tiles.rows;
  const AnchorRow anchors[2] = {read_anchor(rows, place.first_anchor + place.anchor_row + fragment_row(0)),
                                read_anchor(rows, place.first_anchor + place.anchor_row + fragment_row(2))};
  RowSums sums[2];
  float gradient[GRADIENT_BLOCKS][4];
  UNROLL
  for (int block = 0; block < GRADIENT_BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e++) gradient[block][e] = 0.0f;
  }
  const uint32_t weights = shared_address(memory) + Shared::WEIGHTS;
  for_each_tile<T, DIM>(params.tiles, place, memory, [&](float (&s)[Tiles::SCORE_BLOCKS][4], const TileRows& tile) {
    weigh_tile(rows, anchors, tile, place.first_column, s, sums);
    if constexpr (Tiles::COLUMN_GROUPS > 1) {
      publish_weights<T, DIM>(memory + Shared::WEIGHTS, place.anchor_row, place.first_column, s);
      block_barrier();
    }
    second_product<T, DIM>(gradient, s, weights, place.anchor_row, tile.shared, place.column_group * (GRADIENT_COLUMNS / 8));
  });
  write_sums<DIM>(params, sums, place, memory);
  write_gradient<DIM>(params, gradient, place.first_anchor + place.anchor_row, place.column_group * GRADIENT_COLUMNS);
}

#define PAIR_LOSS(FORMAT, TYPE, DIM) \
  KERNEL(pair_loss_##FORMAT##_##DIM, PairLossParams, Tiling<DIM>::THREADS) { pair_loss<TYPE, DIM>(params); }
PAIR_LOSS(f16, Half, 64)
PAIR_LOSS(f16, Half, 128)
PAIR_LOSS(f16, Half, 256)
PAIR_LOSS(f16, Half, 512)
PAIR_LOSS(bf16, Bfloat, 64)
PAIR_LOSS(bf16, Bfloat, 128)
PAIR_LOSS(bf16, Bfloat, 256)
PAIR_LOSS(bf16, Bfloat, 512)

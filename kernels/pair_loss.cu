// Weighted pair loss of a batch against the memory, and its gradient: S = Q M^T, W = w(S), G = W M in one pass.
//
// Neither S nor W is ever stored outside a block: a tile of S becomes, in registers, the weights of the second product. A discarded
// pair has weight exactly 0, and a slice of 16 memory rows without any weight for 16 anchors skips its second product, which changes
// no bit of the result. Blocks split the memory by ranges that depend on sizes only; their partial sums are added in a fixed order
// by the kernels of pair_loss_rows.cu, which also pull the gradient back through the L2 normalisation. No floating-point atomics.
// Range: rows of 64, 128, 256 or 512 16-bit numbers (shorter ones padded with zeros), up to 2^31 memory rows, any number of anchors.
// Weights are rounded to the memory's format. Bound: 4 anchors rows dim flops, or 2 rows dim bytes below about 90 anchors.
#include "pair_row.cuh"
#include "similarity.cuh"

struct PairLossParams {
  PairRows rows;
  const uint16_t* anchors;
  const uint16_t* memory;
  float* gradients;   // (splits, anchors, dim); unused by pair_statistics
  float* losses;      // (splits, anchors)
  int32_t* kept;      // (splits, anchors, 2)
  float* statistics;  // (splits, anchors, 4), only by pair_statistics: weights of positives and negatives, hardest of each
  uint32_t tiles_per_split, padding;
};

template <int DIM>
struct PairLossShared {
  using Tiles = Tiling<DIM>;
  static constexpr uint32_t LABEL_BYTES = Tiles::ROWS * 4;
  // Weights that the warps of a row group exchange: the pitch keeps eight rows in eight bank groups.
  static constexpr uint32_t WEIGHT_PITCH = Tiles::ROWS * 2 + 16;
  static constexpr uint32_t ANCHORS = 0;
  static constexpr uint32_t ROWS = ANCHORS + Tiles::ANCHOR_BYTES;
  static constexpr uint32_t LABELS = ROWS + 2 * Tiles::ROW_TILE_BYTES;
  static constexpr uint32_t INSTANCES = LABELS + 2 * LABEL_BYTES;
  static constexpr uint32_t WEIGHTS = INSTANCES + 2 * LABEL_BYTES;
  static constexpr uint32_t BYTES = WEIGHTS + (Tiles::COLUMN_GROUPS > 1 ? Tiles::ANCHORS * WEIGHT_PITCH : 0);
  static_assert(BYTES <= 99 * 1024, "the smallest supported device allows a block 99 KiB");
  // After the last tile the row sums of all column groups lie where the memory rows were.
  static_assert(sizeof(RowSums) * Tiles::ANCHORS * Tiles::COLUMN_GROUPS <= 2 * Tiles::ROW_TILE_BYTES, "sums fit");
};

template <int DIM>
DEVICE void copy_tile(const PairLossParams& params, uint32_t shared, uint32_t tile, uint32_t rows) {
  using Tiles = Tiling<DIM>;
  using Shared = PairLossShared<DIM>;
  const uint32_t stage = tile % 2, first = tile * Tiles::ROWS;
  copy_rows<DIM, Tiles::ROWS, Tiles::THREADS>(shared + Shared::ROWS + stage * Tiles::ROW_TILE_BYTES, params.memory, first, rows);
  copy_labels<Tiles::ROWS>(shared + Shared::LABELS + stage * Shared::LABEL_BYTES, params.rows.memory_labels, first, rows);
  if (params.rows.memory_instances) {
    copy_labels<Tiles::ROWS>(shared + Shared::INSTANCES + stage * Shared::LABEL_BYTES, params.rows.memory_instances, first, rows);
  }
}

// Turns similarities into signed weights, in place.
template <int DIM, int BLOCKS>
DEVICE void weigh_tile(const PairLossParams& params, const AnchorRow (&anchors)[2], const int32_t* labels, const int32_t* instances,
                       uint32_t first, uint32_t rows, uint32_t first_column, float (&s)[BLOCKS][4], RowSums (&sums)[2]) {
  UNROLL
  for (int block = 0; block < BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e++) {
      const uint32_t column = first_column + fragment_column(block, e), row = first + column;
      const AnchorRow& anchor = anchors[e / 2];
      const bool same_instance = params.rows.memory_instances && instances[column] == anchor.instance;
      const bool pair = row < rows && is_pair(anchor, row, same_instance);
      s[block][e] = pair ? weigh(params.rows, anchor, labels[column] == anchor.label, s[block][e], sums[e / 2]) : 0.0f;
    }
  }
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
DEVICE void write_sums(const PairLossParams& params, RowSums (&sums)[2], uint32_t first_anchor, uint32_t row_group, uint32_t column_group,
                       uint8_t* shared, bool statistics) {
  using Tiles = Tiling<DIM>;
  RowSums* all = reinterpret_cast<RowSums*>(shared + PairLossShared<DIM>::ROWS);
  UNROLL
  for (int half = 0; half < 2; half++) {
    RowSums& mine = sums[half];
    mine.loss = row_sum(mine.loss);
    mine.positives = row_sum(mine.positives);
    mine.negatives = row_sum(mine.negatives);
    mine.positive_weight = row_sum(mine.positive_weight);
    mine.negative_weight = row_sum(mine.negative_weight);
    mine.hardest_positive = fminf(mine.hardest_positive, warp_exchange(mine.hardest_positive, 1));
    mine.hardest_positive = fminf(mine.hardest_positive, warp_exchange(mine.hardest_positive, 2));
    mine.hardest_negative = fmaxf(mine.hardest_negative, warp_exchange(mine.hardest_negative, 1));
    mine.hardest_negative = fmaxf(mine.hardest_negative, warp_exchange(mine.hardest_negative, 2));
    if (lane_index() % 4 == 0) all[column_group * Tiles::ANCHORS + row_group * 16 + half * 8 + lane_index() / 4] = mine;
  }
  block_barrier();
  const uint32_t row = thread_index(), anchor = first_anchor + row;
  if (row >= Tiles::ANCHORS || anchor >= params.rows.anchor_count) return;
  RowSums total = all[row];
  for (int group = 1; group < Tiles::COLUMN_GROUPS; group++) {
    const RowSums& other = all[group * Tiles::ANCHORS + row];
    total.loss += other.loss;
    total.positives += other.positives;
    total.negatives += other.negatives;
    total.positive_weight += other.positive_weight;
    total.negative_weight += other.negative_weight;
    total.hardest_positive = fminf(total.hardest_positive, other.hardest_positive);
    total.hardest_negative = fmaxf(total.hardest_negative, other.hardest_negative);
  }
  const uint64_t at = uint64_t(block_y()) * params.rows.anchor_count + anchor;
  params.losses[at] = total.loss;
  params.kept[2 * at] = total.positives;
  params.kept[2 * at + 1] = total.negatives;
  if (!statistics) return;
  params.statistics[4 * at] = total.positive_weight;
  params.statistics[4 * at + 1] = total.negative_weight;
  params.statistics[4 * at + 2] = total.hardest_positive;
  params.statistics[4 * at + 3] = total.hardest_negative;
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
      if (anchor >= params.rows.anchor_count) continue;
      float* to = params.gradients + (uint64_t(block_y()) * params.rows.anchor_count + anchor) * DIM + first_column + fragment_column(block, e);
      *reinterpret_cast<Pair*>(to) = {gradient[block][e], gradient[block][e + 1]};
    }
  }
}

// One block: Tiles::ANCHORS anchors against the tiles of one split. With STATISTICS the sums of the rows only, no gradient.
template <class T, int DIM, bool STATISTICS>
DEVICE void pair_loss(const PairLossParams& params) {
  using Tiles = Tiling<DIM>;
  using Shared = PairLossShared<DIM>;
  constexpr int GRADIENT_COLUMNS = DIM / Tiles::COLUMN_GROUPS, GRADIENT_BLOCKS = GRADIENT_COLUMNS / 8;
  SHARED_MEMORY(memory);
  const uint32_t shared = shared_address(memory);
  const uint32_t row_group = warp_index() / Tiles::COLUMN_GROUPS, column_group = warp_index() % Tiles::COLUMN_GROUPS;
  const uint32_t first_anchor = block_x() * Tiles::ANCHORS, anchor_row = row_group * 16, first_column = column_group * Tiles::SCORE_COLUMNS;
  const uint32_t rows = rows_in_use(params.rows);
  const uint32_t tiles = (rows + Tiles::ROWS - 1) / Tiles::ROWS;
  const uint32_t first_tile = block_y() * params.tiles_per_split;
  const uint32_t last_tile = first_tile + params.tiles_per_split < tiles ? first_tile + params.tiles_per_split : tiles;

  copy_rows<DIM, Tiles::ANCHORS, Tiles::THREADS>(shared + Shared::ANCHORS, params.anchors, first_anchor, params.rows.anchor_count);
  if (first_tile < last_tile) copy_tile<DIM>(params, shared, first_tile, rows);
  copy_async_commit();

  const AnchorRow anchors[2] = {read_anchor(params.rows, first_anchor + anchor_row + fragment_row(0)),
                                read_anchor(params.rows, first_anchor + anchor_row + fragment_row(2))};
  RowSums sums[2];
  float gradient[GRADIENT_BLOCKS][4];
  UNROLL
  for (int block = 0; block < GRADIENT_BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e++) gradient[block][e] = 0.0f;
  }

  for (uint32_t tile = first_tile; tile < last_tile; tile++) {
    copy_async_wait<0>();
    // Everybody's copies have landed, and everybody is done with the stage that the next copy overwrites.
    block_barrier();
    if (tile + 1 < last_tile) copy_tile<DIM>(params, shared, tile + 1, rows);
    copy_async_commit();

    const uint32_t stage = tile % 2, tile_rows = shared + Shared::ROWS + stage * Tiles::ROW_TILE_BYTES;
    const int32_t* labels = reinterpret_cast<const int32_t*>(memory + Shared::LABELS + stage * Shared::LABEL_BYTES);
    const int32_t* instances = reinterpret_cast<const int32_t*>(memory + Shared::INSTANCES + stage * Shared::LABEL_BYTES);
    float s[Tiles::SCORE_BLOCKS][4];
    accumulate_similarities<T, DIM>(s, shared + Shared::ANCHORS, anchor_row, tile_rows, first_column);
    weigh_tile<DIM>(params, anchors, labels, instances, tile * Tiles::ROWS, rows, first_column, s, sums);
    if constexpr (STATISTICS) continue;
    if constexpr (Tiles::COLUMN_GROUPS > 1) {
      publish_weights<T, DIM>(memory + Shared::WEIGHTS, anchor_row, first_column, s);
      block_barrier();
    }
    second_product<T, DIM>(gradient, s, shared + Shared::WEIGHTS, anchor_row, tile_rows, column_group * (GRADIENT_COLUMNS / 8));
  }
  copy_async_wait<0>();
  // The row sums go where slower warps may still be reading memory rows.
  block_barrier();
  write_sums<DIM>(params, sums, first_anchor, row_group, column_group, memory, STATISTICS);
  if constexpr (!STATISTICS) write_gradient<DIM>(params, gradient, first_anchor + anchor_row, column_group * GRADIENT_COLUMNS);
}

#define PAIR_LOSS(FORMAT, TYPE, DIM)                                                                                            \
  KERNEL(pair_loss_##FORMAT##_##DIM, PairLossParams, Tiling<DIM>::THREADS) { pair_loss<TYPE, DIM, false>(params); }              \
  KERNEL(pair_statistics_##FORMAT##_##DIM, PairLossParams, Tiling<DIM>::THREADS) { pair_loss<TYPE, DIM, true>(params); }
PAIR_LOSS(f16, Half, 64)
PAIR_LOSS(f16, Half, 128)
PAIR_LOSS(f16, Half, 256)
PAIR_LOSS(f16, Half, 512)
PAIR_LOSS(bf16, Bfloat, 64)
PAIR_LOSS(bf16, Bfloat, 128)
PAIR_LOSS(bf16, Bfloat, 256)
PAIR_LOSS(bf16, Bfloat, 512)

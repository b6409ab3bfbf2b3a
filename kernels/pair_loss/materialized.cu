// Pair losses of similarities that are materialised: a matrix product has stored them, and another one turns the weights written here
// into the gradient.
//
// pair_weights weighs pairs one by one, in chunks of the memory that stay in second-level cache: the middle of the unfused path, for the
// formats and lengths that fused.cu does not take. Its blocks share the rows of similarities, and each writes sums of its own, which
// combine.cu adds. The other kernels need a row more than once, or all rows of a batch at a time, and see whole rows, as many anchors at
// a time as fit a fixed budget: row statistics, selection of the hardest, counted triplets, and the symmetric weights of a batch compared
// with itself. One block owns a row throughout and sums in a fixed order.
// Range: any number of anchors and rows. Bound: reading 4 bytes and writing 2 for each pair (weights); reading a row of similarities
// from second-level cache once (statistics), 32 times (hardest), or once for each of its positives (triplets).
#include "row.cuh"

constexpr unsigned THREADS = 128;
constexpr unsigned WARPS = THREADS / WARP_SIZE;

// Pairs of a chunk of the memory.
struct PairWeightsParams {
  PairRows rows;
  const float* similarities;  // (anchors of the launch, columns) of the memory rows from `first_row` on
  void* weights;              // (anchors of the launch, columns)
  float* losses;              // (parts, anchors), written from `first_part` on
  int32_t* kept;              // (parts, anchors, 2), the same
  uint32_t first_row, columns, first_part;
  uint32_t first_anchor;      // the anchor of the first row of similarities; the other buffers hold all anchors
};

// Neighbours that a thread reads and writes at once, how often it does so, and columns of a block. Columns are a multiple of the first.
constexpr uint32_t NEIGHBOURS = 4, STEPS = 4, PART_COLUMNS = NEIGHBOURS * STEPS * THREADS;

template <class T>
using Neighbours = Vector<T, NEIGHBOURS>;

// Ids of neighbouring rows, of which those from `count` on are not read.
DEVICE Neighbours<int32_t> read_ids(const int32_t* ids, uint32_t first, uint32_t count) {
  using Ids = Neighbours<int32_t>;
  const int32_t* from = ids + first;
  if (first + NEIGHBOURS <= count && reinterpret_cast<uint64_t>(from) % alignof(Ids) == 0) return *reinterpret_cast<const Ids*>(from);
  Ids found = {};
  for (uint32_t i = 0; i < NEIGHBOURS; i++) {
    if (first + i < count) found.values[i] = from[i];
  }
  return found;
}

// As the epilogues of the fused path.
struct ConstantWeigher {
  ConstantSide positive, negative;

  DEVICE explicit ConstantWeigher(const PairRows& params) : positive(params.positive, true), negative(params.negative, false) {}
  DEVICE float weigh(const PairRows&, const AnchorRow&, uint32_t, bool pair, bool same, float s, RowSums& sums) const {
    if (pair) sums.loss += s * 0.0f;
    const bool pulls = positive.add(pair & same, s, sums.positives, sums.loss);
    const bool pushes = negative.add(pair & !same, s, sums.negatives, sums.loss);
    return pulls ? positive.weight : pushes ? negative.weight : 0.0f;
  }
  DEVICE RowSums finished(const RowSums& sums) const { return {sums.loss, positive.kept(sums.positives), negative.kept(sums.negatives)}; }
};

struct CurveWeigher {
  DEVICE explicit CurveWeigher(const PairRows&) {}
  DEVICE float weigh(const PairRows& params, const AnchorRow& anchor, uint32_t row, bool pair, bool same, float s, RowSums& sums) const {
    return pair ? add_pair(sums, same, weigh_pair_of_row(params, anchor.row, row, same, s)) : 0.0f;
  }
  DEVICE RowSums finished(const RowSums& sums) const { return sums; }
};

// Blocks along x take the anchors, along y PART_COLUMNS columns each.
template <class T, class Weigher>
DEVICE void pair_weights(const PairWeightsParams& params) {
  SHARED_MEMORY(shared);
  const PairRows& rows = params.rows;
  const uint32_t anchor_row = params.first_anchor + block_x(), in_use = rows_in_use(rows);
  const AnchorRow anchor = read_anchor(rows, anchor_row);
  const Weigher weigher(rows);
  const uint64_t start = uint64_t(block_x()) * params.columns;
  const auto column_of = [](uint32_t step) { return block_y() * PART_COLUMNS + (step * THREADS + thread_index()) * NEIGHBOURS; };
  // All that a thread reads is on its way before the first pair is weighed.
  Neighbours<float> similarities[STEPS];
  Neighbours<int32_t> labels[STEPS], instances[STEPS];
  UNROLL
  for (uint32_t step = 0; step < STEPS; step++) {
    const uint32_t column = column_of(step);
    if (column >= params.columns) continue;
    similarities[step] = *reinterpret_cast<const Neighbours<float>*>(params.similarities + start + column);
    labels[step] = read_ids(rows.memory_labels, params.first_row + column, in_use);
    if (rows.memory_instances) instances[step] = read_ids(rows.memory_instances, params.first_row + column, in_use);
  }
  RowSums sums;
  UNROLL
  for (uint32_t step = 0; step < STEPS; step++) {
    const uint32_t column = column_of(step);
    if (column >= params.columns) continue;
    Neighbours<T> weights;
    UNROLL
    for (uint32_t i = 0; i < NEIGHBOURS; i++) {
      const uint32_t row = params.first_row + column + i;
      const bool same_instance = rows.memory_instances && instances[step].values[i] == anchor.instance;
      const bool pair = row < in_use && is_pair(anchor, row, same_instance), same = labels[step].values[i] == anchor.label;
      weights.values[i] = from_float<T>(weigher.weigh(rows, anchor, row, pair, same, similarities[step].values[i], sums));
    }
    *reinterpret_cast<Neighbours<T>*>(static_cast<T*>(params.weights) + start + column) = weights;
  }
  sums = weigher.finished(sums);
  const float loss = block_sum(sums.loss, reinterpret_cast<float*>(shared));
  const int32_t positives = block_sum(sums.positives, reinterpret_cast<int32_t*>(shared));
  const int32_t negatives = block_sum(sums.negatives, reinterpret_cast<int32_t*>(shared));
  if (thread_index() != 0) return;
  const uint64_t at = uint64_t(params.first_part + block_y()) * rows.anchor_count + anchor_row;
  params.losses[at] = loss;
  params.kept[2 * at] = positives;
  params.kept[2 * at + 1] = negatives;
}

#define PAIR_WEIGHTS(FORMAT, TYPE)                                                                                              \
  KERNEL(pair_weights_constant_##FORMAT, PairWeightsParams, THREADS) { pair_weights<TYPE, ConstantWeigher>(params); }           \
  KERNEL(pair_weights_curve_##FORMAT, PairWeightsParams, THREADS) { pair_weights<TYPE, CurveWeigher>(params); }
PAIR_WEIGHTS(f32, float)
PAIR_WEIGHTS(f16, Half)
PAIR_WEIGHTS(bf16, Bfloat)

// Similarities of some anchors with all memory rows.
struct MaterializedRows {
  PairRows rows;
  const float* similarities;  // (anchors of the group, pitch)
  uint32_t first_anchor, pitch;
};

// One row, as its block sees it.
struct MaterializedRow {
  const PairRows& rows;
  const float* similarities;
  AnchorRow anchor;
  uint32_t in_use;

  DEVICE bool is_pair(uint32_t column) const {
    if (column >= in_use) return false;
    const bool same_instance = rows.memory_instances && rows.memory_instances[column] == anchor.instance;
    return ::is_pair(anchor, column, same_instance);
  }
  DEVICE bool is_positive(uint32_t column) const { return rows.memory_labels[column] == anchor.label; }
  // Whether the column is a pair of the kind that passes the gate.
  DEVICE bool is_open(uint32_t column, bool positive) const {
    return is_pair(column) && is_positive(column) == positive && gate_open(positive ? rows.positive : rows.negative, similarities[column]);
  }
};

DEVICE MaterializedRow materialized_row(const MaterializedRows& stored) {
  const float* similarities = stored.similarities + uint64_t(block_x()) * stored.pitch;
  return {stored.rows, similarities, read_anchor(stored.rows, stored.first_anchor + block_x()), rows_in_use(stored.rows)};
}

struct MaterializedStatsParams {
  MaterializedRows stored;
  SideStatistics* statistics;  // (anchors, 2)
};

KERNEL(materialized_row_stats, MaterializedStatsParams, THREADS) {
  SHARED_MEMORY(shared);
  SideStatistics* all = reinterpret_cast<SideStatistics*>(shared);
  const MaterializedRow row = materialized_row(params.stored);
  const RowNormalizer& normalizer = row.rows.row_normalizers[row.anchor.row];
  SideStatistics positive = no_statistics(true), negative = no_statistics(false);
  for (uint32_t column = thread_index(); column < row.in_use; column += THREADS) {
    if (!row.is_pair(column)) continue;
    if (row.is_positive(column)) {
      accumulate(positive, row.rows.positive, normalizer.positive, true, row.similarities[column]);
    } else {
      accumulate(negative, row.rows.negative, normalizer.negative, false, row.similarities[column]);
    }
  }
  all[2 * thread_index()] = positive;
  all[2 * thread_index() + 1] = negative;
  block_barrier();
  for (uint32_t count = THREADS / 2; count > 0; count /= 2) {
    if (thread_index() < count) {
      SideStatistics* mine = all + 2 * thread_index();
      mine[0] = plus(mine[0], mine[2 * count], true);
      mine[1] = plus(mine[1], mine[2 * count + 1], false);
    }
    block_barrier();
  }
  if (thread_index() < 2) params.statistics[2 * row.anchor.row + thread_index()] = all[thread_index()];
}

struct MaterializedHardestParams {
  MaterializedRows stored;
  float* last;                              // (anchors, 2)
  uint32_t positives_wanted, negatives_wanted;  // 0 where that kind is not selected
};

// The similarity of the `wanted`th hardest pair of a kind, found bit by bit; beyond all similarities where there are fewer.
DEVICE float last_of_hardest(const MaterializedRow& row, bool positive, uint32_t wanted, int32_t* shared) {
  const float sign = positive ? -1.0f : 1.0f;
  uint32_t last = 0;
  for (uint32_t bit = 0x80000000u; bit != 0; bit /= 2) {
    int32_t above = 0;
    for (uint32_t column = thread_index(); column < row.in_use; column += THREADS) {
      const bool counts = row.is_pair(column) && row.is_positive(column) == positive;
      above += counts && ordered_bits(sign * row.similarities[column]) >= (last | bit);
    }
    if (uint32_t(block_sum(above, shared)) >= wanted) last |= bit;
  }
  return last == 0 ? -sign * infinity() : sign * from_ordered_bits(last);
}

KERNEL(materialized_hardest, MaterializedHardestParams, THREADS) {
  SHARED_MEMORY(shared);
  int32_t* sums = reinterpret_cast<int32_t*>(shared);
  const MaterializedRow row = materialized_row(params.stored);
  const float positive = params.positives_wanted ? last_of_hardest(row, true, params.positives_wanted, sums) : 0.0f;
  const float negative = params.negatives_wanted ? last_of_hardest(row, false, params.negatives_wanted, sums) : 0.0f;
  if (thread_index() != 0) return;
  params.last[2 * row.anchor.row] = positive;
  params.last[2 * row.anchor.row + 1] = negative;
}

struct MaterializedTripletsParams {
  MaterializedRows stored;
  void* weights;       // (anchors of the group, pitch), signed, written
  uint32_t* places;    // (anchors of the group, pitch): scratch
  float* row_losses;   // (anchors), written
  int32_t* kept;       // (anchors, 2), written
  float margin;
  float scale;         // of the weights that are written: counts beyond 65,504 are no 16-bit numbers
};

// Columns of the positives that pass the gate, ascending; returns their number.
DEVICE uint32_t collect_positives(const MaterializedRow& row, uint32_t* places, uint32_t* counts) {
  uint32_t found = 0;
  for (uint32_t first = 0; first < row.in_use; first += THREADS) {
    const uint32_t column = first + thread_index();
    const bool open = row.is_open(column, true);
    const uint32_t ballot = warp_ballot(open), before = ballot & ((1u << lane_index()) - 1);
    if (lane_index() == 0) counts[warp_index()] = count_bits(ballot);
    block_barrier();
    uint32_t place = found + count_bits(before);
    for (unsigned warp = 0; warp < WARPS; warp++) {
      if (warp < warp_index()) place += counts[warp];
      found += counts[warp];
    }
    if (open) places[place] = column;
    block_barrier();
  }
  return found;
}

// A negative weighs as many triplets as positives come within the margin of it, and its loss is by how much.
DEVICE float weigh_negative(const MaterializedTripletsParams& params, const MaterializedRow& row, uint32_t column, const uint32_t* places, uint32_t positives,
                            RowSums& sums) {
  const SideNormalizer& normalizer = row.rows.row_normalizers[row.anchor.row].negative;
  const float threshold = row.similarities[column] + params.margin;
  float count = 0.0f, violation = 0.0f;
  for (uint32_t i = 0; i < positives; i++) {
    const float positive = row.similarities[places[i]];
    count += positive < threshold ? 1.0f : 0.0f;
    violation += positive < threshold ? threshold - positive : 0.0f;
  }
  const float unit = soft_factor(row.rows, row.anchor.row, column) * normalizer.scale * row.rows.negative.first;
  sums.loss += unit * violation;
  sums.negatives += unit * count != 0.0f;
  return unit * count;
}

template <class T>
DEVICE void materialized_triplets(const MaterializedTripletsParams& params) {
  SHARED_MEMORY(shared);
  const MaterializedRow row = materialized_row(params.stored);
  const uint64_t start = uint64_t(block_x()) * params.stored.pitch;
  uint32_t* places = params.places + start;
  T* weights = static_cast<T*>(params.weights) + start;
  const uint32_t positives = collect_positives(row, places, reinterpret_cast<uint32_t*>(shared));
  RowSums sums;
  for (uint32_t column = thread_index(); column < params.stored.pitch; column += THREADS) {
    if (column < row.in_use) sums.loss += row.similarities[column] * 0.0f;
    const bool negative = row.is_open(column, false);
    weights[column] = from_float<T>(negative ? params.scale * weigh_negative(params, row, column, places, positives, sums) : 0.0f);
  }
  const float unit = row.rows.row_normalizers[row.anchor.row].positive.scale * row.rows.positive.first;
  for (uint32_t i = 0; i < positives; i++) {
    const float positive = row.similarities[places[i]];
    float violated = 0.0f;
    for (uint32_t column = thread_index(); column < row.in_use; column += THREADS) {
      violated += row.is_open(column, false) && positive < row.similarities[column] + params.margin ? 1.0f : 0.0f;
    }
    violated = block_sum(violated, reinterpret_cast<float*>(shared));
    if (thread_index() != 0) continue;
    weights[places[i]] = from_float<T>(-params.scale * unit * violated);
    sums.positives += unit * violated != 0.0f;
  }
  const float loss = block_sum(sums.loss, reinterpret_cast<float*>(shared));
  const int32_t kept_positives = block_sum(sums.positives, reinterpret_cast<int32_t*>(shared));
  const int32_t kept_negatives = block_sum(sums.negatives, reinterpret_cast<int32_t*>(shared));
  if (thread_index() != 0) return;
  params.row_losses[row.anchor.row] = loss;
  params.kept[2 * row.anchor.row] = kept_positives;
  params.kept[2 * row.anchor.row + 1] = kept_negatives;
}

KERNEL(materialized_triplets_f32, MaterializedTripletsParams, THREADS) { materialized_triplets<float>(params); }
KERNEL(materialized_triplets_f16, MaterializedTripletsParams, THREADS) { materialized_triplets<Half>(params); }
KERNEL(materialized_triplets_bf16, MaterializedTripletsParams, THREADS) { materialized_triplets<Bfloat>(params); }

// Both sides of the pairs of a batch: each pair is weighed by the normalizers of both its rows.
struct SymmetricParams {
  const float* weights;   // (anchors, pitch), signed
  void* symmetric;        // (anchors, pitch), written: weights plus their transpose
  const int32_t* labels;  // (anchors)
  int32_t* kept;          // (anchors, 2), written
  uint32_t anchors, pitch;
};

template <class T>
DEVICE void materialized_symmetric(const SymmetricParams& params) {
  SHARED_MEMORY(shared);
  const uint32_t row = block_x();
  const uint64_t start = uint64_t(row) * params.pitch;
  int32_t positives = 0, negatives = 0;
  for (uint32_t column = thread_index(); column < params.pitch; column += THREADS) {
    float weight = 0.0f;
    if (column < params.anchors) {
      weight = params.weights[start + column] + params.weights[uint64_t(column) * params.pitch + row];
      const bool positive = params.labels[column] == params.labels[row];
      positives += positive && weight != 0.0f;
      negatives += !positive && weight != 0.0f;
    }
    static_cast<T*>(params.symmetric)[start + column] = from_float<T>(weight);
  }
  positives = block_sum(positives, reinterpret_cast<int32_t*>(shared));
  negatives = block_sum(negatives, reinterpret_cast<int32_t*>(shared));
  if (thread_index() != 0) return;
  params.kept[2 * row] = positives;
  params.kept[2 * row + 1] = negatives;
}

KERNEL(materialized_symmetric_f32, SymmetricParams, THREADS) { materialized_symmetric<float>(params); }
KERNEL(materialized_symmetric_f16, SymmetricParams, THREADS) { materialized_symmetric<Half>(params); }
KERNEL(materialized_symmetric_bf16, SymmetricParams, THREADS) { materialized_symmetric<Bfloat>(params); }

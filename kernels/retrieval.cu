// Exact neighbours over a gallery on the tensor cores, no similarity ever stored.
//
// Rank of the best positive: retrieval_best finds each query's highest similarity with a positive (a warp whose queries have no
// positive in a tile skips its product: sort the gallery by label), retrieval_count counts the negatives that come before it, and
// retrieval_ranks joins the two. Nearest rows: a key of 64 bits orders similarity, then negatives before positives, then the lower
// row; retrieval_histogram and retrieval_select fix the key of the last neighbour eleven bits at a time until few enough rows
// remain, retrieval_collect gathers those and retrieval_sort orders them. Passes after the last needed one end at once.
// All results are integers combined by integer atomics, so they do not depend on the order of blocks.
// Range: rows of 64, 128, 256 or 512 16-bit numbers, up to 2^31 gallery rows, depth up to 1,000.
// Bound: 2 queries gallery dim flops a pass: two for ranks, about four for neighbours.
#include "similarity.cuh"

constexpr uint32_t DIGIT_BITS = 11, BINS = 1u << DIGIT_BITS;
constexpr uint32_t KEY_BITS = 64;
constexpr uint32_t CANDIDATES = 2048;
constexpr unsigned SORT_THREADS = 256, SELECT_THREADS = WARP_SIZE;
static_assert(CANDIDATES >= 2 * 1000, "the deepest search leaves room for ties of the last digit");
static_assert((CANDIDATES & (CANDIDATES - 1)) == 0, "sorted by exchanges at powers of two");
static_assert(BINS % SELECT_THREADS == 0, "every lane sums as many bins");

struct RetrievalParams {
  const uint16_t* queries;
  const uint16_t* gallery;
  const int32_t* query_labels;
  const int32_t* gallery_labels;
  const int32_t* own_rows;     // the gallery row that is the query itself, or -1
  uint32_t* best;              // (queries): ordered similarity of the best positive, 0 for none; starts at 0
  int32_t* counts;             // (queries): negatives before it; starts at 0
  int32_t* ranks;              // (queries)
  uint32_t* not_finite;        // 1 + a query with a similarity that is not finite, or 0; starts at 0
  uint64_t* thresholds;        // (queries): the smallest key to be collected, as far as it is known; starts at 0
  uint32_t* above;             // (queries): rows known to come before the digit in question; starts at 0
  uint32_t* done;              // (queries); starts at 0
  uint32_t* histograms;        // (queries, BINS); starts at 0
  uint64_t* candidates;        // (queries, CANDIDATES)
  uint32_t* candidate_counts;  // (queries); starts at 0
  int32_t* rows;               // (queries, depth)
  float* similarities;         // (queries, depth)
  uint32_t query_count, gallery_count, tiles_per_split, depth, pass, padding;
};

DEVICE uint64_t neighbour_key(float s, bool positive, uint32_t row) {
  const uint32_t place = (positive ? 0u : 0x80000000u) | (0x7fffffffu - row);
  return uint64_t(ordered_bits(s)) << 32 | place;
}

// One query of the two whose similarities a thread holds.
struct Query {
  bool valid;
  uint32_t index;
  int32_t label, own_row;
};

DEVICE Query read_query(const RetrievalParams& params, uint32_t index) {
  const bool valid = index < params.query_count;
  return {valid, index, valid ? params.query_labels[index] : 0, valid ? params.own_rows[index] : -1};
}

template <int DIM>
struct RetrievalShared {
  using Tiles = Tiling<DIM>;
  static constexpr uint32_t QUERIES = 0;
  static constexpr uint32_t ROWS = QUERIES + Tiles::ANCHOR_BYTES;
  static constexpr uint32_t LABELS = ROWS + 2 * Tiles::ROW_TILE_BYTES;
  static constexpr uint32_t BYTES = LABELS + 2 * Tiles::ROWS * 4;
  static_assert(BYTES <= 99 * 1024, "the smallest supported device allows a block 99 KiB");
};

template <int DIM>
DEVICE void copy_gallery_tile(const RetrievalParams& params, uint32_t shared, uint32_t tile) {
  using Tiles = Tiling<DIM>;
  using Shared = RetrievalShared<DIM>;
  const uint32_t stage = tile % 2, first = tile * Tiles::ROWS;
  copy_rows<DIM, Tiles::ROWS, Tiles::THREADS>(shared + Shared::ROWS + stage * Tiles::ROW_TILE_BYTES, params.gallery, first, params.gallery_count);
  copy_labels<Tiles::ROWS>(shared + Shared::LABELS + stage * Tiles::ROWS * 4, params.gallery_labels, first, params.gallery_count);
}

// Calls use(half, positive, row, s) for every similarity of this thread's two queries with the gallery rows of this split, and
// wanted(half, positive) before, to skip the product of a warp that wants none of a tile.
template <class T, int DIM, class Wanted, class Use>
DEVICE void each_similarity(const RetrievalParams& params, const Query (&queries)[2], Wanted wanted, Use use) {
  using Tiles = Tiling<DIM>;
  using Shared = RetrievalShared<DIM>;
  SHARED_MEMORY(memory);
  const uint32_t shared = shared_address(memory);
  const uint32_t anchor_row = warp_index() / Tiles::COLUMN_GROUPS * 16;
  const uint32_t first_column = warp_index() % Tiles::COLUMN_GROUPS * Tiles::SCORE_COLUMNS;
  const uint32_t tiles = (params.gallery_count + Tiles::ROWS - 1) / Tiles::ROWS, first_tile = block_y() * params.tiles_per_split;
  const uint32_t last_tile = first_tile + params.tiles_per_split < tiles ? first_tile + params.tiles_per_split : tiles;
  copy_rows<DIM, Tiles::ANCHORS, Tiles::THREADS>(shared + Shared::QUERIES, params.queries, block_x() * Tiles::ANCHORS, params.query_count);
  if (first_tile < last_tile) copy_gallery_tile<DIM>(params, shared, first_tile);
  copy_async_commit();
  for (uint32_t tile = first_tile; tile < last_tile; tile++) {
    copy_async_wait<0>();
    // Everybody's copies have landed, and everybody is done with the stage that the next copy overwrites.
    block_barrier();
    if (tile + 1 < last_tile) copy_gallery_tile<DIM>(params, shared, tile + 1);
    copy_async_commit();
    const uint32_t stage = tile % 2;
    const int32_t* labels = reinterpret_cast<const int32_t*>(memory + Shared::LABELS + stage * Tiles::ROWS * 4);
    uint32_t wanted_bits = 0, positive_bits = 0;
    for (int block = 0; block < Tiles::SCORE_BLOCKS; block++) {
      for (int e = 0; e < 4; e++) {
        const uint32_t column = first_column + fragment_column(block, e), row = tile * Tiles::ROWS + column;
        const Query& query = queries[e / 2];
        const bool pair = query.valid && row < params.gallery_count && int32_t(row) != query.own_row;
        const bool positive = labels[column] == query.label;
        wanted_bits |= uint32_t(pair && wanted(e / 2, positive)) << (4 * block + e);
        positive_bits |= uint32_t(positive) << (4 * block + e);
      }
    }
    if (!warp_any(wanted_bits != 0)) continue;
    float s[Tiles::SCORE_BLOCKS][4];
    accumulate_similarities<T, DIM>(s, shared + Shared::QUERIES, anchor_row, shared + Shared::ROWS + stage * Tiles::ROW_TILE_BYTES, first_column);
    UNROLL
    for (int block = 0; block < Tiles::SCORE_BLOCKS; block++) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        if (!(wanted_bits >> (4 * block + e) & 1)) continue;
        const uint32_t row = tile * Tiles::ROWS + first_column + fragment_column(block, e);
        use(e / 2, (positive_bits >> (4 * block + e) & 1) != 0, row, s[block][e]);
      }
    }
  }
  copy_async_wait<0>();
}

template <int DIM>
DEVICE uint32_t query_index(int half) {
  using Tiles = Tiling<DIM>;
  return block_x() * Tiles::ANCHORS + warp_index() / Tiles::COLUMN_GROUPS * 16 + fragment_row(2 * half);
}

#define READ_QUERIES(DIM) {read_query(params, query_index<DIM>(0)), read_query(params, query_index<DIM>(1))}

template <class T, int DIM>
DEVICE void best_positive(const RetrievalParams& params) {
  const Query queries[2] = READ_QUERIES(DIM);
  uint32_t best[2] = {0, 0};
  each_similarity<T, DIM>(params, queries, [](int, bool positive) { return positive; }, [&](int half, bool, uint32_t, float s) {
    if (!is_finite(s)) atomic_max(params.not_finite, queries[half].index + 1);
    const uint32_t key = ordered_bits(s);
    best[half] = key > best[half] ? key : best[half];
  });
  UNROLL
  for (int half = 0; half < 2; half++) {
    if (best[half] != 0) atomic_max(params.best + queries[half].index, best[half]);
  }
}

template <class T, int DIM>
DEVICE void count_before(const RetrievalParams& params) {
  const Query queries[2] = READ_QUERIES(DIM);
  uint32_t best[2];
  UNROLL
  for (int half = 0; half < 2; half++) best[half] = queries[half].valid ? params.best[queries[half].index] : 0;
  int32_t counts[2] = {0, 0};
  each_similarity<T, DIM>(params, queries, [&](int half, bool positive) { return !positive && best[half] != 0; },
                          [&](int half, bool, uint32_t, float s) {
    if (!is_finite(s)) atomic_max(params.not_finite, queries[half].index + 1);
    counts[half] += ordered_bits(s) >= best[half];
  });
  UNROLL
  for (int half = 0; half < 2; half++) {
    if (counts[half] != 0) atomic_add(params.counts + queries[half].index, counts[half]);
  }
}

// Bits of the key below the digit of a pass.
DEVICE uint32_t digit_shift(uint32_t pass) {
  const uint32_t used = DIGIT_BITS * (pass + 1);
  return used < KEY_BITS ? KEY_BITS - used : 0;
}
// The bits that earlier passes have fixed; a shift by all 64 is undefined.
DEVICE uint64_t fixed_bits(uint64_t key, uint32_t pass) { return pass == 0 ? 0 : key >> digit_shift(pass - 1); }

template <class T, int DIM>
DEVICE void histogram(const RetrievalParams& params) {
  const Query queries[2] = READ_QUERIES(DIM);
  bool open[2];
  uint64_t fixed[2];
  UNROLL
  for (int half = 0; half < 2; half++) {
    open[half] = queries[half].valid && !params.done[queries[half].index];
    fixed[half] = open[half] ? fixed_bits(params.thresholds[queries[half].index], params.pass) : 0;
  }
  if (!block_any(open[0] || open[1])) return;
  const uint32_t shift = digit_shift(params.pass), width = params.pass == 0 ? DIGIT_BITS : digit_shift(params.pass - 1) - shift;
  each_similarity<T, DIM>(params, queries, [&](int half, bool) { return open[half]; }, [&](int half, bool positive, uint32_t row, float s) {
    if (!is_finite(s)) atomic_max(params.not_finite, queries[half].index + 1);
    const uint64_t key = neighbour_key(s, positive, row);
    if (fixed_bits(key, params.pass) != fixed[half]) return;
    const uint32_t bin = uint32_t(key >> shift) & ((1u << width) - 1);
    atomic_add(params.histograms + uint64_t(queries[half].index) * BINS + bin, 1u);
  });
}

// One warp a query: the bin in which the last neighbour lies, by sums of an equal share of bins in each lane, from the top.
KERNEL(retrieval_select, RetrievalParams, SELECT_THREADS) {
  const uint32_t query = block_x(), lane = lane_index();
  if (params.done[query]) return;
  constexpr uint32_t SHARE = BINS / SELECT_THREADS;
  uint32_t* bins = params.histograms + uint64_t(query) * BINS;
  const uint32_t top = BINS - lane * SHARE;  // this lane's bins are top - 1 down to top - SHARE
  uint32_t sum = 0;
  for (uint32_t i = 1; i <= SHARE; i++) sum += bins[top - i];
  uint32_t before = params.above[query];
  for (uint32_t other = 0; other < SELECT_THREADS; other++) {
    const uint32_t theirs = warp_read(sum, other);
    before += other < lane ? theirs : 0;
  }
  const bool here = before < params.depth && before + sum >= params.depth;
  const bool found = warp_any(here);
  // Everybody has read what the chosen lane is about to write.
  warp_barrier();
  if (here) {
    uint32_t bin = top - 1;
    while (before + bins[bin] < params.depth) before += bins[bin--];
    const uint32_t shift = digit_shift(params.pass);
    params.thresholds[query] |= uint64_t(bin) << shift;
    params.above[query] = before;
    params.done[query] = before + bins[bin] <= CANDIDATES || shift == 0;
  }
  // Fewer rows than asked for: all of them are neighbours, and the threshold stays 0.
  if (!found && lane == 0) params.done[query] = 1;
  warp_barrier();
  for (uint32_t i = lane; i < BINS; i += SELECT_THREADS) bins[i] = 0;
}

template <class T, int DIM>
DEVICE void collect(const RetrievalParams& params) {
  const Query queries[2] = READ_QUERIES(DIM);
  uint64_t thresholds[2];
  UNROLL
  for (int half = 0; half < 2; half++) thresholds[half] = queries[half].valid ? params.thresholds[queries[half].index] : 0;
  each_similarity<T, DIM>(params, queries, [](int, bool) { return true; }, [&](int half, bool positive, uint32_t row, float s) {
    const uint64_t key = neighbour_key(s, positive, row);
    if (key < thresholds[half]) return;
    const uint32_t slot = atomic_fetch_add(params.candidate_counts + queries[half].index, 1u);
    if (slot < CANDIDATES) params.candidates[uint64_t(queries[half].index) * CANDIDATES + slot] = key;
  });
}

// One block a query: Batcher's bitonic exchanges, largest key first; what follows the candidates is 0.
KERNEL(retrieval_sort, RetrievalParams, SORT_THREADS) {
  SHARED_MEMORY(memory);
  uint64_t* keys = reinterpret_cast<uint64_t*>(memory);
  const uint32_t query = block_x(), found = params.candidate_counts[query];
  for (uint32_t i = thread_index(); i < CANDIDATES; i += SORT_THREADS) {
    keys[i] = i < found ? params.candidates[uint64_t(query) * CANDIDATES + i] : 0;
  }
  for (uint32_t run = 2; run <= CANDIDATES; run *= 2) {
    for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
      block_barrier();
      for (uint32_t i = thread_index(); i < CANDIDATES; i += SORT_THREADS) {
        const uint32_t other = i ^ distance;
        if (other < i) continue;
        const uint64_t a = keys[i], b = keys[other];
        const bool descending = (i & run) == 0;
        if (descending ? a < b : a > b) {
          keys[i] = b;
          keys[other] = a;
        }
      }
    }
  }
  block_barrier();
  for (uint32_t i = thread_index(); i < params.depth; i += SORT_THREADS) {
    const uint64_t key = keys[i], at = uint64_t(query) * params.depth + i;
    params.rows[at] = key == 0 ? -1 : int32_t(0x7fffffffu - (uint32_t(key) & 0x7fffffffu));
    params.similarities[at] = key == 0 ? -infinity() : from_ordered_bits(uint32_t(key >> 32));
  }
}

KERNEL(retrieval_ranks, RetrievalParams, SORT_THREADS) {
  const uint32_t query = block_x() * SORT_THREADS + thread_index();
  if (query < params.query_count) params.ranks[query] = params.best[query] == 0 ? -1 : params.counts[query];
}

#define RETRIEVAL(FORMAT, TYPE, DIM)                                                                                       \
  KERNEL(retrieval_best_##FORMAT##_##DIM, RetrievalParams, Tiling<DIM>::THREADS) { best_positive<TYPE, DIM>(params); }      \
  KERNEL(retrieval_count_##FORMAT##_##DIM, RetrievalParams, Tiling<DIM>::THREADS) { count_before<TYPE, DIM>(params); }      \
  KERNEL(retrieval_histogram_##FORMAT##_##DIM, RetrievalParams, Tiling<DIM>::THREADS) { histogram<TYPE, DIM>(params); }     \
  KERNEL(retrieval_collect_##FORMAT##_##DIM, RetrievalParams, Tiling<DIM>::THREADS) { collect<TYPE, DIM>(params); }
RETRIEVAL(f16, Half, 64)
RETRIEVAL(f16, Half, 128)
RETRIEVAL(f16, Half, 256)
RETRIEVAL(f16, Half, 512)
RETRIEVAL(bf16, Bfloat, 64)
RETRIEVAL(bf16, Bfloat, 128)
RETRIEVAL(bf16, Bfloat, 256)
RETRIEVAL(bf16, Bfloat, 512)

// Exact neighbours over a gallery on the tensor cores, no similarity ever stored.
//
// Rank of the best positive: retrieval_best finds each query's highest similarity with a positive (warps whose queries have no
// positive in a tile skip its product: sort the gallery by label), retrieval_count counts the negatives that come before it, and
// retrieval_ranks joins the two. Nearest rows: a key of 64 bits orders similarity, then negatives before positives, then the lower
// row; retrieval_histogram and retrieval_select fix the key of the last neighbour eleven bits at a time until few enough rows
// remain, retrieval_collect gathers those and retrieval_sort orders them. Passes after the last needed one end at once.
// All results are integers combined by integer atomics, so they do not depend on the order of blocks.
// Range: rows of up to 1,024 16-bit numbers, a multiple of 8, up to 2^31 gallery rows, depth up to 1,000.
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
  uint32_t query_count, gallery_count, tiles_per_split, depth, pass, dim;
};

DEVICE uint64_t neighbour_key(float s, bool positive, uint32_t row) {
  const uint32_t place = (positive ? 0u : 0x80000000u) | (0x7fffffffu - row);
  return uint64_t(ordered_bits(s)) << 32 | place;
}

// One query of those whose similarities a thread holds.
struct Query {
  bool valid;
  uint32_t index;
  int32_t label, own_row;
};

DEVICE Query read_query(const RetrievalParams& params, uint32_t index) {
  const bool valid = index < params.query_count;
  return {valid, index, valid ? params.query_labels[index] : 0, valid ? params.own_rows[index] : -1};
}

// What a warp works on, and the queries of its thread.
template <class Tiles>
struct Queries {
  static constexpr int COUNT = Tiles::ANCHOR_ROWS;
  WarpPlace<Tiles> place;
  Query rows[COUNT];

  DEVICE explicit Queries(const RetrievalParams& params) {
    UNROLL
    for (int which = 0; which < COUNT; which++) rows[which] = read_query(params, place.first_anchor + place.anchor(which));
  }
};

// Whether the predicate holds for a thread of the warps that share the length of a row.
template <class Tiles>
DEVICE bool any_of_group(bool predicate) {
  return Tiles::SLICES == 1 ? warp_any(predicate) : block_any(predicate);
}

// Calls use(which, positive, row, s) for every similarity of this thread's queries with the gallery rows of this split, and
// wanted(which, positive) before, to skip the product of warps that want none of a tile.
template <class T, class Tiles, class Wanted, class Use>
DEVICE void each_similarity(const RetrievalParams& params, const Queries<Tiles>& queries, Wanted wanted, Use use) {
  SHARED_MEMORY(memory);
  const WarpPlace<Tiles>& place = queries.place;
  const TileSource source{params.queries, params.gallery, params.gallery_labels, nullptr, params.query_count, params.gallery_count,
                          params.dim, params.tiles_per_split};
  static_assert(Tiles::OWN_BLOCKS * 4 <= 32, "a bit for each similarity of a thread");
  uint32_t wanted_bits = 0, positive_bits = 0;
  const auto look_for_wanted = [&](const TileRows& tile) {
    wanted_bits = positive_bits = 0;
    UNROLL
    for (int i = 0; i < Tiles::OWN_BLOCKS * 4; i++) {
      const uint32_t column = place.column(i / 4) + i % 2, row = tile.first + column;
      const int which = place.anchor_of(i / 4, i % 4);
      const Query& query = queries.rows[which];
      const bool pair = place.owns_blocks() && query.valid && row < params.gallery_count && int32_t(row) != query.own_row;
      const bool positive = tile.labels[column] == query.label;
      wanted_bits |= uint32_t(pair && wanted(which, positive)) << i;
      positive_bits |= uint32_t(positive) << i;
    }
    return any_of_group<Tiles>(wanted_bits != 0);
  };
  for_each_tile<T>(source, place, memory, look_for_wanted, [&](const float (&s)[Tiles::BLOCKS][4], const TileRows& tile) {
    UNROLL
    for (int i = 0; i < Tiles::OWN_BLOCKS * 4; i++) {
      if (!(wanted_bits >> i & 1)) continue;
      use(place.anchor_of(i / 4, i % 4), (positive_bits >> i & 1) != 0, tile.first + place.column(i / 4) + i % 2, s[i / 4][i % 4]);
    }
  });
}

template <class T, class Tiles>
DEVICE void best_positive(const RetrievalParams& params) {
  const Queries<Tiles> queries(params);
  uint32_t best[queries.COUNT] = {};
  each_similarity<T>(params, queries, [](int, bool positive) { return positive; }, [&](int which, bool, uint32_t, float s) {
    if (!is_finite(s)) atomic_max(params.not_finite, queries.rows[which].index + 1);
    const uint32_t key = ordered_bits(s);
    best[which] = key > best[which] ? key : best[which];
  });
  UNROLL
  for (int which = 0; which < queries.COUNT; which++) {
    if (best[which] != 0) atomic_max(params.best + queries.rows[which].index, best[which]);
  }
}

template <class T, class Tiles>
DEVICE void count_before(const RetrievalParams& params) {
  const Queries<Tiles> queries(params);
  uint32_t best[queries.COUNT];
  UNROLL
  for (int which = 0; which < queries.COUNT; which++) best[which] = queries.rows[which].valid ? params.best[queries.rows[which].index] : 0;
  int32_t counts[queries.COUNT] = {};
  each_similarity<T>(params, queries, [&](int which, bool positive) { return !positive && best[which] != 0; },
                          [&](int which, bool, uint32_t, float s) {
    if (!is_finite(s)) atomic_max(params.not_finite, queries.rows[which].index + 1);
    counts[which] += ordered_bits(s) >= best[which];
  });
  UNROLL
  for (int which = 0; which < queries.COUNT; which++) {
    if (counts[which] != 0) atomic_add(params.counts + queries.rows[which].index, counts[which]);
  }
}

// Bits of the key below the digit of a pass.
DEVICE uint32_t digit_shift(uint32_t pass) {
  const uint32_t used = DIGIT_BITS * (pass + 1);
  return used < KEY_BITS ? KEY_BITS - used : 0;
}
// The bits that earlier passes have fixed; a shift by all 64 is undefined.
DEVICE uint64_t fixed_bits(uint64_t key, uint32_t pass) { return pass == 0 ? 0 : key >> digit_shift(pass - 1); }

template <class T, class Tiles>
DEVICE void histogram(const RetrievalParams& params) {
  const Queries<Tiles> queries(params);
  bool open[queries.COUNT], any = false;
  uint64_t fixed[queries.COUNT];
  UNROLL
  for (int which = 0; which < queries.COUNT; which++) {
    open[which] = queries.rows[which].valid && !params.done[queries.rows[which].index];
    any |= open[which];
    fixed[which] = open[which] ? fixed_bits(params.thresholds[queries.rows[which].index], params.pass) : 0;
  }
  if (!block_any(any)) return;
  const uint32_t shift = digit_shift(params.pass), width = params.pass == 0 ? DIGIT_BITS : digit_shift(params.pass - 1) - shift;
  each_similarity<T>(params, queries, [&](int which, bool) { return open[which]; }, [&](int which, bool positive, uint32_t row, float s) {
    if (!is_finite(s)) atomic_max(params.not_finite, queries.rows[which].index + 1);
    const uint64_t key = neighbour_key(s, positive, row);
    if (fixed_bits(key, params.pass) != fixed[which]) return;
    const uint32_t bin = uint32_t(key >> shift) & ((1u << width) - 1);
    atomic_add(params.histograms + uint64_t(queries.rows[which].index) * BINS + bin, 1u);
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

template <class T, class Tiles>
DEVICE void collect(const RetrievalParams& params) {
  const Queries<Tiles> queries(params);
  uint64_t thresholds[queries.COUNT];
  UNROLL
  for (int which = 0; which < queries.COUNT; which++) thresholds[which] = queries.rows[which].valid ? params.thresholds[queries.rows[which].index] : 0;
  each_similarity<T>(params, queries, [](int, bool) { return true; }, [&](int which, bool positive, uint32_t row, float s) {
    const uint64_t key = neighbour_key(s, positive, row);
    if (key < thresholds[which]) return;
    const uint32_t slot = atomic_fetch_add(params.candidate_counts + queries.rows[which].index, 1u);
    if (slot < CANDIDATES) params.candidates[uint64_t(queries.rows[which].index) * CANDIDATES + slot] = key;
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

#define RETRIEVAL(NAME, FUNCTION, FORMAT, TYPE, DIM, SUFFIX, LARGE)                                              \
  KERNEL(retrieval_##NAME##_##FORMAT##_##SUFFIX, RetrievalParams, (Tiling<DIM, LARGE>::THREADS)) {               \
    FUNCTION<TYPE, Tiling<DIM, LARGE>>(params);                                                                  \
  }
#define RETRIEVAL_OF_LENGTH(FORMAT, TYPE, DIM, SUFFIX, LARGE)              \
  RETRIEVAL(best, best_positive, FORMAT, TYPE, DIM, SUFFIX, LARGE)         \
  RETRIEVAL(count, count_before, FORMAT, TYPE, DIM, SUFFIX, LARGE)         \
  RETRIEVAL(histogram, histogram, FORMAT, TYPE, DIM, SUFFIX, LARGE)        \
  RETRIEVAL(collect, collect, FORMAT, TYPE, DIM, SUFFIX, LARGE)
#define RETRIEVAL_OF_FORMAT(FORMAT, TYPE)                         \
  RETRIEVAL_OF_LENGTH(FORMAT, TYPE, 64, 64, false)                \
  RETRIEVAL_OF_LENGTH(FORMAT, TYPE, 128, 128, false)              \
  RETRIEVAL_OF_LENGTH(FORMAT, TYPE, 256, 256, false)              \
  RETRIEVAL_OF_LENGTH(FORMAT, TYPE, 512, 512, false)              \
  RETRIEVAL_OF_LENGTH(FORMAT, TYPE, 512, 512_large, true)         \
  RETRIEVAL_OF_LENGTH(FORMAT, TYPE, 1024, 1024_large, true)
RETRIEVAL_OF_FORMAT(f16, Half)
RETRIEVAL_OF_FORMAT(bf16, Bfloat)

// Exact neighbours of queries whose similarities with a whole gallery lie in memory: a block a query, which goes over its row of
// similarities as often as it must. The engine has cuBLASLt write the rows of as many queries as second-level cache holds.
//
// retrieval_rank: the highest similarity with a positive, then the number of negatives that come before it.
// retrieval_nearest: radix select. A key of 64 bits orders similarity, then negatives before positives, then the lower row. Digits of
// 11 bits fix the key of the last neighbour from the top until few enough rows remain; those are gathered and sorted by Batcher's
// bitonic exchanges. What one sort cannot hold is found by starting again below the last key.
// All results are integers or copies, so they do not depend on the order of threads.
// Range: up to 2^31 gallery rows, any depth.
// Bound: reading each similarity once a pass, from second-level cache: one pass for ranks, two to four for up to 1,024 neighbours.
#include "device/device.cuh"

constexpr unsigned THREADS = 512;
constexpr int IN_FLIGHT = 8;  // numbers a thread has asked for before it looks at the first
constexpr uint32_t DIGIT_BITS = 11, BINS = 1u << DIGIT_BITS, SHARE = BINS / THREADS;
constexpr uint32_t KEY_BITS = 64;
constexpr uint32_t CANDIDATES = 2048, LONGEST_STEP = 1024;
static_assert(CANDIDATES >= 2 * LONGEST_STEP, "a step leaves room for ties of the last digit");
static_assert((CANDIDATES & (CANDIDATES - 1)) == 0, "sorted by exchanges at powers of two");
static_assert(BINS % THREADS == 0, "every thread sums as many bins");

struct RetrievalParams {
  const float* similarities;      // (queries, stride): of each query with the gallery, then numbers that are not read
  const int32_t* query_labels;    // (queries)
  const int32_t* gallery_labels;  // (gallery_count)
  const int32_t* own_rows;        // (queries): the gallery row that is the query itself, or -1
  int32_t* ranks;                 // (queries), written by retrieval_rank: -1 without a positive
  int32_t* rows;                  // (queries, depth), written by retrieval_nearest: -1 past the gallery's end
  float* nearest;                 // (queries, depth), likewise: their similarities, minus infinity past the gallery's end
  uint32_t* not_finite;           // 1 + a query with a similarity that is not finite, or 0; starts at 0
  uint64_t stride;
  uint32_t gallery_count, depth, first_query, padding;
};

// The query of this block.
struct Query {
  const float* similarities;
  const int32_t* gallery_labels;
  uint32_t gallery_count;
  int32_t label, own_row;

  DEVICE explicit Query(const RetrievalParams& params)
      : similarities(params.similarities + block_x() * params.stride),
        gallery_labels(params.gallery_labels),
        gallery_count(params.gallery_count),
        label(params.query_labels[block_x()]),
        own_row(params.own_rows[block_x()]) {}

  DEVICE bool is_positive(uint32_t row) const { return gallery_labels[row] == label; }

  // Calls use(row, value) for this thread's share of an array of one value for each gallery row, the query itself left out.
  template <class T, class Use>
  DEVICE void each_row(const T* values, Use use) const {
    for (uint32_t first = thread_index(); first < gallery_count; first += THREADS * IN_FLIGHT) {
      T ahead[IN_FLIGHT];
      UNROLL
      for (int i = 0; i < IN_FLIGHT; i++) {
        const uint32_t row = first + i * THREADS;
        ahead[i] = row < gallery_count ? values[row] : T(0);
      }
      UNROLL
      for (int i = 0; i < IN_FLIGHT; i++) {
        const uint32_t row = first + i * THREADS;
        if (row < gallery_count && int32_t(row) != own_row) use(row, ahead[i]);
      }
    }
  }
};

// In the order of the numbers, minus zero like zero; no finite number becomes 0.
DEVICE uint32_t similarity_order(float s) { return ordered_bits(s + 0.0f); }

// One address for all of a block's threads.
DEVICE void report_not_finite(const RetrievalParams& params, bool found) {
  if (found) atomic_max(params.not_finite, params.first_query + block_x() + 1);
}

KERNEL(retrieval_rank, RetrievalParams, THREADS) {
  SHARED_MEMORY(memory);
  uint32_t& shared_best = *reinterpret_cast<uint32_t*>(memory);
  int32_t* const sums = reinterpret_cast<int32_t*>(memory) + 1;
  const Query query(params);
  if (thread_index() == 0) shared_best = 0;
  block_barrier();
  bool not_finite = false;
  uint32_t best = 0;
  query.each_row(query.gallery_labels, [&](uint32_t row, int32_t label) {
    if (label != query.label) return;
    const float s = query.similarities[row];
    not_finite |= !is_finite(s);
    const uint32_t order = similarity_order(s);
    best = order > best ? order : best;
  });
  if (best != 0) atomic_max(&shared_best, best);
  block_barrier();
  best = shared_best;
  int32_t before = 0;
  if (best != 0) {
    query.each_row(query.similarities, [&](uint32_t row, float s) {
      not_finite |= !is_finite(s);
      before += similarity_order(s) >= best && !query.is_positive(row);
    });
  }
  report_not_finite(params, not_finite);
  before = block_sum(before, sums);
  if (thread_index() == 0) params.ranks[block_x()] = best == 0 ? -1 : before;
}

DEVICE uint64_t neighbour_key(float s, bool positive, uint32_t row) {
  return uint64_t(similarity_order(s)) << 32 | (positive ? 0u : 0x80000000u) | (0x7fffffffu - row);
}

// Bits of the key below the digit of a pass.
DEVICE uint32_t digit_shift(uint32_t pass) {
  const uint32_t used = DIGIT_BITS * (pass + 1);
  return used < KEY_BITS ? KEY_BITS - used : 0;
}
// The bits that earlier passes have fixed; a shift by all 64 is undefined.
DEVICE uint64_t fixed_bits(uint64_t key, uint32_t pass) { return pass == 0 ? 0 : key >> digit_shift(pass - 1); }

struct Selection {
  uint64_t candidates[CANDIDATES];
  uint32_t bins[BINS];
  uint32_t sums[THREADS / WARP_SIZE];
  uint64_t threshold;
  uint32_t above, found, done;
};

// Keys from `threshold` up to, but without, `below`.
struct KeyRange {
  uint64_t threshold, below;
};

// The bin in which the last of `wanted` neighbours lies, found by the thread that has its share of bins there.
DEVICE void choose_bin(Selection& shared, uint32_t pass, uint32_t wanted) {
  const uint32_t top = BINS - thread_index() * SHARE;  // this thread's bins are top - 1 down to top - SHARE
  uint32_t sum = 0;
  UNROLL
  for (uint32_t i = 1; i <= SHARE; i++) sum += shared.bins[top - i];
  uint32_t before = shared.above;
  // Everybody has read what the chosen thread is about to write: the sums below wait for all.
  before += block_sum_before(sum, shared.sums);
  const bool here = before < wanted && before + sum >= wanted;
  if (here) {
    uint32_t bin = top - 1;
    while (before + shared.bins[bin] < wanted) before += shared.bins[bin--];
    const uint32_t shift = digit_shift(pass);
    shared.threshold |= uint64_t(bin) << shift;
    shared.above = before;
    shared.done = before + shared.bins[bin] <= CANDIDATES || shift == 0;
  }
  // Fewer rows than wanted: all of them are neighbours, and the threshold stays 0.
  const bool found = block_any(here);
  if (!found && thread_index() == 0) shared.done = 1;
  block_barrier();
}

// The smallest key of at least `wanted` and at most CANDIDATES keys below `below`, or 0 where there are fewer.
DEVICE uint64_t find_threshold(const RetrievalParams& params, const Query& query, Selection& shared, uint64_t below, uint32_t wanted) {
  if (thread_index() == 0) {
    shared.threshold = 0;
    shared.above = shared.done = 0;
  }
  bool not_finite = false;
  for (uint32_t pass = 0;; pass++) {
    for (uint32_t i = thread_index(); i < BINS; i += THREADS) shared.bins[i] = 0;
    block_barrier();
    const uint64_t fixed = fixed_bits(shared.threshold, pass);
    const uint32_t shift = digit_shift(pass), width = pass == 0 ? DIGIT_BITS : digit_shift(pass - 1) - shift;
    query.each_row(query.similarities, [&](uint32_t row, float s) {
      not_finite |= !is_finite(s);
      const uint32_t order = similarity_order(s);
      uint64_t key = uint64_t(order) << 32;
      // Most rows are told apart by their similarity alone: whatever their label, they lie outside.
      if (fixed_bits(key | 0xffffffffu, pass) < fixed || key >= below) return;
      if (shift < 32 || order == uint32_t(below >> 32)) {
        key = neighbour_key(s, query.is_positive(row), row);
        if (key >= below) return;
      }
      if (fixed_bits(key, pass) == fixed) atomic_add(&shared.bins[uint32_t(key >> shift) & ((1u << width) - 1)], 1u);
    });
    block_barrier();
    choose_bin(shared, pass, wanted);
    if (shared.done) break;
  }
  report_not_finite(params, not_finite);
  return shared.threshold;
}

// Gathers the keys of a range; returns how many there are.
DEVICE uint32_t collect(const Query& query, Selection& shared, KeyRange range) {
  if (thread_index() == 0) shared.found = 0;
  block_barrier();
  query.each_row(query.similarities, [&](uint32_t row, float s) {
    if (similarity_order(s) < uint32_t(range.threshold >> 32)) return;
    const uint64_t key = neighbour_key(s, query.is_positive(row), row);
    if (key < range.threshold || key >= range.below) return;
    const uint32_t slot = atomic_fetch_add(&shared.found, 1u);
    if (slot < CANDIDATES) shared.candidates[slot] = key;
  });
  block_barrier();
  return shared.found < CANDIDATES ? shared.found : CANDIDATES;
}

// Batcher's bitonic exchanges, largest key first; what is missing to a power of two is 0.
DEVICE void sort(uint64_t* keys, uint32_t found) {
  uint32_t size = 2;
  while (size < found) size *= 2;
  for (uint32_t i = found + thread_index(); i < size; i += THREADS) keys[i] = 0;
  for (uint32_t run = 2; run <= size; run *= 2) {
    for (uint32_t distance = run / 2; distance > 0; distance /= 2) {
      block_barrier();
      for (uint32_t i = thread_index(); i < size; i += THREADS) {
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
}

KERNEL(retrieval_nearest, RetrievalParams, THREADS) {
  SHARED_MEMORY(memory);
  Selection& shared = *reinterpret_cast<Selection*>(memory);
  const Query query(params);
  int32_t* const rows = params.rows + uint64_t(block_x()) * params.depth;
  float* const nearest = params.nearest + uint64_t(block_x()) * params.depth;
  uint64_t below = ~uint64_t(0);
  for (uint32_t written = 0; written < params.depth;) {
    const uint32_t left = params.depth - written, wanted = left < LONGEST_STEP ? left : LONGEST_STEP;
    const uint64_t threshold = find_threshold(params, query, shared, below, wanted);
    const uint32_t found = collect(query, shared, {threshold, below});
    sort(shared.candidates, found);
    // The last step writes what is missing too.
    const uint32_t end = found < wanted ? left : found < left ? found : left;
    for (uint32_t i = thread_index(); i < end; i += THREADS) {
      const uint64_t key = i < found ? shared.candidates[i] : 0;
      rows[written + i] = key == 0 ? -1 : int32_t(0x7fffffffu - (uint32_t(key) & 0x7fffffffu));
      nearest[written + i] = key == 0 ? -infinity() : from_ordered_bits(uint32_t(key >> 32));
    }
    written += end;
    // Read before the next step writes its own: that finds its threshold first, behind barriers.
    if (found > 0) below = shared.candidates[found - 1];
  }
}

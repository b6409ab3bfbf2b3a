// Statistics of each anchor's pairs in the memory: the pass before fused.cu where a weight depends on the other pairs of its row.
//
// The first half of the fused loss: similarities on the tensor cores, never stored, and of each kind of pair its number, its hardest
// similarity and the sum of its curve with a running maximum of the exponents. Blocks split the memory as the loss does; normalize.cu
// adds the splits. Sums are combined in a fixed order. Range and formats are those of the loss.
// Bound: 2 anchors rows dim flops, or 2 rows dim bytes below about 180 anchors.
#include "tile.cuh"

struct RowStatsParams {
  PairTiles tiles;
  SideStatistics* statistics;  // (splits, anchors, 2)
};

struct RowStatistics {
  SideStatistics positive = no_statistics(true), negative = no_statistics(false);
};

DEVICE SideStatistics exchanged(const SideStatistics& mine, unsigned lane_mask) {
  return {warp_exchange(mine.count, lane_mask), warp_exchange(mine.hardest, lane_mask), warp_exchange(mine.row_max, lane_mask),
          warp_exchange(mine.sum_exp, lane_mask), 0.0f};
}

// Over the four lanes that hold a row.
DEVICE SideStatistics row_total(SideStatistics mine, bool positive) {
  mine = plus(mine, exchanged(mine, 1), positive);
  return plus(mine, exchanged(mine, 2), positive);
}

// Over its lanes and all column groups, in that order.
template <int DIM>
DEVICE void write_statistics(const RowStatsParams& params, const RowStatistics (&rows)[2], const WarpPlace<DIM>& place, uint8_t* shared) {
  using Tiles = Tiling<DIM>;
  static_assert(sizeof(RowStatistics) * Tiles::ANCHORS * Tiles::COLUMN_GROUPS <= 2 * Tiles::ROW_TILE_BYTES, "they lie where the memory rows were");
  RowStatistics* all = reinterpret_cast<RowStatistics*>(shared + PairTileShared<DIM>::ROWS);
  UNROLL
  for (int half = 0; half < 2; half++) {
    const SideStatistics positive = row_total(rows[half].positive, true), negative = row_total(rows[half].negative, false);
    if (lane_index() % 4 != 0) continue;
    RowStatistics& mine = all[place.column_group * Tiles::ANCHORS + place.row_group * 16 + half * 8 + lane_index() / 4];
    mine.positive = positive;
    mine.negative = negative;
  }
  block_barrier();
  const uint32_t anchors = params.tiles.rows.anchor_count, row = thread_index(), anchor = place.first_anchor + row;
  if (row >= Tiles::ANCHORS || anchor >= anchors) return;
  SideStatistics positive = all[row].positive, negative = all[row].negative;
  for (int group = 1; group < Tiles::COLUMN_GROUPS; group++) {
    positive = plus(positive, all[group * Tiles::ANCHORS + row].positive, true);
    negative = plus(negative, all[group * Tiles::ANCHORS + row].negative, false);
  }
  SideStatistics* to = params.statistics + 2 * (uint64_t(block_y()) * anchors + anchor);
  to[0] = positive;
  to[1] = negative;
}

template <class T, int DIM>
DEVICE void pair_row_stats(const RowStatsParams& params) {
  using Tiles = Tiling<DIM>;
  SHARED_MEMORY(memory);
  const WarpPlace<DIM> place;
  const PairRows& rows = params.tiles.rows;
  const AnchorRow anchors[2] = {read_anchor(rows, place.first_anchor + place.anchor_row + fragment_row(0)),
                                read_anchor(rows, place.first_anchor + place.anchor_row + fragment_row(2))};
  RowStatistics statistics[2];
  for_each_tile<T, DIM>(params.tiles, place, memory, [&](float (&s)[Tiles::SCORE_BLOCKS][4], const TileRows& tile) {
    for_each_pair(
        rows, anchors, tile, place.first_column, s,
        [&](int half, uint32_t, bool positive, float& s) {
          const RowNormalizer& normalizer = rows.row_normalizers[anchors[half].row];
          if (positive) {
            accumulate(statistics[half].positive, rows.positive, normalizer.positive, true, s);
          } else {
            accumulate(statistics[half].negative, rows.negative, normalizer.negative, false, s);
          }
        },
        [](float&) {});
  });
  write_statistics<DIM>(params, statistics, place, memory);
}

#define PAIR_ROW_STATS(FORMAT, TYPE, DIM) \
  KERNEL(pair_row_stats_##FORMAT##_##DIM, RowStatsParams, Tiling<DIM>::THREADS) { pair_row_stats<TYPE, DIM>(params); }
PAIR_ROW_STATS(f16, Half, 64)
PAIR_ROW_STATS(f16, Half, 128)
PAIR_ROW_STATS(f16, Half, 256)
PAIR_ROW_STATS(f16, Half, 512)
PAIR_ROW_STATS(bf16, Bfloat, 64)
PAIR_ROW_STATS(bf16, Bfloat, 128)
PAIR_ROW_STATS(bf16, Bfloat, 256)
PAIR_ROW_STATS(bf16, Bfloat, 512)

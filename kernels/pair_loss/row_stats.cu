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

DEVICE SideStatistics over_lanes(SideStatistics mine, bool positive) {
  mine = plus(mine, exchanged(mine, 1), positive);
  return plus(mine, exchanged(mine, 2), positive);
}
DEVICE RowStatistics over_lanes(const RowStatistics& row) { return {over_lanes(row.positive, true), over_lanes(row.negative, false)}; }
DEVICE RowStatistics plus(const RowStatistics& a, const RowStatistics& b) {
  return {plus(a.positive, b.positive, true), plus(a.negative, b.negative, false)};
}

template <class T, class Tiles>
DEVICE void pair_row_stats(const RowStatsParams& params) {
  SHARED_MEMORY(memory);
  const WarpPlace<Tiles> place;
  const PairRows& rows = params.tiles.rows;
  const PairAnchors<WarpPlace<Tiles>> anchors(rows, place);
  RowStatistics statistics[Tiles::ANCHOR_ROWS];
  for_each_tile<T>(tile_source(params.tiles), place, memory, [&](const float (&s)[Tiles::BLOCKS][4], const TileRows& tile) {
    if (!place.owns_blocks()) return;
    UNROLL
    for (int block = 0; block < Tiles::OWN_BLOCKS; block++) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        const uint32_t column = place.column(block) + e % 2;
        const int which = place.anchor_of(block, e);
        const uint32_t anchor = place.first_anchor + place.anchor(which);
        if (anchor >= rows.anchor_count || !anchors.is_pair(which, tile, column)) continue;
        const RowNormalizer& normalizer = rows.row_normalizers[anchor];
        if (tile.labels[column] == anchors.labels[which]) {
          accumulate(statistics[which].positive, rows.positive, normalizer.positive, true, s[block][e]);
        } else {
          accumulate(statistics[which].negative, rows.negative, normalizer.negative, false, s[block][e]);
        }
      }
    }
  });
  write_row_sums(rows.anchor_count, statistics, place, memory, [&](uint64_t at, const RowStatistics& sums) {
    params.statistics[2 * at] = sums.positive;
    params.statistics[2 * at + 1] = sums.negative;
  });
}

#define PAIR_ROW_STATS(DIM, SUFFIX, LARGE)                                                            \
  KERNEL(pair_row_stats_f16_##SUFFIX, RowStatsParams, (Tiling<DIM, LARGE>::THREADS)) {                \
    pair_row_stats<Half, Tiling<DIM, LARGE>>(params);                                                 \
  }                                                                                                   \
  KERNEL(pair_row_stats_bf16_##SUFFIX, RowStatsParams, (Tiling<DIM, LARGE>::THREADS)) {               \
    pair_row_stats<Bfloat, Tiling<DIM, LARGE>>(params);                                               \
  }
EACH_TILING(PAIR_ROW_STATS)

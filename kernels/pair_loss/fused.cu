// Weighted pair loss of a batch against the memory, and its gradient: S = Q M^T, W = w(S), G = W M in one pass.
//
// Neither S nor W is ever stored outside a block: a tile of S becomes, in registers, the weights of the second product. A discarded
// pair has weight exactly 0, and 16 memory rows without any weight for the 32 anchors of a warp skip its second product, which changes
// no bit of the result. Blocks split the memory by ranges that depend on sizes only; their partial sums are added in a fixed order
// by combine.cu. No floating-point atomics.
// Range: rows of up to 1,024 16-bit numbers, a multiple of 8, up to 2^31 memory rows, any number of anchors. Weights are rounded to the
// memory's format. Bound: 4 anchors rows dim flops, or 2 rows dim bytes below about 90 anchors.
#include "epilogue.cuh"

struct PairLossParams {
  PairTiles tiles;
  float* gradients;   // (splits, anchors, dim)
  float* losses;      // (splits, anchors)
  int32_t* kept;      // (splits, anchors, 2)
};

template <class Tiles, bool LARGE>
struct PairLossShared {
  // Weights that the warps of a row group exchange: the pitch keeps eight rows in eight bank groups.
  static constexpr uint32_t PITCH = Tiles::ROWS * 2 + 16;
  static constexpr uint32_t WEIGHTS_AT = Tiles::BYTES;
  static constexpr uint32_t BYTES = WEIGHTS_AT + (Tiles::SLICES > 1 ? Tiles::ANCHORS * PITCH : 0);
  static_assert(BYTES <= (LARGE ? LARGE_SHARED_LIMIT : SHARED_LIMIT), "what a block may have");
  // After the last tile the row sums of all slices lie where the memory rows were.
};

// Writes the weights of this warp's own blocks for the other warps of its row group.
template <class T, class Tiles>
DEVICE void publish_weights(uint8_t* weights, uint32_t pitch, const WarpPlace<Tiles>& place, const float (&s)[Tiles::BLOCKS][4]) {
  UNROLL
  for (int block = 0; block < Tiles::OWN_BLOCKS; block++) {
    UNROLL
    for (int e = 0; e < 4; e += 2) {
      const uint32_t row = place.anchor(place.anchor_of(block, e));
      *reinterpret_cast<uint32_t*>(weights + row * pitch + place.column(block) * 2) = pack_pair<T>(s[block][e], s[block][e + 1]);
    }
  }
}

// The weights of 16 anchors with 16 memory rows as an operand: two blocks of accumulators side by side are one already.
template <class T>
DEVICE void pack_weights(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack_pair<T>(left[0], left[1]);
  a[1] = pack_pair<T>(left[2], left[3]);
  a[2] = pack_pair<T>(right[0], right[1]);
  a[3] = pack_pair<T>(right[2], right[3]);
}

// gradient += weights (32 anchors x ROWS) . memory rows, the columns of this warp's slice.
template <class T, class Tiles>
DEVICE void second_product(float (&gradient)[Tiles::SLICE / 8][2][4], const float (&s)[Tiles::BLOCKS][4], const WarpPlace<Tiles>& place,
                           uint32_t weights, uint32_t pitch, uint32_t rows) {
  constexpr uint32_t MAGNITUDES = 0x7fff7fff;  // a discarded positive is -0
  const uint32_t lane = lane_index();
  UNROLL
  for (uint32_t n = 0; n < Tiles::ROWS / 8; n += 2) {
    uint32_t a[2][4], bits = 0;
    UNROLL
    for (uint32_t half = 0; half < 2; half++) {
      if constexpr (Tiles::SLICES == 1) {
        pack_weights<T>(a[half], s[2 * n + half], s[2 * n + 2 + half]);
      } else {
        load_matrices(a[half], weights + (place.anchor_row + half * 16 + lane % 16) * pitch + n * 16 + lane / 16 * 16);
      }
      bits |= a[half][0] | a[half][1] | a[half][2] | a[half][3];
    }
    if (!warp_any((bits & MAGNITUDES) != 0)) continue;
    UNROLL
    for (uint32_t column = 0; column < Tiles::SLICE / 8; column += 2) {
      uint32_t b[4];
      const uint32_t chunk = place.slice * (Tiles::SLICE / 8) + column + lane / 16;
      load_matrices_transposed(b, rows + swizzled<Tiles::DIM>(n * 8 + lane % 16, chunk));
      UNROLL
      for (uint32_t half = 0; half < 2; half++) {
        multiply_accumulate(gradient[column][half], a[half], b[0], b[1], T{});
        multiply_accumulate(gradient[column + 1][half], a[half], b[2], b[3], T{});
      }
    }
  }
}

template <class Tiles>
DEVICE void write_gradient(const PairLossParams& params, const float (&gradient)[Tiles::SLICE / 8][2][4], const WarpPlace<Tiles>& place) {
  struct alignas(8) Pair {
    float low, high;
  };
  const uint32_t dim = params.tiles.dim, first_column = place.slice * Tiles::SLICE;
  UNROLL
  for (int e = 0; e < 8; e += 2) {
    const uint32_t half = e / 4, anchor = place.first_anchor + place.anchor_row + half * 16 + fragment_row(e % 4);
    if (anchor >= params.tiles.rows.anchor_count) continue;
    float* to = params.gradients + (uint64_t(block_y()) * params.tiles.rows.anchor_count + anchor) * dim + first_column + fragment_column(0);
    UNROLL
    for (uint32_t column = 0; column < Tiles::SLICE / 8; column++) {
      if (first_column + column * 8 >= dim) continue;
      *reinterpret_cast<Pair*>(to + column * 8) = {gradient[column][half][e % 4], gradient[column][half][e % 4 + 1]};
    }
  }
}

// Where a thread holds most numbers, curves get half as many similarities at a time, or registers run out.
constexpr bool is_halved(int dim, bool large) { return dim == 128 || (dim == 512 && large); }
template <int DIM, bool LARGE>
using CurveTiling = TileShape<DIM, Tiling<DIM, LARGE>::ROW_GROUPS, Tiling<DIM, LARGE>::ROWS / (is_halved(DIM, LARGE) ? 2 : 1)>;

// One block: Tiles::ANCHORS anchors against the tiles of one split.
template <class T, class Tiles, bool LARGE, template <class> class EpilogueOf>
DEVICE void pair_loss(const PairLossParams& params) {
  using Shared = PairLossShared<Tiles, LARGE>;
  SHARED_MEMORY(memory);
  const WarpPlace<Tiles> place;
  EpilogueOf<WarpPlace<Tiles>> epilogue(params.tiles.rows, place);
  float gradient[Tiles::SLICE / 8][2][4];
  UNROLL
  for (int column = 0; column < Tiles::SLICE / 8; column++) {
    UNROLL
    for (int e = 0; e < 8; e++) gradient[column][e / 4][e % 4] = 0.0f;
  }
  const uint32_t weights = shared_address(memory) + Shared::WEIGHTS_AT;
  for_each_tile<T>(tile_source(params.tiles), place, memory, [&](float (&s)[Tiles::BLOCKS][4], const TileRows& tile) {
    if (place.owns_blocks()) epilogue.weigh(tile, s);
    if constexpr (Tiles::SLICES > 1) {
      if (place.owns_blocks()) publish_weights<T>(memory + Shared::WEIGHTS_AT, Shared::PITCH, place, s);
      block_barrier();
    }
    second_product<T>(gradient, s, place, weights, Shared::PITCH, tile.shared);
  });
  epilogue.finish();
  write_row_sums(params.tiles.rows.anchor_count, epilogue.sums, place, memory, [&](uint64_t at, const RowSums& sums) {
    params.losses[at] = sums.loss;
    params.kept[2 * at] = sums.positives;
    params.kept[2 * at + 1] = sums.negatives;
  });
  write_gradient(params, gradient, place);
}

#define PAIR_LOSS(FORMAT, TYPE, DIM, SUFFIX, LARGE)                                                       \
  KERNEL(pair_loss_constant_##FORMAT##_##SUFFIX, PairLossParams, (Tiling<DIM, LARGE>::THREADS)) {         \
    pair_loss<TYPE, Tiling<DIM, LARGE>, LARGE, ConstantEpilogue>(params);                                 \
  }                                                                                                       \
  KERNEL(pair_loss_curve_##FORMAT##_##SUFFIX, PairLossParams, (CurveTiling<DIM, LARGE>::THREADS)) {       \
    pair_loss<TYPE, CurveTiling<DIM, LARGE>, LARGE, CurveEpilogue>(params);                               \
  }
#define PAIR_LOSS_OF_LENGTH(DIM, SUFFIX, LARGE) \
  PAIR_LOSS(f16, Half, DIM, SUFFIX, LARGE)      \
  PAIR_LOSS(bf16, Bfloat, DIM, SUFFIX, LARGE)
EACH_TILING(PAIR_LOSS_OF_LENGTH)

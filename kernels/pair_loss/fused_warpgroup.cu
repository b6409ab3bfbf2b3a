// The fused pair loss of fused.cu with what sm_90a has for it: tiles of the memory by tensor maps, products of warpgroups.
//
// The same function, epilogues and rule of order. A block is a producer and two consumers (warpgroup_tile.cuh). Blocks of a cluster along
// x have other slices of long rows, or other anchors, and then share the memory's tiles; those along y have other splits, and add their
// gradients before they leave the chip.
// 16 memory rows without any weight for the 64 anchors of a warpgroup skip their second product, which changes no bit of the result.
// Range: rows of up to 2,048 16-bit numbers, a multiple of 8, that begin on 16 bytes. Bound: 4 anchors rows dim flops, or 2 rows dim bytes
// below about 150 anchors.
#include "epilogue.cuh"
#include "warpgroup_tile.cuh"

#if HAS_WARPGROUPS

template <class T, class Shape, template <class> class EpilogueOf>
struct Consumer {
  static constexpr int STEPS = Shape::ROWS / 16;  // of the inner dimension of a tile's second product
  // Whether a warpgroup has the weights of its tile in its registers.
  static constexpr bool WHOLE = Shape::SLICES == 1;

  const WarpgroupParams& params;
  const WarpgroupTiles<Shape>& tiles;
  const WarpgroupBarriers<Shape>& barriers;
  const WarpgroupCluster<Shape>& cluster;
  uint8_t* memory;
  WarpgroupPlace<Shape> place;
  uint32_t shared = shared_address(memory);
  // Tiles whose weights this warpgroup and the other have made.
  uint32_t own_tiles = 0, other_tiles = 0;
  float gradient[Shape::COLUMNS / 8][4] = {};

  // The columns of the gradient, and the part of rows that they are multiplied with.
  DEVICE uint32_t own_part() const { return Shape::SHARING == 2 ? place.group : 0; }

  // This warp is done with a part of a tile, in every block that gets the same.
  DEVICE void give_back(uint32_t tile, uint32_t part) const {
    warp_barrier();
    if (lane_index() < cluster.sharers) barrier_arrive_in_block(barriers.empty(tiles.stage(tile), part), cluster.rank_of_sharer(lane_index()));
  }

  DEVICE void run(EpilogueOf<WarpgroupPlace<Shape>>& epilogue) {
    barrier_wait(barriers.anchors(), 0);
    for (uint32_t tile = tiles.first; tile < tiles.last; tile += Shape::SHARING) {
      if constexpr (Shape::SHARING == 1) {
        multiply_own(tile, weigh(epilogue, tile));
        products_commit();
        products_wait<0>();
        products_own(gradient);
        give_back(tile, 0);
      } else {
        const uint32_t own = tile + place.group, other = tile + 1 - place.group;
        if (own < tiles.last) {
          const uint32_t steps = weigh(epilogue, own);
          if constexpr (WHOLE) {
            multiply_own(own, steps);
          } else {
            multiply_shared(own, place.group, steps);
          }
        }
        products_commit();
        if (other < tiles.last) {
          const uint32_t steps = steps_when_weighed(1 - place.group, other_tiles);
          barrier_wait(barriers.full(tiles.stage(other), own_part()), tiles.parity(other));
          multiply_shared(other, 1 - place.group, steps);
        }
        products_commit();
        products_wait<1>();
        if (own < tiles.last) give_back(own, own_part());
        products_wait<0>();
        products_own(gradient);
        if (other < tiles.last) {
          give_back(other, own_part());
          warp_barrier();
          if (lane_index() == 0) barrier_arrive(barriers.multiplied(1 - place.group));
          other_tiles++;
        }
      }
    }
  }

  uint32_t weights[Shape::OWN_BLOCKS][2];  // of this warp's blocks, two halves of pairs

  // Similarities and weights of a tile; returns a bit for each 16 rows of the tile with any weight.
  DEVICE uint32_t weigh(EpilogueOf<WarpgroupPlace<Shape>>& epilogue, uint32_t tile) {
    const uint32_t stage = tiles.stage(tile);
    float s[Shape::BLOCKS][4];
    similarities(s, stage, tiles.parity(tile));
    // Only this warpgroup reads the other part of its tile here.
    if constexpr (Shape::SHARING == 2) give_back(tile, 1 - own_part());
    const TileRows rows{tile * Shape::ROWS, 0, reinterpret_cast<const int32_t*>(memory + Shape::LABELS_AT + stage * Shape::LABEL_BYTES),
                        reinterpret_cast<const int32_t*>(memory + Shape::INSTANCES_AT + stage * Shape::LABEL_BYTES)};
    if constexpr (!WHOLE) add_slices(s);
    epilogue.weigh(rows, s);

    constexpr uint32_t MAGNITUDES = 0x7fff7fff;  // a discarded positive is -0
    uint32_t steps = 0;
    UNROLL
    for (uint32_t block = 0; block < Shape::OWN_BLOCKS; block++) {
      UNROLL
      for (int half = 0; half < 2; half++) weights[block][half] = pack_pair<T>(s[block][half * 2], s[block][half * 2 + 1]);
      const bool any = warp_any(((weights[block][0] | weights[block][1]) & MAGNITUDES) != 0);
      steps |= uint32_t(any) << place.of_tile(block) / 2;
    }
    return publish(steps);
  }

  DEVICE void similarities(float (&s)[Shape::BLOCKS][4], uint32_t stage, uint32_t parity) const {
    const uint64_t anchors = operand(shared + Shape::ANCHORS_AT + place.anchor_row / 64 * Shape::GROUP_PANEL_BYTES, 0);
    const uint64_t rows = operand(shared + Shape::ROWS_AT + stage * Shape::STAGE_BYTES, 0);
    products_own(s);
    UNROLL
    for (uint32_t p = 0; p < Shape::PARTS; p++) {
      const uint32_t part = Shape::SHARING == 2 ? p ^ place.group : 0;
      barrier_wait(barriers.full(stage, part), parity);
      products_begin();
      UNROLL
      for (uint32_t panel = 0; panel < Shape::PART_PANELS; panel++) {
        UNROLL
        for (uint32_t k = 0; k < 4; k++) {
          const uint32_t column = part * Shape::PART_PANELS + panel;
          similarity_product(s, anchors + ((column * Shape::ANCHOR_PANEL_BYTES + k * 32) >> 4), rows + ((column * Shape::PANEL_BYTES + k * 32) >> 4),
                             p + panel + k > 0, T{});
        }
      }
    }
    products_commit();
    products_wait<0>();
    products_own(s);
  }

  // Sends the other slices their shares of this slice's partial similarities, and adds theirs to the own share, in the order of slices.
  DEVICE void add_slices(float (&s)[Shape::BLOCKS][4]) {
    const uint32_t exchange = shared + Shape::EXCHANGE_AT + place.group * Shape::EXCHANGE_BYTES, lane = place.warp * WARP_SIZE + lane_index();
    // Whoever gets this may write weights where those of the tile before are.
    wait_until_multiplied();
    UNROLL
    for (uint32_t block = Shape::OWN_BLOCKS; block < Shape::BLOCKS; block++) {
      const uint32_t to = place.of_tile(block) / Shape::OWN_BLOCKS, source = place.slice - (place.slice > to);
      const uint32_t at = exchange + source * Shape::SLICE_BYTES + (block % Shape::OWN_BLOCKS * GROUP_THREADS + lane) * 16;
      store_in_cluster(in_block(at, cluster.rank_of_slice(to)), Vector<float, 4>{{s[block][0], s[block][1], s[block][2], s[block][3]}});
    }
    warp_barrier();
    if (lane_index() < Shape::SLICES && lane_index() != place.slice) {
      barrier_arrive_releasing(barriers.exchanged(place.group), cluster.rank_of_slice(lane_index()));
    }
    barrier_wait_acquiring(barriers.exchanged(place.group), own_tiles & 1);
    UNROLL
    for (uint32_t block = 0; block < Shape::OWN_BLOCKS; block++) {
      UNROLL
      for (uint32_t source = 0; source < Shape::SLICES - 1; source++) {
        const uint32_t at = exchange - shared + source * Shape::SLICE_BYTES + (block * GROUP_THREADS + lane) * 16;
        const Vector<float, 4> part = load_vector<4>(reinterpret_cast<const float*>(memory + at));
        UNROLL
        for (int e = 0; e < 4; e++) s[block][e] += part.values[e];
      }
    }
  }

  // The weights of the tile before last.
  DEVICE void wait_until_multiplied() const {
    if (own_tiles > 0) barrier_wait(barriers.multiplied(place.group), (own_tiles - 1) & 1);
  }

  // Shows the other warps of this warpgroup, and whoever else multiplies them, what this warp has weighed; returns the steps of the tile
  // that have any weight.
  DEVICE uint32_t publish(uint32_t steps) {
    const uint32_t weighed = barriers.weighed(place.group), kept = steps_at(place.group, own_tiles) + (place.slice * GROUP_WARPS + place.warp) * 4;
    if constexpr (WHOLE) {
      if constexpr (Shape::SHARING == 2) {
        wait_until_multiplied();
        UNROLL
        for (uint32_t block = 0; block < Shape::BLOCKS; block++) {
          UNROLL
          for (int half = 0; half < 2; half++) {
            *reinterpret_cast<uint32_t*>(memory + weight_at(half, block)) = weights[block][half];
          }
        }
        publish_to_products();
      }
      if (lane_index() == 0) *reinterpret_cast<uint32_t*>(memory + kept) = steps;
      warp_barrier();
      if (lane_index() == 0) barrier_arrive(weighed);
    } else {
      UNROLL
      for (uint32_t to = 0; to < Shape::SLICES; to++) {
        UNROLL
        for (uint32_t block = 0; block < Shape::OWN_BLOCKS; block++) {
          UNROLL
          for (int half = 0; half < 2; half++) {
            // As the rows lie in that block's shared memory.
            const uint32_t at = weight_at(half, place.of_tile(block) ^ to * Shape::OWN_BLOCKS);
            store_in_cluster(in_block(shared + at, cluster.rank_of_slice(to)), weights[block][half]);
          }
        }
      }
      publish_to_products_of_cluster();
      warp_barrier();
      if (lane_index() < Shape::SLICES) {
        const uint32_t to = cluster.rank_of_slice(lane_index());
        store_in_cluster(in_block(shared + kept, to), steps);
        barrier_arrive_releasing(weighed, to);
      }
    }
    return steps_when_weighed(place.group, own_tiles++);
  }

  // Where this lane's weights of a block of rows lie, two of the anchor of that half.
  DEVICE uint32_t weight_at(int half, uint32_t block) const {
    return Shape::WEIGHTS_AT + place.group * Shape::GROUP_PANEL_BYTES + panel_chunk(place.anchor(half), block) + lane_index() % 4 * 4;
  }

  // Those of two tiles, as a warp may be one ahead.
  static DEVICE uint32_t steps_at(uint32_t group, uint32_t count) {
    return Shape::KEPT_AT + (group * 2 + count % 2) * (Shape::SLICES * GROUP_WARPS * 4);
  }
  DEVICE uint32_t steps_when_weighed(uint32_t group, uint32_t count) const {
    if constexpr (WHOLE) {
      barrier_wait(barriers.weighed(group), count & 1);
    } else {
      barrier_wait_acquiring(barriers.weighed(group), count & 1);
      publish_to_products_of_cluster();
    }
    uint32_t steps = 0;
    UNROLL
    for (uint32_t slice = 0; slice < Shape::SLICES; slice++) {
      const Vector<uint32_t, 4> all = load_vector<4>(reinterpret_cast<const uint32_t*>(memory + steps_at(group, count)) + slice * GROUP_WARPS);
      steps |= all.values[0] | all.values[1] | all.values[2] | all.values[3];
    }
    return steps;
  }

  DEVICE uint64_t rows_of_part(uint32_t tile) const {
    const uint32_t stage = tiles.stage(tile) * Shape::STAGE_BYTES;
    return operand(shared + Shape::ROWS_AT + stage + own_part() * Shape::PART_BYTES, Shape::PANEL_BYTES);
  }

  // gradient += weights in registers . rows of a tile.
  DEVICE void multiply_own(uint32_t tile, uint32_t steps) {
    const uint64_t rows = rows_of_part(tile);
    products_own(gradient);
    UNROLL
    for (uint32_t step = 0; step < STEPS; step++) {
      if (!warp_any(steps & 1u << step)) continue;
      const uint32_t a[4] = {weights[2 * step][0], weights[2 * step][1], weights[2 * step + 1][0], weights[2 * step + 1][1]};
      products_begin();
      gradient_product(gradient, a, rows + (step * 16 * PANEL_ROW_BYTES >> 4), T{});
    }
  }

  // gradient += weights that a warpgroup has published . rows of its tile.
  DEVICE void multiply_shared(uint32_t tile, uint32_t group, uint32_t steps) {
    const uint64_t rows = rows_of_part(tile), left = operand(shared + Shape::WEIGHTS_AT + group * Shape::GROUP_PANEL_BYTES, 0);
    products_own(gradient);
    UNROLL
    for (uint32_t step = 0; step < STEPS; step++) {
      // In the order in which the rows lie here.
      if (!warp_any(steps & 1u << (step ^ place.slice * Shape::OWN_BLOCKS / 2))) continue;
      products_begin();
      gradient_product(gradient, left + (step * 32 >> 4), rows + (step * 16 * PANEL_ROW_BYTES >> 4), T{});
    }
  }

  // Where anchors and rows were: rows of DIM numbers, in chunks of 32 bytes that are exchanged within groups of four by the row number.
  static DEVICE uint32_t gradient_chunk(uint32_t row, uint32_t chunk) { return row * (Shape::DIM * 4) + ((chunk ^ (row & 3)) << 5); }

  DEVICE void leave_gradient() const {
    UNROLL
    for (uint32_t block = 0; block < Shape::COLUMNS / 8; block++) {
      UNROLL
      for (int e = 0; e < 4; e += 2) {
        uint8_t* to = memory + gradient_chunk(place.anchor(e / 2), own_part() * (Shape::COLUMNS / 8) + block) + lane_index() % 4 * 8;
        *reinterpret_cast<Vector<float, 2>*>(to) = {gradient[block][e], gradient[block][e + 1]};
      }
    }
  }

  // Adds what the blocks of the cluster with other splits have left, in their order: each a share of the numbers.
  DEVICE void write_gradient() const {
    constexpr uint32_t FOURS = Shape::ANCHORS * Shape::DIM / 4, ROW_FOURS = Shape::DIM / 4, THREADS = GROUP_THREADS * Shape::GROUPS;
    const uint32_t mine = cluster.rank / cluster.blocks_x;
    for (uint32_t four = mine * THREADS + thread_index(); four < FOURS; four += cluster.splits * THREADS) {
      const uint32_t row = four / ROW_FOURS, column = four % ROW_FOURS * 4;
      const uint32_t anchor = place.first_anchor + row, of_row = place.slice * Shape::DIM + column;
      if (anchor >= params.rows.anchor_count || of_row >= params.dim) continue;
      const uint32_t at = shared + gradient_chunk(row, column / 8) + column % 8 * 4;
      Vector<float, 4> sum = load_in_cluster(in_block(at, cluster.rank_of_split(0)));
      for (uint32_t split = 1; split < cluster.splits; split++) {
        const Vector<float, 4> part = load_in_cluster(in_block(at, cluster.rank_of_split(split)));
        UNROLL
        for (int c = 0; c < 4; c++) sum.values[c] += part.values[c];
      }
      const uint64_t to = (uint64_t(block_y() / cluster.splits) * params.rows.anchor_count + anchor) * params.dim + of_row;
      store_vector(params.gradients + to, sum);
    }
  }

  DEVICE void write_row_sums(const RowSums (&sums)[2]) const {
    const uint32_t part = (block_y() * Shape::SLICES + place.slice) * Shape::SHARING + (Shape::SHARING == 2 ? place.group : 0);
    UNROLL
    for (int which = 0; which < 2; which++) {
      const RowSums total = over_lanes(sums[which]);
      const uint32_t anchor = place.first_anchor + place.anchor(which);
      if (lane_index() % 4 != 0 || anchor >= params.rows.anchor_count) continue;
      const uint64_t at = uint64_t(part) * params.rows.anchor_count + anchor;
      params.losses[at] = total.loss;
      params.kept[2 * at] = total.positives;
      params.kept[2 * at + 1] = total.negatives;
    }
  }
};

template <class T, class Shape, template <class> class EpilogueOf>
DEVICE void pair_loss_of_warpgroups(const WarpgroupParams& params) {
  SHARED_MEMORY(memory);
  const WarpgroupTiles<Shape> tiles(params);
  const WarpgroupBarriers<Shape> barriers{shared_address(memory) + Shape::BARRIERS_AT};
  const WarpgroupCluster<Shape> cluster;
  if (thread_index() == 0) {
    barriers.init(cluster.sharers);
    barriers_are_initialised();
  }
  cluster_barrier();
  const uint32_t warp = uniform(warp_index());
  if (warp >= Shape::GROUPS * GROUP_WARPS) {
    keep_registers<Shape::PRODUCER_REGISTERS>();
    if (warp == Shape::GROUPS * GROUP_WARPS) Producer<Shape>{params, tiles, barriers, cluster, memory}.run();
    block_barrier();
    cluster_barrier();
  } else {
    take_registers<Shape::CONSUMER_REGISTERS>();
    Consumer<T, Shape, EpilogueOf> consumer{params, tiles, barriers, cluster, memory};
    EpilogueOf<WarpgroupPlace<Shape>> epilogue(params.rows, consumer.place);
    consumer.run(epilogue);
    epilogue.finish();
    consumer.write_row_sums(epilogue.sums);
    // Everybody is done with anchors and rows.
    block_barrier();
    consumer.leave_gradient();
    cluster_barrier();
    consumer.write_gradient();
  }
  // Nobody leaves while others read what it has left.
  cluster_barrier();
}

#endif

#define PAIR_LOSS_OF_WARPGROUPS(EPILOGUE, NAME, FORMAT, TYPE, SUFFIX, ...)                                        \
  WARPGROUP_KERNEL(pair_loss_warpgroup_##NAME##_##FORMAT##_##SUFFIX, WarpgroupParams, (__VA_ARGS__::THREADS),     \
                   pair_loss_of_warpgroups<TYPE, __VA_ARGS__, EPILOGUE>)
#define OF_FORMAT(FORMAT, TYPE, SUFFIX, ...)                                              \
  PAIR_LOSS_OF_WARPGROUPS(ConstantEpilogue, constant, FORMAT, TYPE, SUFFIX, __VA_ARGS__)  \
  PAIR_LOSS_OF_WARPGROUPS(CurveEpilogue, curve, FORMAT, TYPE, SUFFIX, __VA_ARGS__)
#define OF_SHAPE(SUFFIX, ...)               \
  OF_FORMAT(f16, Half, SUFFIX, __VA_ARGS__) \
  OF_FORMAT(bf16, Bfloat, SUFFIX, __VA_ARGS__)

#if !defined(ONLY_LENGTH) || ONLY_LENGTH == 128
OF_SHAPE(128, WarpgroupTiling<128, false>)
#endif
#if !defined(ONLY_LENGTH) || ONLY_LENGTH == 256
OF_SHAPE(256, WarpgroupTiling<256, false>)
#endif
#if !defined(ONLY_LENGTH) || ONLY_LENGTH == 512
OF_SHAPE(512, WarpgroupTiling<512, false>)
OF_SHAPE(deep_512, WarpgroupTiling<512, true>)
#endif
#if !defined(ONLY_LENGTH) || ONLY_LENGTH == 1024
OF_SHAPE(1024, WarpgroupTiling<1024, false>)
#endif
#if !defined(ONLY_LENGTH) || ONLY_LENGTH == 2048
OF_SHAPE(deep_2048, WarpgroupTiling<2048, true>)
#endif

// How a block of a producer warp and two consumer warpgroups divides the pair loss on sm_90a: shapes, shared memory, barriers, and the
// producer. The consumers are in fused_warpgroup.cu.
//
// Rows of at most 256 numbers: each warpgroup takes 64 anchors of its own and goes through every tile of memory rows. Longer rows: both
// take the same 64 anchors, each half of the gradient's columns. Then they take turns with the tiles: the one that a tile belongs to
// computes its similarities and weights, and both multiply these with their half of the rows. While one weighs, the other multiplies.
// Rows of more than 512 numbers are cut into slices, for which several blocks of a cluster take one each: they add their partial
// similarities in a fixed order, each those of its share of a tile's rows, and show each other the weights.
#pragma once
#include "../device/warpgroup.cuh"
#include "tile.cuh"

// For rows of at most LENGTH numbers, of which a block holds DIM; what is missing is read as zeros.
template <int LENGTH, int SLICE_COUNT, int TILE_ROWS, int STAGE_COUNT>
struct WarpgroupShape {
  static constexpr int SLICES = SLICE_COUNT, DIM = LENGTH / SLICES, ROWS = TILE_ROWS, STAGES = STAGE_COUNT, GROUPS = 2;
  // Warpgroups with the same anchors, and the parts of a row whose columns of the gradient they own: parts land and are given back one
  // by one.
  static constexpr int SHARING = DIM > 256 ? 2 : 1, PARTS = SHARING;
  static constexpr int ANCHORS = 64 * GROUPS / SHARING, COLUMNS = DIM / SHARING;
  // A warp's similarities are blocks of 16 anchors x 8 rows, of which it weighs the first; the others those of the other slices.
  static constexpr int BLOCKS = ROWS / 8, OWN_BLOCKS = BLOCKS / SLICES, ANCHOR_ROWS = 2;
  // The producer is one warp of the last warpgroup, which leaves its registers to the others.
  static constexpr int THREADS = (GROUPS + 1) * int(GROUP_THREADS), CONSUMER_REGISTERS = 240, PRODUCER_REGISTERS = 24;
  static_assert(DIM % (64 * PARTS) == 0 && ROWS % 32 == 0 && STAGES % SHARING == 0, "whole panels, and tiles that keep their warpgroup");
  static_assert(SLICES == 1 || SHARING == 2, "slices are of long rows");

  static constexpr uint32_t PART_PANELS = COLUMNS / PANEL_COLUMNS, PANELS = PART_PANELS * PARTS;
  static constexpr uint32_t PANEL_BYTES = ROWS * PANEL_ROW_BYTES, PART_BYTES = PART_PANELS * PANEL_BYTES, STAGE_BYTES = PARTS * PART_BYTES;
  static constexpr uint32_t GROUP_PANEL_BYTES = 64 * PANEL_ROW_BYTES, ANCHOR_PANEL_BYTES = ANCHORS * PANEL_ROW_BYTES;
  static constexpr uint32_t ANCHOR_BYTES = PANELS * ANCHOR_PANEL_BYTES, LABEL_BYTES = ROWS * 4, BOX_BYTES = PANEL_BYTES / SLICES;
  // What a warpgroup gets from those of the other slices.
  static constexpr uint32_t SLICE_BYTES = OWN_BLOCKS * GROUP_THREADS * 16, EXCHANGE_BYTES = (SLICES - 1) * SLICE_BYTES;
  // Where they lie in shared memory.
  static constexpr uint32_t ANCHORS_AT = 0, ROWS_AT = ANCHORS_AT + ANCHOR_BYTES, WEIGHTS_AT = ROWS_AT + STAGES * STAGE_BYTES;
  static constexpr uint32_t EXCHANGE_AT = WEIGHTS_AT + (SHARING == 2 ? GROUPS * GROUP_PANEL_BYTES : 0);
  static constexpr uint32_t LABELS_AT = EXCHANGE_AT + GROUPS * EXCHANGE_BYTES;
  static constexpr uint32_t INSTANCES_AT = LABELS_AT + STAGES * LABEL_BYTES, KEPT_AT = INSTANCES_AT + STAGES * LABEL_BYTES;
  static constexpr uint32_t BARRIERS_AT = KEPT_AT + GROUPS * 2 * SLICES * GROUP_WARPS * 4;
  static constexpr uint32_t BARRIERS = 2 * STAGES * PARTS + 2 + 3 * GROUPS, BYTES = BARRIERS_AT + BARRIERS * 8;
  static_assert(BYTES <= 227 * 1024, "what a block may have");
  // In the end the gradient lies where anchors and rows were.
  static_assert(ANCHORS * DIM * 4 <= WEIGHTS_AT, "room for the gradient");
};

// Longer rows in few anchors are bound by the memory's bytes: tiles of half the size, of which twice as many are under way. So are those of
// the longest rows, whose exchange needs the room.
template <int LENGTH, bool DEEP>
using WarpgroupTiling =
    WarpgroupShape<LENGTH, LENGTH <= 512 ? 1 : LENGTH / 512, LENGTH == 128 ? 128 : DEEP ? 32 : 64, (LENGTH > 256 && !DEEP) ? 2 : 4>;

struct WarpgroupParams {
  TensorMap anchors;  // boxes of 64 numbers x 64 rows
  TensorMap memory;   // boxes of 64 numbers x Shape::ROWS / Shape::SLICES rows
  PairRows rows;
  float* gradients;   // (splits / blocks of a cluster along y, anchors, dim)
  float* losses;      // (splits Shape::SLICES Shape::SHARING, anchors)
  int32_t* kept;      // (splits Shape::SLICES Shape::SHARING, anchors, 2)
  uint32_t tiles_per_split, dim;
};

#if HAS_WARPGROUPS

// What a warp of a consumer works on.
template <class Shape>
struct WarpgroupPlace {
  using Tiles = Shape;
  uint32_t group = uniform(warp_index() / GROUP_WARPS), warp = warp_index() % GROUP_WARPS;
  uint32_t slice = block_x() % Shape::SLICES, first_anchor = block_x() / Shape::SLICES * Shape::ANCHORS;
  uint32_t anchor_row = (Shape::SHARING == 2 ? 0 : group * 64) + warp * 16;

  // Blocks are numbered with the own ones first: block b of the warp is block of_tile(b) of the tile, as its rows lie in shared memory.
  DEVICE uint32_t of_tile(uint32_t block) const { return block ^ slice * Shape::OWN_BLOCKS; }
  // First of the two neighbouring rows of a tile that this lane's elements of a block belong to.
  DEVICE uint32_t column(uint32_t block) const { return of_tile(block) * 8 + lane_index() % 4 * 2; }
  // The anchor, within the block of threads, that a thread's ANCHOR_ROWS belong to.
  DEVICE uint32_t anchor(int which) const { return anchor_row + lane_index() / 4 + which * 8; }
  static DEVICE constexpr int anchor_of(int, int e) { return e / 2; }
};

// Blocks of a cluster count along x first the slices of a row, then anchors; along y splits.
template <class Shape>
struct WarpgroupCluster {
  uint32_t blocks_x = cluster_blocks_x(), splits = cluster_blocks_y(), rank = cluster_rank();
  uint32_t x = rank % blocks_x, slice = x % Shape::SLICES, sharers = blocks_x / Shape::SLICES;

  // Blocks that need the same rows, each with other anchors.
  DEVICE uint32_t sharer() const { return x / Shape::SLICES; }
  DEVICE uint32_t rank_of_sharer(uint32_t index) const { return rank - x + slice + index * Shape::SLICES; }
  DEVICE uint16_t all_sharers() const {
    uint32_t bits = 0;
    for (uint32_t index = 0; index < sharers; index++) bits |= 1u << rank_of_sharer(index);
    return uint16_t(bits);
  }
  // Blocks with other slices of the same anchors and rows.
  DEVICE uint32_t rank_of_slice(uint32_t other) const { return rank - slice + other; }
  // Blocks with other splits.
  DEVICE uint32_t rank_of_split(uint32_t split) const { return x + split * blocks_x; }
};

// The tiles of this block, and the stage of each.
template <class Shape>
struct WarpgroupTiles {
  uint32_t in_use, first, last;

  DEVICE WarpgroupTiles(const WarpgroupParams& params) : in_use(uniform(rows_in_use(params.rows))), first(block_y() * params.tiles_per_split) {
    const uint32_t tiles = (in_use + Shape::ROWS - 1) / Shape::ROWS;
    last = first + params.tiles_per_split < tiles ? first + params.tiles_per_split : tiles;
  }
  DEVICE uint32_t stage(uint32_t tile) const { return (tile - first) % Shape::STAGES; }
  // Of the barriers of its stage.
  DEVICE uint32_t parity(uint32_t tile) const { return (tile - first) / Shape::STAGES & 1; }
};

// Barriers by what they say.
template <class Shape>
struct WarpgroupBarriers {
  uint32_t start;

  DEVICE uint32_t at(uint32_t index) const { return start + index * 8; }
  // A part of a stage has landed; all consumers of all blocks that get it are done with it.
  DEVICE uint32_t full(uint32_t stage, uint32_t part) const { return at(stage * Shape::PARTS + part); }
  DEVICE uint32_t empty(uint32_t stage, uint32_t part) const { return at((Shape::STAGES + stage) * Shape::PARTS + part); }
  DEVICE uint32_t anchors() const { return at(2 * Shape::STAGES * Shape::PARTS); }
  // Rows of a tile that is not full have landed, of which the producer clears those that are not in use.
  DEVICE uint32_t ragged() const { return at(2 * Shape::STAGES * Shape::PARTS + 1); }
  // The weights of a warpgroup's tile are there; the other warpgroup has multiplied them.
  DEVICE uint32_t weighed(uint32_t group) const { return at(2 * Shape::STAGES * Shape::PARTS + 2 + group); }
  DEVICE uint32_t multiplied(uint32_t group) const { return at(2 * Shape::STAGES * Shape::PARTS + 2 + Shape::GROUPS + group); }
  // The partial similarities of the other slices are there.
  DEVICE uint32_t exchanged(uint32_t group) const { return at(2 * Shape::STAGES * Shape::PARTS + 2 + 2 * Shape::GROUPS + group); }

  // Of one thread.
  DEVICE void init(uint32_t sharers) const {
    for (uint32_t stage = 0; stage < Shape::STAGES; stage++) {
      for (uint32_t part = 0; part < Shape::PARTS; part++) {
        // Every lane of the producer arrives.
        barrier_init(full(stage, part), WARP_SIZE);
        // Where tiles take turns, the part that the tile's own warpgroup multiplies is nobody else's.
        const bool one = Shape::SHARING == 2 && stage % 2 == part;
        barrier_init(empty(stage, part), (one ? 1 : Shape::GROUPS) * GROUP_WARPS * sharers);
      }
    }
    barrier_init(anchors(), 1);
    barrier_init(ragged(), 1);
    for (uint32_t group = 0; group < Shape::GROUPS; group++) {
      barrier_init(weighed(group), GROUP_WARPS * Shape::SLICES);
      if (Shape::SLICES > 1) barrier_init(exchanged(group), GROUP_WARPS * (Shape::SLICES - 1));
      barrier_init(multiplied(group), GROUP_WARPS);
    }
  }
};

// Copies anchors and tiles into shared memory: one warp. Blocks of a cluster with other anchors need the same tiles: each copies every so
// manieth panel to all of them.
template <class Shape>
struct Producer {
  const WarpgroupParams& params;
  const WarpgroupTiles<Shape>& tiles;
  const WarpgroupBarriers<Shape>& barriers;
  const WarpgroupCluster<Shape>& cluster;
  uint8_t* memory;
  uint32_t ragged_parts = 0;

  DEVICE void run() {
    if (lane_index() == 0) {
      barrier_arrive_expecting(barriers.anchors(), Shape::ANCHOR_BYTES);
      for (uint32_t panel = 0; panel < Shape::PANELS; panel++) {
        for (uint32_t row = 0; row < Shape::ANCHORS; row += 64) {
          const uint32_t to = Shape::ANCHORS_AT + panel * Shape::ANCHOR_PANEL_BYTES + row * PANEL_ROW_BYTES;
          const uint32_t column = cluster.slice * Shape::DIM + panel * PANEL_COLUMNS;
          copy_box(shared_address(memory) + to, params.anchors, column, block_x() / Shape::SLICES * Shape::ANCHORS + row, barriers.anchors());
        }
      }
    }
    // In the order in which consumers give them back.
    for (uint32_t tile = tiles.first; tile < tiles.last; tile += Shape::SHARING) {
      if constexpr (Shape::SHARING == 1) {
        load(tile, 0, true);
      } else {
        const bool second = tile + 1 < tiles.last;
        load(tile, 0, true);
        if (second) load(tile + 1, 1, true);
        load(tile, 1, false);
        if (second) load(tile + 1, 0, false);
      }
    }
  }

  DEVICE int32_t value_of(const int32_t* values, uint32_t row) const { return values && row < tiles.in_use ? values[row] : 0; }

  // One part of a tile, with the labels and instance ids of its rows.
  DEVICE void load(uint32_t tile, uint32_t part, bool with_labels) {
    constexpr uint32_t A_LANE = Shape::ROWS / WARP_SIZE;
    const uint32_t stage = tiles.stage(tile), first_row = tile * Shape::ROWS, full = barriers.full(stage, part);
    int32_t labels[A_LANE], instances[A_LANE];
    UNROLL
    for (uint32_t i = 0; i < A_LANE; i++) {
      const uint32_t row = first_row + i * WARP_SIZE + lane_index();
      labels[i] = with_labels ? value_of(params.rows.memory_labels, row) : 0;
      instances[i] = with_labels ? value_of(params.rows.memory_instances, row) : 0;
    }
    barrier_wait(barriers.empty(stage, part), tiles.parity(tile) ^ 1);
    if (with_labels) {
      int32_t* to_labels = reinterpret_cast<int32_t*>(memory + Shape::LABELS_AT + stage * Shape::LABEL_BYTES);
      int32_t* to_instances = reinterpret_cast<int32_t*>(memory + Shape::INSTANCES_AT + stage * Shape::LABEL_BYTES);
      UNROLL
      for (uint32_t i = 0; i < A_LANE; i++) {
        to_labels[i * WARP_SIZE + lane_index()] = labels[i];
        to_instances[i * WARP_SIZE + lane_index()] = instances[i];
      }
    }
    const bool is_ragged = first_row + Shape::ROWS > tiles.in_use;
    const uint32_t landed = is_ragged ? barriers.ragged() : full, to = Shape::ROWS_AT + stage * Shape::STAGE_BYTES + part * Shape::PART_BYTES;
    if (lane_index() == 0) {
      barrier_arrive_expecting(landed, Shape::PART_BYTES);
      for (uint32_t panel = cluster.sharer(); panel < Shape::PART_PANELS; panel += cluster.sharers) {
        const uint32_t there = shared_address(memory) + to + panel * Shape::PANEL_BYTES;
        copy_panel(there, cluster.slice * Shape::DIM + part * Shape::COLUMNS + panel * PANEL_COLUMNS, first_row, landed);
      }
    }
    if (is_ragged) {
      barrier_wait(landed, ragged_parts++ & 1);
      clear_rows(memory + to, tiles.in_use - first_row);
    }
    if (is_ragged || lane_index() != 0) barrier_arrive(full);
  }

  // The rows of the own share first, so that the blocks of similarities with them are the first.
  DEVICE void copy_panel(uint32_t to, uint32_t column, uint32_t first_row, uint32_t landed) const {
    constexpr uint32_t BOX_ROWS = Shape::ROWS / Shape::SLICES;
    UNROLL
    for (uint32_t box = 0; box < Shape::SLICES; box++) {
      const uint32_t there = to + box * Shape::BOX_BYTES, row = first_row + (box ^ cluster.slice) * BOX_ROWS;
      if (cluster.sharers == 1) {
        copy_box(there, params.memory, column, row, landed);
      } else {
        copy_box_to_blocks(there, params.memory, column, row, landed, cluster.all_sharers());
      }
    }
  }

  // What lies behind the rows in use may be no numbers at all, and 0 times those is no 0.
  DEVICE void clear_rows(uint8_t* part, uint32_t from) const {
    constexpr uint32_t BOX_ROWS = Shape::ROWS / Shape::SLICES;
    for (uint32_t panel = 0; panel < Shape::PART_PANELS; panel++) {
      for (uint32_t chunk = from * 8 + lane_index(); chunk < Shape::ROWS * 8; chunk += WARP_SIZE) {
        const uint32_t there = chunk ^ cluster.slice * BOX_ROWS * 8;
        *reinterpret_cast<Vector<uint32_t, 4>*>(part + panel * Shape::PANEL_BYTES + there * 16) = {};
      }
    }
    publish_to_products();
  }
};

#endif

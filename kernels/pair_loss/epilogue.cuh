// From similarities to signed weights, in registers: the part of fused.cu between its two products.
//
// Pairs are taken in blocks of 16 anchors x 8 rows. Most blocks hold nothing but easy negatives: a vote of the warp tells, and they get
// weight 0 without another look. The others are weighed without a branch for each pair where both curves are constant.
#pragma once
#include "tile.cuh"

DEVICE RowSums over_lanes(const RowSums& row) { return {row_sum(row.loss), row_sum(row.positives), row_sum(row.negatives)}; }
DEVICE RowSums plus(const RowSums& a, const RowSums& b) { return {a.loss + b.loss, a.positives + b.positives, a.negatives + b.negatives}; }

// What is common to both epilogues: the vote, and which elements of a block are no pairs.
template <class Place>
struct Epilogue {
  using Tiles = typename Place::Tiles;
  const PairRows& params;
  const Place& place;
  PairAnchors<Place> anchors;
  RowSums sums[Tiles::ANCHOR_ROWS];

  // A block that is worth weighing.
  struct Block {
    int index;
    Two labels;
    bool pair[4];
    bool has_positives, is_finite;  // of this thread's elements
  };

  DEVICE Epilogue(const PairRows& params, const Place& place) : params(params), place(place), anchors(params, place) {}

  DEVICE bool is_positive(const Block& block, int e) const { return block.labels.values[e % 2] == anchors.labels[place.anchor_of(block.index, e)]; }

  // Turns the similarities of the own blocks into signed weights. `low` is the similarity up to which a negative is easy, of whichever of
  // the thread's anchors; `weigh_block` does it for a block that is more than easy negatives.
  template <class WeighBlock>
  DEVICE void for_each_block(const TileRows& tile, float (&s)[Tiles::BLOCKS][4], float low, WeighBlock weigh_block) {
    constexpr float LARGEST = 3.0e38f;
    const bool all_pairs = anchors.all_pairs(tile);
    UNROLL
    for (int index = 0; index < Tiles::OWN_BLOCKS; index++) {
      const uint32_t column = place.column(index);
      Block block{index, read_two(tile.labels + column), {}, false, true};
      bool near = false;
      UNROLL
      for (int e = 0; e < 4; e++) {
        near |= s[index][e] > low;
        block.has_positives |= is_positive(block, e);
        block.is_finite &= fabsf(s[index][e]) <= LARGEST;
      }
      if (warp_any(near | block.has_positives | !block.is_finite)) {
        find_pairs(tile, all_pairs, column, block);
        weigh_block(block, s[index]);
      } else {
        UNROLL
        for (int e = 0; e < 4; e++) s[index][e] = 0.0f;
      }
    }
  }

  DEVICE void find_pairs(const TileRows& tile, bool all_pairs, uint32_t column, Block& block) const {
    const uint32_t bits = all_pairs ? 15 : anchors.pair_bits(place.anchor_of(block.index, 0), tile.first + column);
    UNROLL
    for (int e = 0; e < 4; e++) block.pair[e] = (bits & 1u << e) != 0;
    if (!anchors.by_instance) return;
    const Two instances = read_two(tile.instances + column);
    UNROLL
    for (int e = 0; e < 4; e++) block.pair[e] &= instances.values[e % 2] != anchors.own[place.anchor_of(block.index, e)];
  }
};

// Constant curves behind gates, and neither normalizers nor soft labels: the rule and what is like it.
template <class Place>
struct ConstantEpilogue : Epilogue<Place> {
  using typename Epilogue<Place>::Block;
  using typename Epilogue<Place>::Tiles;

  ConstantSide positive, negative;

  DEVICE ConstantEpilogue(const PairRows& params, const Place& place)
      : Epilogue<Place>(params, place), positive(params.positive, true), negative(params.negative, false) {}

  DEVICE void weigh(const TileRows& tile, float (&s)[Tiles::BLOCKS][4]) {
    this->for_each_block(tile, s, this->params.negative.gate_low, [&](Block& block, float (&s_of_block)[4]) { weigh_block(block, s_of_block); });
  }

  DEVICE void weigh_block(Block& block, float (&s)[4]) {
    float weights[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (warp_any(block.has_positives | !block.is_finite)) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        RowSums& sums = this->sums[this->place.anchor_of(block.index, e)];
        const bool same = this->is_positive(block, e);
        if (positive.add(block.pair[e] & same, s[e], sums.positives, sums.loss)) weights[e] = positive.weight;
        block.pair[e] &= !same;
        sums.loss += s[e] * 0.0f;  // a similarity that is not finite must not pass unseen through a gate
      }
    }
    UNROLL
    for (int e = 0; e < 4; e++) {
      RowSums& sums = this->sums[this->place.anchor_of(block.index, e)];
      s[e] = negative.add(block.pair[e], s[e], sums.negatives, sums.loss) ? negative.weight : weights[e];
    }
  }

  DEVICE void finish() {
    UNROLL
    for (RowSums& sums : this->sums) sums = {sums.loss, positive.kept(sums.positives), negative.kept(sums.negatives)};
  }
};

// Any curves, normalizers of rows and soft labels.
template <class Place>
struct CurveEpilogue : Epilogue<Place> {
  using typename Epilogue<Place>::Block;
  using typename Epilogue<Place>::Tiles;
  float easy_below;

  DEVICE CurveEpilogue(const PairRows& params, const Place& place)
      : Epilogue<Place>(params, place), easy_below(params.row_normalizers ? infinity() : params.negative.gate_low) {
    UNROLL
    for (int which = 0; which < Tiles::ANCHOR_ROWS; which++) {
      const uint32_t anchor = place.first_anchor + place.anchor(which);
      if (params.row_normalizers && anchor < params.anchor_count) easy_below = fminf(easy_below, params.row_normalizers[anchor].negative.low);
    }
  }

  DEVICE void weigh(const TileRows& tile, float (&s)[Tiles::BLOCKS][4]) {
    this->for_each_block(tile, s, easy_below, [&](Block& block, float (&s_of_block)[4]) {
      UNROLL
      for (int e = 0; e < 4; e++) {
        const int which = this->place.anchor_of(block.index, e);
        const uint32_t anchor = this->place.first_anchor + this->place.anchor(which), row = tile.first + this->place.column(block.index) + e % 2;
        const bool positive = this->is_positive(block, e);
        float& value = s_of_block[e];
        value = block.pair[e] ? add_pair(this->sums[which], positive, weigh_pair_of_row(this->params, anchor, row, positive, value)) : 0.0f;
      }
    });
  }

  DEVICE void finish() {}
};

// Which element of a tile each lane holds: the register layouts of mma.sync.m16n8k16 and ldmatrix, as the PTX manual draws them.
// Shared by the emulator and by cute_check.cpp, which compares every formula with CuTe's published traits.
#pragma once

namespace fragments {

struct Element {
  unsigned row, column;
};

// A, 16 x 16: value 0..7 of a lane, two per register.
constexpr Element mma_a(unsigned lane, unsigned value) {
  return {lane / 4 + (value / 2 % 2) * 8, lane % 4 * 2 + value % 2 + value / 4 * 8};
}

// B, 16 x 8 (row = k): value 0..3 of a lane, two per register.
constexpr Element mma_b(unsigned lane, unsigned value) { return {lane % 4 * 2 + value % 2 + value / 2 * 8, lane / 4}; }

// Accumulator, 16 x 8: value 0..3 of a lane, one per register.
constexpr Element mma_c(unsigned lane, unsigned value) { return {lane / 4 + value / 2 * 8, lane % 4 * 2 + value % 2}; }

// ldmatrix, one 8 x 8 matrix of 16-bit elements: value 0..1 of a lane; the row is the address given by lane 8 * matrix + row.
constexpr Element load_matrix(unsigned lane, unsigned value, bool transposed) {
  return transposed ? Element{lane % 4 * 2 + value, lane / 4} : Element{lane / 4, lane % 4 * 2 + value};
}

}  // namespace fragments

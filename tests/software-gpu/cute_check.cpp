// Compares the register layouts of emulator/fragments.hpp with the traits that NVIDIA publishes in CuTe (the headers of the
// nvidia-cutlass wheel; no GPU and no nvcc needed). The documented command is `.ci/kernels fragments`.
#include <cstdio>

#include <cute/tensor.hpp>

#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>

#include "fragments.hpp"

namespace {

constexpr unsigned LANES = 32;

template <class Operation>
int mma_mismatches() {
  using Traits = cute::MMA_Traits<Operation>;
  typename Traits::ALayout a;
  typename Traits::BLayout b;
  typename Traits::CLayout c;
  int mismatches = 0;
  for (unsigned lane = 0; lane < LANES; lane++) {
    for (unsigned value = 0; value < 8; value++) {  // CuTe counts (row, k) with 16 rows
      const auto element = fragments::mma_a(lane, value);
      mismatches += int(a(lane, value)) != int(element.row + 16 * element.column);
    }
    for (unsigned value = 0; value < 4; value++) {  // (column, k) with 8 columns
      const auto element = fragments::mma_b(lane, value);
      mismatches += int(b(lane, value)) != int(element.column + 8 * element.row);
    }
    for (unsigned value = 0; value < 4; value++) {  // (row, column) with 16 rows
      const auto element = fragments::mma_c(lane, value);
      mismatches += int(c(lane, value)) != int(element.row + 16 * element.column);
    }
  }
  return mismatches;
}

// CuTe's layouts map (lane, bit) to a bit of 32 rows of 128 bits; row 8 m + r is row r of matrix m.
template <class Layout>
int load_mismatches(bool transposed) {
  Layout layout;
  int mismatches = 0;
  for (unsigned lane = 0; lane < LANES; lane++) {
    for (unsigned matrix = 0; matrix < 4; matrix++) {
      for (unsigned value = 0; value < 2; value++) {
        const auto element = fragments::load_matrix(lane, value, transposed);
        const unsigned bit = (matrix * 8 + element.row) * 128 + element.column * 16;
        mismatches += int(layout(lane, matrix * 32 + value * 16)) != int(bit);
      }
    }
  }
  return mismatches;
}

int report(const char* what, int mismatches) {
  printf("%s: %d mismatches\n", what, mismatches);
  return mismatches;
}

}  // namespace

int main() {
  int mismatches = 0;
  mismatches += report("mma.m16n8k16 bf16", mma_mismatches<cute::SM80_16x8x16_F32BF16BF16F32_TN>());
  mismatches += report("mma.m16n8k16 f16", mma_mismatches<cute::SM80_16x8x16_F32F16F16F32_TN>());
  mismatches += report("ldmatrix", load_mismatches<cute::Copy_Traits<cute::SM75_U32x4_LDSM_N>::DstLayout>(false));
  mismatches += report("ldmatrix.trans", load_mismatches<cute::Copy_Traits<cute::SM75_U16x8_LDSM_T>::DstLayout>(true));
  return mismatches != 0;
}

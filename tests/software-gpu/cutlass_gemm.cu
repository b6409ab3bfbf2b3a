// A multistage matrix product of CUTLASS for sm_80 (cp.async, ldmatrix, mma.sync): known to be right on hardware, and not written
// here. The program prints how it is to be launched, given m n k, the addresses of A, B and C, and alpha.
#include <cstdio>
#include <cstdlib>

#include "cutlass/gemm/device/gemm.h"

using Gemm = cutlass::gemm::device::Gemm<cutlass::half_t, cutlass::layout::RowMajor, cutlass::half_t, cutlass::layout::ColumnMajor, float,
                                         cutlass::layout::RowMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
                                         cutlass::gemm::GemmShape<64, 64, 32>, cutlass::gemm::GemmShape<32, 32, 32>,
                                         cutlass::gemm::GemmShape<16, 8, 16>, cutlass::epilogue::thread::LinearCombination<float, 4, float, float>,
                                         cutlass::gemm::threadblock::GemmIdentityThreadblockSwizzle<>, 3>;
using Kernel = Gemm::GemmKernel;

extern "C" __global__ void __launch_bounds__(Kernel::kThreadCount) cutlass_gemm(const __grid_constant__ Kernel::Params params) {
  extern __shared__ __align__(1024) uint8_t memory[];
  Kernel()(params, *reinterpret_cast<Kernel::SharedStorage*>(memory));
}

int main(int, char** arguments) {
  const int m = atoi(arguments[1]), n = atoi(arguments[2]), k = atoi(arguments[3]);
  auto* a = reinterpret_cast<cutlass::half_t*>(strtoull(arguments[4], nullptr, 10));
  auto* b = reinterpret_cast<cutlass::half_t*>(strtoull(arguments[5], nullptr, 10));
  auto* c = reinterpret_cast<float*>(strtoull(arguments[6], nullptr, 10));
  const float alpha = strtof(arguments[7], nullptr);
  const cutlass::gemm::GemmCoord tiles((m + 63) / 64, (n + 63) / 64, 1);
  const Kernel::Params params({m, n, k}, tiles, {a, k}, {b, k}, {c, n}, {c, n}, {alpha, 0.0f});
  printf("%d %d %d %zu\n", tiles.m(), tiles.n(), Kernel::kThreadCount, sizeof(Kernel::SharedStorage));
  const auto* bytes = reinterpret_cast<const unsigned char*>(&params);
  for (size_t i = 0; i < sizeof params; i++) printf("%d ", bytes[i]);
}

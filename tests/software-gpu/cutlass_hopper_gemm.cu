// Two matrix products of CUTLASS for sm_90a (tensor maps, multicast, mbarrier, wgmma, warps with different work): known to be right on
// hardware, and not written here. They differ in everything that a kernel can choose: numbers, which way the operands lie, along which
// side of the cluster a tile is shared, how the warpgroups divide the work.
//
// The program prints how one is to be launched, given its name, m n k, the addresses of A, B and C, and alpha. Tensor maps are made as
// driver/ makes them.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/util/packed_stride.hpp"
#include "driver/tensor_map.hpp"

using cute::_1, cute::_2, cute::_64, cute::_128, cute::Shape;
using cutlass::arch::OpClassTensorOp;
using cutlass::arch::Sm90;

template <class Element, class LayoutA, class LayoutB, class Cluster, class Schedule, class EpilogueSchedule>
struct Gemm {
  using Tile = Shape<_128, _128, _64>;
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      Sm90, OpClassTensorOp, Tile, Cluster, cutlass::epilogue::collective::EpilogueTileAuto, float, float, float, cutlass::layout::RowMajor, 4,
      float, cutlass::layout::RowMajor, 4, EpilogueSchedule>::CollectiveOp;
  using Stages = cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<Sm90, OpClassTensorOp, Element, LayoutA, 8, Element, LayoutB, 8, float,
                                                                         Tile, Cluster, Stages, Schedule>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue>;
};

using cutlass::layout::ColumnMajor;
using cutlass::layout::RowMajor;
// K is contiguous in both, and B is shared.
using Half = Gemm<cutlass::half_t, RowMajor, ColumnMajor, Shape<_2, _1, _1>, cutlass::gemm::KernelTmaWarpSpecializedPingpong,
                  cutlass::epilogue::NoSmemWarpSpecialized>::Kernel;
// M and N are contiguous, and A is shared.
using Bfloat = Gemm<cutlass::bfloat16_t, ColumnMajor, RowMajor, Shape<_1, _2, _1>, cutlass::gemm::KernelTmaWarpSpecializedCooperative,
                    cutlass::epilogue::NoSmemWarpSpecialized>::Kernel;

// The program itself needs no kernels.
#ifndef PARAMS_ONLY
template <class Kernel>
__device__ void run(const typename Kernel::Params& params) {
  extern __shared__ __align__(1024) char memory[];
  Kernel()(params, memory);
}

extern "C" __global__ void __launch_bounds__(Half::MaxThreadsPerBlock, 1) hopper_gemm_f16(const __grid_constant__ Half::Params params) {
  run<Half>(params);
}

extern "C" __global__ void __launch_bounds__(Bfloat::MaxThreadsPerBlock, 1) hopper_gemm_bf16(const __grid_constant__ Bfloat::Params params) {
  run<Bfloat>(params);
}
#endif

extern "C" CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType data_type, cuuint32_t rank, void* address, const cuuint64_t* sizes,
                                           const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* element_strides,
                                           CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                           CUtensorMapFloatOOBfill fill) {
  const device::TensorMapArguments arguments{data_type, rank, reinterpret_cast<uint64_t>(address), reinterpret_cast<const uint64_t*>(sizes),
                                             reinterpret_cast<const uint64_t*>(strides), box, element_strides, interleave, swizzle, promotion, fill};
  const std::string words = device::tensor_map_fault(map, arguments);
  if (!words.empty() || device::tensor_map_unknown(arguments)) {
    fprintf(stderr, "cuTensorMapEncodeTiled: %s\n", words.c_str());
    return CUDA_ERROR_INVALID_VALUE;
  }
  device::encode_tensor_map(map, arguments);
  return CUDA_SUCCESS;
}

// Not called: there is no device.
extern "C" CUresult cuTensorMapEncodeIm2col(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*, const int*,
                                            const int*, cuuint32_t, cuuint32_t, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_ERROR_NOT_SUPPORTED;
}

template <class Kernel>
int describe(char** arguments) {
  const int m = atoi(arguments[2]), n = atoi(arguments[3]), k = atoi(arguments[4]);
  const auto address = [&](int at) { return strtoull(arguments[at], nullptr, 10); };
  auto* c = reinterpret_cast<float*>(address(7));
  typename Kernel::Arguments given{};
  given.mode = cutlass::gemm::GemmUniversalMode::kGemm;
  given.problem_shape = {m, n, k, 1};
  given.mainloop.ptr_A = reinterpret_cast<typename Kernel::ElementA*>(address(5));
  given.mainloop.ptr_B = reinterpret_cast<typename Kernel::ElementB*>(address(6));
  given.mainloop.dA = cutlass::make_cute_packed_stride(typename Kernel::StrideA{}, {m, k, 1});
  given.mainloop.dB = cutlass::make_cute_packed_stride(typename Kernel::StrideB{}, {n, k, 1});
  given.epilogue.thread.alpha = strtof(arguments[8], nullptr);
  given.epilogue.thread.beta = 0.0f;
  given.epilogue.ptr_C = c;
  given.epilogue.ptr_D = c;
  given.epilogue.dC = cutlass::make_cute_packed_stride(typename Kernel::StrideC{}, {m, n, 1});
  given.epilogue.dD = cutlass::make_cute_packed_stride(typename Kernel::StrideD{}, {m, n, 1});
  // Few multiprocessors, so that a block does several tiles.
  given.hw_info.sm_count = 4;
  if (!Kernel::can_implement(given)) return 1;
  const typename Kernel::Params params = Kernel::to_underlying_arguments(given, nullptr);
  const dim3 grid = Kernel::get_grid_shape(params);
  const auto [x, y, z] = typename Kernel::ClusterShape{};
  printf("%u %u %u %u %d %d %d %d\n", grid.x, grid.y, grid.z, Kernel::get_block_shape().x, Kernel::SharedStorageSize, int(x), int(y), int(z));
  const auto* bytes = reinterpret_cast<const unsigned char*>(&params);
  for (size_t i = 0; i < sizeof params; i++) printf("%d ", bytes[i]);
  return 0;
}

int main(int, char** arguments) { return strcmp(arguments[1], "hopper_gemm_f16") ? describe<Bfloat>(arguments) : describe<Half>(arguments); }

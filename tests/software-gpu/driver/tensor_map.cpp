#include "tensor_map.hpp"

#include "state.hpp"

EXPORT CUresult cuTensorMapEncodeTiled(void* map, int data_type, uint32_t rank, void* address, const uint64_t* sizes, const uint64_t* strides,
                                       const uint32_t* box, const uint32_t* element_strides, int interleave, int swizzle, int promotion, int fill) {
  ENTER;
  const device::TensorMapArguments arguments{data_type, rank, reinterpret_cast<uint64_t>(address), sizes, strides, box, element_strides,
                                             interleave, swizzle, promotion, fill};
  if (const std::string words = device::tensor_map_fault(map, arguments); !words.empty()) {
    device::report("%s: %s", __func__, words.c_str());
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (const char* words = device::tensor_map_unknown(arguments)) {
    device::report("%s: %s are not modelled", __func__, words);
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  device::encode_tensor_map(map, arguments);
  return CUDA_SUCCESS;
}

// Allocation, copies and memsets.
#include <cstring>

#include "state.hpp"

using namespace device;

namespace {

CUresult allocate(CUdeviceptr* pointer, size_t bytes) {
  void* data = nullptr;
  RETURN_IF_ERROR(memory().allocate(bytes, false, &data));
  *pointer = reinterpret_cast<CUdeviceptr>(data);
  return CUDA_SUCCESS;
}

struct Side {
  const void* pointer;
  bool on_device;
  bool pageable() const { return !on_device && !memory().pinned_host(pointer); }
  bool valid(size_t bytes, const char* call) const { return !on_device || memory().valid(pointer, bytes, call); }
};

// The documented rules of host memory: a pageable source is read before the call returns, a pageable destination is complete when
// the call returns, pinned memory is touched when the copy executes.
CUresult copy(Side to, Side from, size_t bytes, CUstream handle, const char* call) {
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  if (!to.valid(bytes, call) || !from.valid(bytes, call)) return CUDA_ERROR_INVALID_VALUE;
  if (to.pageable() || from.pageable()) RETURN_IF_ERROR(forbid_in_capture(stream, "a copy of pageable host memory"));
  std::shared_ptr<std::vector<uint8_t>> snapshot;
  if (from.pageable()) {
    auto* start = static_cast<const uint8_t*>(from.pointer);
    snapshot = std::make_shared<std::vector<uint8_t>>(start, start + bytes);
  }
  auto run = [=]() -> CUresult {  // checked again: the memory may have been freed meanwhile
    if (!to.valid(bytes, call) || !from.valid(bytes, call)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    memmove(const_cast<void*>(to.pointer), snapshot ? snapshot->data() : from.pointer, bytes);
    return CUDA_SUCCESS;
  };
  RETURN_IF_ERROR(submit(stream, {call, run, {}}));
  if (!to.pageable()) return CUDA_SUCCESS;
  run_all(stream);
  return sticky_error();
}

Side host(const void* pointer) { return {pointer, false}; }
Side on_device(CUdeviceptr pointer) { return {reinterpret_cast<const void*>(pointer), true}; }

CUresult fill(CUdeviceptr target, std::vector<uint8_t> pattern, size_t count, CUstream handle, const char* call) {
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  const size_t bytes = count * pattern.size();
  if (!on_device(target).valid(bytes, call)) return CUDA_ERROR_INVALID_VALUE;
  auto run = [=]() -> CUresult {
    if (!on_device(target).valid(bytes, call)) return CUDA_ERROR_ILLEGAL_ADDRESS;
    auto* start = reinterpret_cast<uint8_t*>(target);
    for (size_t i = 0; i < bytes; i++) start[i] = pattern[i % pattern.size()];
    return CUDA_SUCCESS;
  };
  return submit(stream, {call, run, {}});
}

}  // namespace

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  return allocate(pointer, bytes);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr* pointer, size_t bytes, CUstream handle) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  FIND_STREAM(stream, handle);
  RETURN_IF_ERROR(forbid_in_capture(stream, __func__));
  *pointer = 0;
  return bytes == 0 ? CUDA_SUCCESS : allocate(pointer, bytes);
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) {
  ENTER;
  RETURN_IF_ERROR(context_error());
  if (pointer == 0) return CUDA_SUCCESS;
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  RETURN_IF_ERROR(memory().request_free(reinterpret_cast<void*>(pointer), __func__));
  run_everything();
  memory().free(reinterpret_cast<void*>(pointer));
  return sticky_error();
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr pointer, CUstream handle) {
  ENTER;
  RETURN_IF_ERROR(context_error());
  if (pointer == 0) return CUDA_SUCCESS;
  FIND_STREAM(stream, handle);
  RETURN_IF_ERROR(forbid_in_capture(stream, __func__));
  RETURN_IF_ERROR(memory().request_free(reinterpret_cast<void*>(pointer), __func__));
  auto run = [pointer] {
    memory().free(reinterpret_cast<void*>(pointer));
    return CUDA_SUCCESS;
  };
  // A free must happen after a fault too, or every fault is followed by a shower of false leaks.
  return submit(stream, {__func__, run, {}, true});
}

EXPORT CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  *total = total_bytes();
  *free_bytes = *total - memory().live_bytes();
  return CUDA_SUCCESS;
}

// Whose memory an address is: a question, so the host's own addresses are an answer and no fault.
EXPORT CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr pointer) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  constexpr int MEMORY_TYPE = 2, DEVICE_ORDINAL = 9, HOST = 1, DEVICE = 2;
  const Ownership owner = memory().owner(reinterpret_cast<const void*>(pointer));
  if (owner == Ownership::Nobody) return CUDA_ERROR_INVALID_VALUE;
  switch (attribute) {
    case MEMORY_TYPE: *static_cast<unsigned*>(value) = owner == Ownership::Device ? DEVICE : HOST; return CUDA_SUCCESS;
    case DEVICE_ORDINAL: *static_cast<int*>(value) = 0; return CUDA_SUCCESS;
    default: report("%s: attribute %d is not one of this device's", __func__, attribute); return CUDA_ERROR_INVALID_VALUE;
  }
}

EXPORT CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
  ENTER;
  RETURN_IF_ERROR(ready_error());
  RETURN_IF_ERROR(forbid_while_capturing(__func__));
  return memory().allocate(bytes, true, pointer);
}

EXPORT CUresult cuMemFreeHost(void* pointer) {
  ENTER;
  RETURN_IF_ERROR(context_error());
  RETURN_IF_ERROR(memory().request_free(pointer, __func__));
  memory().free(pointer);
  return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
  ENTER;
  return copy(on_device(to), host(from), bytes, stream, __func__);
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER;
  return copy(host(to), on_device(from), bytes, stream, __func__);
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  ENTER;
  return copy(on_device(to), on_device(from), bytes, stream, __func__);
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t count, CUstream stream) {
  ENTER;
  return fill(target, {value}, count, stream, __func__);
}

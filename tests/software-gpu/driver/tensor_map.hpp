// Tensor maps: 128 bytes that this driver defines and src/ptx/machine/tensor_map.rs reads.
//
//   0  "TPM1", then bytes: dimensions, bytes of an element, swizzle (0 to 3: none, 32, 64, 128 bytes)
//   8  bytes: sizes of the box minus one (5), whether what is outside becomes NaN, whether any element stride is not 1
//  16  address; 24 sizes (5); 64 strides of all dimensions but the first (4)
#pragma once
#include <cstdint>
#include <cstring>
#include <string>

namespace device {

struct TensorMapArguments {
  int data_type;
  uint32_t rank;
  uint64_t address;
  const uint64_t* sizes;
  const uint64_t* strides;
  const uint32_t* box;
  const uint32_t* element_strides;
  int interleave, swizzle, promotion, fill;
};

// Bytes of an element of a CUtensorMapDataType; 0 for the packed ones, which are not modelled.
inline uint32_t element_bytes(int data_type) {
  constexpr uint32_t BYTES[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
  return data_type >= 0 && data_type < 13 ? BYTES[data_type] : 0;
}

// What cuTensorMapEncodeTiled's documentation forbids about these arguments; empty if nothing.
inline std::string tensor_map_fault(const void* map, const TensorMapArguments& arguments) {
  const auto& [data_type, rank, address, sizes, strides, box, element_strides, interleave, swizzle, promotion, fill] = arguments;
  const auto text = [](const char* what, uint64_t value) { return std::string(what) + ", found " + std::to_string(value); };
  constexpr uint64_t LARGEST_SIZE = uint64_t(1) << 32, LARGEST_STRIDE = uint64_t(1) << 40;
  if (!map || reinterpret_cast<uintptr_t>(map) % 64) return "the tensor map must be aligned to 64 bytes";
  if (data_type < 0 || data_type > 15) return "the data type is no CUtensorMapDataType";
  if (rank < 1 || rank > 5) return text("the rank must be 1 to 5", rank);
  if (!sizes || !box || !element_strides || (rank > 1 && !strides)) return "sizes, strides, box and element strides must be given";
  if (interleave < 0 || interleave > 2 || swizzle < 0 || swizzle > 6 || promotion < 0 || promotion > 3 || fill < 0 || fill > 1)
    return "interleave, swizzle, promotion or fill is no value of its enumeration";
  if (interleave && rank < 3) return text("an interleaved tensor must have a rank of at least 3", rank);
  if (!address || address % (interleave == 2 ? 32 : 16)) return "the address must be aligned to 16 bytes, or to 32 with a 32-byte interleave";
  for (uint32_t axis = 0; axis < rank; axis++) {
    if (sizes[axis] < 1 || sizes[axis] > LARGEST_SIZE) return text("a size must be 1 to 2^32", sizes[axis]);
    if (box[axis] < 1 || box[axis] > 256) return text("a size of the box must be 1 to 256", box[axis]);
    if (element_strides[axis] < 1 || element_strides[axis] > 8) return text("an element stride must be 1 to 8", element_strides[axis]);
    if (axis > 0 && (strides[axis - 1] % (interleave == 2 ? 32 : 16) || strides[axis - 1] >= LARGEST_STRIDE))
      return text("a stride must be a multiple of 16 (32 with a 32-byte interleave) below 2^40", strides[axis - 1]);
  }
  const uint64_t row = uint64_t(box[0]) * element_bytes(data_type);
  if (!interleave && row % 16) return text("a row of the box must be a multiple of 16 bytes", row);
  if (interleave == 2 && swizzle != 1) return "a 32-byte interleave needs a 32-byte swizzle";
  if (!interleave && swizzle && row > (swizzle < 3 ? 16u << swizzle : 128u)) return text("a row of the box must fit into the swizzle", row);
  const bool is_float = data_type >= 6 && data_type <= 12;
  if (fill && !is_float) return "only numbers of floating point can be filled with NaN";
  return {};
}

// What the PTX machine cannot follow; null if it can.
inline const char* tensor_map_unknown(const TensorMapArguments& arguments) {
  if (!element_bytes(arguments.data_type)) return "packed data types";
  if (arguments.interleave) return "interleaved tensors";
  if (arguments.swizzle > 3) return "swizzles of larger atoms";
  return nullptr;
}

// Writes a map whose arguments have passed.
inline void encode_tensor_map(void* map, const TensorMapArguments& arguments) {
  const auto& [data_type, rank, address, sizes, strides, box, element_strides, interleave, swizzle, promotion, fill] = arguments;
  auto* bytes = static_cast<uint8_t*>(map);
  memset(bytes, 0, 128);
  memcpy(bytes, "TPM1", 4);
  bytes[4] = static_cast<uint8_t>(rank);
  bytes[5] = static_cast<uint8_t>(element_bytes(data_type));
  bytes[6] = static_cast<uint8_t>(swizzle);
  bytes[13] = static_cast<uint8_t>(fill);
  memcpy(bytes + 16, &address, 8);
  for (uint32_t axis = 0; axis < rank; axis++) {
    bytes[8 + axis] = static_cast<uint8_t>(box[axis] - 1);
    bytes[14] |= element_strides[axis] != 1;
    memcpy(bytes + 24 + 8 * axis, &sizes[axis], 8);
    if (axis > 0) memcpy(bytes + 64 + 8 * (axis - 1), &strides[axis - 1], 8);
  }
}

}  // namespace device

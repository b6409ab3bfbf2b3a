// A stand-in for libcublasLt.so.13: products of column-major matrices as plain loops, summed in 32 bit.
//
// It refuses what the engine has no use for (batches, other epilogues than a bias, mixed factors) and what the library refuses:
// addresses and leading dimensions that are less aligned than was promised, too little workspace.
#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "half.hpp"
#include "pretence.hpp"
#include "state.hpp"

namespace {

enum Status : int { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, NOT_SUPPORTED = 15 };
enum DataType : int { F32 = 0, F16 = 2, BF16 = 14 };
enum ComputeType : int { COMPUTE_32F = 68, COMPUTE_32F_FAST_TF32 = 77 };
enum LayoutAttribute : int { LAYOUT_BATCH_COUNT = 5 };
enum OperationAttribute : int { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8, BIAS_DATA_TYPE = 26 };
enum PreferenceAttribute : int { MAX_WORKSPACE_BYTES = 1, REDUCTION_SCHEME_MASK = 3, MIN_ALIGNMENT_A = 5, MIN_ALIGNMENT_D = 8 };
enum Epilogue : int { EPILOGUE_DEFAULT = 1, EPILOGUE_BIAS = 4 };

constexpr uint64_t ALIGNMENT = 16;
constexpr uint64_t ALGORITHM = 0x50f79a7e;  // marks an algorithm as one of ours
constexpr size_t LONG_SUM = 1024;           // longer sums are split, which takes workspace

struct Handle {};

struct Layout {
  DataType type;
  uint64_t rows, columns;
  int64_t leading;
  size_t element() const { return type == F32 ? 4 : 2; }
  size_t bytes() const { return (static_cast<size_t>(leading) * (columns - 1) + rows) * element(); }
};

struct Operation {
  int compute;
  int32_t transpose_a = 0, transpose_b = 0;
  int32_t epilogue = EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int32_t bias_type = -1;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // what the library assumes unless told
};

struct Algorithm {
  uint64_t data[8];  // the mark, and the promised alignments
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

std::set<const void*>& live() {
  static auto* all = new std::set<const void*>;
  return *all;
}

template <class T>
Status create(T** place, T value) {
  ENTER;
  if (!place) return INVALID_VALUE;
  *place = new T(value);
  live().insert(*place);
  return SUCCESS;
}

template <class T>
Status destroy(T* object, const char* call) {
  ENTER;
  if (!live().erase(object)) {
    device::report("%s: an object that does not exist, or no longer", call);
    return INVALID_VALUE;
  }
  delete object;
  return SUCCESS;
}

Status refuse(Status status, const char* reason) {
  device::report("cublasLt: %s", reason);
  return status;
}

template <class T>
Status take(T& field, const void* value, size_t bytes) {
  if (!value || bytes != sizeof field) return refuse(INVALID_VALUE, "an attribute of another size");
  memcpy(&field, value, bytes);
  return SUCCESS;
}

bool known(int type) { return type == F32 || type == F16 || type == BF16; }

// Whether the columns of all matrices are aligned to what was promised of each, or to the widest load.
template <class Promised>
Status check_columns(std::array<const Layout*, 4> layouts, const Promised& promised) {
  for (size_t i = 0; i < 4; i++) {
    const Layout& layout = *layouts[i];
    if (layout.columns > 1 && layout.leading * layout.element() % std::min<uint64_t>(promised[i], ALIGNMENT) != 0) return refuse(NOT_SUPPORTED, "columns that are less aligned than was promised");
  }
  return SUCCESS;
}

// D (m x n) = A (m x k) B (k x n), each as its layout and transpose say.
Status check(const Operation& operation, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const uint64_t m = operation.transpose_a ? a.columns : a.rows, depth = operation.transpose_a ? a.rows : a.columns;
  const uint64_t depth_b = operation.transpose_b ? b.columns : b.rows, n = operation.transpose_b ? b.rows : b.columns;
  if (depth != depth_b || d.rows != m || d.columns != n || c.rows != m || c.columns != n) return refuse(INVALID_VALUE, "shapes that do not fit together");
  for (const Layout* layout : {&a, &b, &c, &d}) {
    if (layout->leading < static_cast<int64_t>(layout->rows)) return refuse(INVALID_VALUE, "columns that overlap: the leading dimension is less than the rows");
  }
  if (a.type != b.type || c.type != d.type) return refuse(NOT_SUPPORTED, "factors, or outputs, of different types");
  if (d.type != a.type && d.type != F32) return refuse(NOT_SUPPORTED, "an output that is neither of the factors' type nor of 32 bit");
  if (operation.compute == COMPUTE_32F_FAST_TF32 && a.type != F32) return refuse(NOT_SUPPORTED, "TF32 for factors of 16 bit");
  if (operation.epilogue != EPILOGUE_DEFAULT && operation.epilogue != EPILOGUE_BIAS) return refuse(NOT_SUPPORTED, "an epilogue other than a bias");
  if (operation.epilogue == EPILOGUE_BIAS && operation.bias_type != -1 && operation.bias_type != d.type) return refuse(NOT_SUPPORTED, "a bias of another type than the output");
  return SUCCESS;
}

float load(DataType type, const void* data, size_t index) {
  if (type == F32) return static_cast<const float*>(data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return type == F16 ? half::from_half(bits) : half::from_bfloat(bits);
}

void store(DataType type, void* data, size_t index, float value) {
  if (type == F32) {
    static_cast<float*>(data)[index] = value;
  } else {
    static_cast<uint16_t*>(data)[index] = type == F16 ? half::to_half(value) : half::to_bfloat(value);
  }
}

// To the ten bits of mantissa that tensor cores multiply.
float to_tf32(float value) {
  const uint32_t bits = half::as_bits(value);
  return half::as_float((bits + 0xfffu + (bits >> 13 & 1)) & ~0x1fffu);
}

// op(matrix) as rows of `depth` neighbours: the sums then run over neighbours on both sides.
std::vector<float> rows_of_depth(const Layout& layout, const void* data, bool depth_is_columns, bool tf32) {
  const size_t rows = depth_is_columns ? layout.rows : layout.columns, depth = depth_is_columns ? layout.columns : layout.rows;
  std::vector<float> values(rows * depth);
  for (size_t i = 0; i < rows; i++) {
    for (size_t k = 0; k < depth; k++) {
      const size_t row = depth_is_columns ? i : k, column = depth_is_columns ? k : i;
      const float value = load(layout.type, data, column * static_cast<size_t>(layout.leading) + row);
      values[i * depth + k] = tf32 ? to_tf32(value) : value;
    }
  }
  return values;
}

struct Product {
  Operation operation;
  Layout a, b, d;
  const void *a_data, *b_data, *c_data;
  void* d_data;
  float alpha, beta;
  void* workspace;
  size_t workspace_bytes;

  bool memory_is_valid() const {
    auto& memory = device::memory();
    return memory.valid(a_data, a.bytes(), "cublasLtMatmul: A") && memory.valid(b_data, b.bytes(), "cublasLtMatmul: B") &&
           memory.valid(d_data, d.bytes(), "cublasLtMatmul: D") && memory.valid(workspace, workspace_bytes, "cublasLtMatmul: the workspace") &&
           (operation.epilogue != EPILOGUE_BIAS || memory.valid(operation.bias, d.rows * d.element(), "cublasLtMatmul: the bias"));
  }

  CUresult run() const {
    if (!memory_is_valid()) return CUDA_ERROR_ILLEGAL_ADDRESS;
    const bool tf32 = operation.compute == COMPUTE_32F_FAST_TF32;
    const auto left = rows_of_depth(a, a_data, !operation.transpose_a, tf32), right = rows_of_depth(b, b_data, operation.transpose_b, tf32);
    const size_t depth = left.size() / d.rows;
    for (size_t j = 0; j < d.columns; j++) {
      for (size_t i = 0; i < d.rows; i++) {
        float sum = 0;
        for (size_t k = 0; k < depth; k++) sum += left[i * depth + k] * right[j * depth + k];
        const size_t at = j * static_cast<size_t>(d.leading) + i;
        float value = alpha * sum + (beta != 0 ? beta * load(d.type, c_data, at) : 0.0f);
        if (operation.epilogue == EPILOGUE_BIAS) value += load(d.type, operation.bias, i);
        store(d.type, d_data, at, value);
      }
    }
    if (workspace_bytes > 0) memset(workspace, 0xff, workspace_bytes);  // whatever was there is lost
    return CUDA_SUCCESS;
  }
};

size_t needed_workspace(const Operation& operation, const Layout& a, const Layout& d) {
  const size_t depth = operation.transpose_a ? a.rows : a.columns;
  return depth > LONG_SUM ? d.rows * d.columns * 4 : 0;
}

}  // namespace

EXPORT size_t cublasLtGetVersion() { return 130000; }

EXPORT Status cublasLtCreate(Handle** handle) {
  ENTER;
  if (device::ready_error() != CUDA_SUCCESS) return refuse(NOT_INITIALIZED, "no context is current, or it has failed");
  return create(handle, Handle{});
}

EXPORT Status cublasLtDestroy(Handle* handle) { return destroy(handle, __func__); }

EXPORT Status cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (!known(type) || rows == 0 || columns == 0) return refuse(INVALID_VALUE, "a matrix that is empty or of an unknown type");
  return create(layout, Layout{static_cast<DataType>(type), rows, columns, leading});
}

EXPORT Status cublasLtMatrixLayoutDestroy(Layout* layout) { return destroy(layout, __func__); }

EXPORT Status cublasLtMatmulDescCreate(Operation** operation, int compute, int scale) {
  if (compute != COMPUTE_32F && compute != COMPUTE_32F_FAST_TF32) return refuse(NOT_SUPPORTED, "sums that are not of 32 bit");
  if (scale != F32) return refuse(NOT_SUPPORTED, "a scale that is not of 32 bit");
  return create(operation, Operation{compute});
}

EXPORT Status cublasLtMatmulDescDestroy(Operation* operation) { return destroy(operation, __func__); }

EXPORT Status cublasLtMatmulDescSetAttribute(Operation* operation, int attribute, const void* value, size_t bytes) {
  ENTER;
  if (!live().count(operation)) return refuse(INVALID_VALUE, "an operation that does not exist, or no longer");
  switch (attribute) {
    case TRANSA: return take(operation->transpose_a, value, bytes);
    case TRANSB: return take(operation->transpose_b, value, bytes);
    case EPILOGUE: return take(operation->epilogue, value, bytes);
    case BIAS_POINTER: return take(operation->bias, value, bytes);
    case BIAS_DATA_TYPE: return take(operation->bias_type, value, bytes);
    default: return refuse(NOT_SUPPORTED, "an attribute of an operation that the software GPU has not");
  }
}

EXPORT Status cublasLtMatmulPreferenceCreate(Preference** preference) { return create(preference, Preference{}); }
EXPORT Status cublasLtMatmulPreferenceDestroy(Preference* preference) { return destroy(preference, __func__); }

EXPORT Status cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
  ENTER;
  if (!live().count(preference)) return refuse(INVALID_VALUE, "a preference that does not exist, or no longer");
  uint32_t mask;
  if (attribute == MAX_WORKSPACE_BYTES) return take(preference->workspace, value, bytes);
  if (attribute == REDUCTION_SCHEME_MASK) return take(mask, value, bytes);
  if (attribute >= MIN_ALIGNMENT_A && attribute <= MIN_ALIGNMENT_D) return take(preference->alignment[attribute - MIN_ALIGNMENT_A], value, bytes);
  return refuse(NOT_SUPPORTED, "an attribute of a preference that the software GPU has not");
}

EXPORT Status cublasLtMatmulAlgoGetHeuristic(Handle* handle, Operation* operation, Layout* a, Layout* b, Layout* c, Layout* d,
                                             Preference* preference, int wanted, Heuristic* results, int* count) {
  ENTER;
  *count = 0;
  for (const void* object : {static_cast<void*>(handle), static_cast<void*>(operation), static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c),
                             static_cast<void*>(d), static_cast<void*>(preference)}) {
    if (!live().count(object)) return refuse(INVALID_VALUE, "an object that does not exist, or no longer");
  }
  if (wanted < 1) return refuse(INVALID_VALUE, "no algorithm is wanted");
  if (operation->epilogue == EPILOGUE_BIAS && !operation->bias) return refuse(NOT_SUPPORTED, "a bias without an address");
  if (const Status status = check(*operation, *a, *b, *c, *d)) return status;
  if (const Status status = check_columns({a, b, c, d}, preference->alignment)) return status;
  const size_t bytes = needed_workspace(*operation, *a, *d);
  *results = {};
  results->algorithm.data[0] = ALGORITHM;
  for (size_t i = 0; i < 4; i++) results->algorithm.data[1 + i] = preference->alignment[i];
  results->workspace = bytes <= preference->workspace ? bytes : 0;
  *count = 1;
  return SUCCESS;
}

EXPORT Status cublasLtMatmul(Handle* handle, Operation* operation, const float* alpha, const void* a_data, Layout* a, const void* b_data, Layout* b,
                             const float* beta, const void* c_data, Layout* c, void* d_data, Layout* d, const Algorithm* algorithm, void* workspace,
                             size_t workspace_bytes, CUstream stream_handle) {
  ENTER;
  if (!live().count(handle)) return refuse(NOT_INITIALIZED, "a handle that does not exist, or no longer");
  for (const void* object : {static_cast<void*>(operation), static_cast<void*>(a), static_cast<void*>(b), static_cast<void*>(c), static_cast<void*>(d)}) {
    if (!live().count(object)) return refuse(INVALID_VALUE, "an object that does not exist, or no longer");
  }
  if (!algorithm || algorithm->data[0] != ALGORITHM) return refuse(INVALID_VALUE, "an algorithm that no heuristic has given");
  if (const Status status = check(*operation, *a, *b, *c, *d)) return status;
  if (const Status status = check_columns({a, b, c, d}, algorithm->data + 1)) return status;
  const void* addresses[] = {a_data, b_data, c_data, d_data};
  for (size_t i = 0; i < 4; i++) {
    if (!addresses[i] || reinterpret_cast<uintptr_t>(addresses[i]) % algorithm->data[1 + i] != 0) return refuse(INVALID_VALUE, "an address that is null or less aligned than was promised");
  }
  if (operation->epilogue == EPILOGUE_BIAS && (!operation->bias || reinterpret_cast<uintptr_t>(operation->bias) % ALIGNMENT != 0)) return refuse(INVALID_VALUE, "a bias that is null or not aligned to 16 bytes");
  if (c_data != d_data) return refuse(NOT_SUPPORTED, "a product that is not added in place");
  const Product product{*operation, *a, *b, *d, a_data, b_data, c_data, d_data, *alpha, *beta, workspace, workspace_bytes};
  if (!product.memory_is_valid()) return INVALID_VALUE;
  const auto stream = device::find_stream(stream_handle);
  if (!stream) return INVALID_VALUE;
  const CUresult submitted = device::submit(stream, {"cublasLtMatmul", [product] {
    const device::Wrong wrong = device::goes_wrong("cublasLtMatmul");
    if (wrong != device::Wrong::Not) return wrong == device::Wrong::Fails ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
    return product.run();
  }, {}});
  return submitted == CUDA_SUCCESS ? SUCCESS : EXECUTION_FAILED;
}

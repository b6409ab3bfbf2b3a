// Backend descriptors: a kind, attributes as they were set, and whether it is finalized. What may be set is a table (descriptor.cpp);
// whether it makes sense together is judged when it is finalized (finalize.cpp).
#pragma once
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "abi.hpp"
#include "state.hpp"

namespace dnn {

// Thrown where a call is refused; the entry points return the status and keep the words for cudnnGetLastErrorString.
struct Refusal {
  Status status;
  std::string words;
};
[[noreturn]] void refuse(Status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

struct Handle {
  CUstream stream = nullptr;
};

struct Attribute {
  Type type;
  int64_t count;
  std::vector<uint8_t> bytes;
};

struct Descriptor {
  Kind kind;
  bool finalized = false;
  std::map<Name, Attribute> attributes = {};

  bool has(Name name) const { return attributes.count(name) != 0; }
  template <class T>
  std::vector<T> list(Name name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(static_cast<size_t>(found->second.count));
    memcpy(values.data(), found->second.bytes.data(), found->second.bytes.size());
    return values;
  }
  // A single value: the table has made sure that it is there.
  template <class T>
  T value(Name name) const { return list<T>(name).at(0); }
  int64_t integer(Name name) const { return value<int64_t>(name); }
  std::vector<int64_t> integers(Name name) const { return list<int64_t>(name); }
  const Descriptor& part(Name name) const;

  // For what the library fills in itself.
  template <class T>
  void fill(Name name, Type type, const std::vector<T>& values) {
    Attribute attribute{type, static_cast<int64_t>(values.size()), std::vector<uint8_t>(values.size() * sizeof(T))};
    memcpy(attribute.bytes.data(), values.data(), attribute.bytes.size());
    attributes[name] = attribute;
  }
};

const char* kind_name(Kind kind);
// Fails unless the table lets a descriptor of this kind have it.
void check_attribute(Kind kind, int name, int type, int64_t count, bool reading);
void check_required(const Descriptor& descriptor);
size_t bytes_of(Type type);

// Fails unless it is a live descriptor, or handle.
Descriptor& live(void* pointer, const char* call);
Handle& live_handle(void* pointer, const char* call);
std::set<void*>& descriptors();
std::set<void*>& handles();

// Judges a descriptor whose attributes are all there (finalize.cpp), and fills in what the library adds (engines.cpp).
void judge(Descriptor& descriptor);
void propose_engines(Descriptor& heuristic);
void prepare_plan(Descriptor& plan);
// Copies results into descriptors that the caller has created.
void hand_out(const Descriptor& from, Name name, void** created, int64_t count);
// Puts a plan on its handle's stream (execute.cpp).
void execute(const Handle& handle, const Descriptor& plan, const Descriptor& pack);

// What a graph comes down to.
struct Tensor {
  int64_t id;
  int type;
  bool is_virtual;
  int64_t alignment;
  std::vector<int64_t> sizes;  // N, C, H, W; for a filter K, C, R, S
  size_t count() const { return static_cast<size_t>(sizes[0] * sizes[1] * sizes[2] * sizes[3]); }
  size_t element_bytes() const { return type == DATA_FLOAT ? 4 : 2; }
  size_t bytes() const { return count() * element_bytes(); }
};
struct Step {
  int mode;
  int64_t operand;  // a tensor's id, or -1
};
// A convolution, and what is applied to its result, element by element.
struct Graph {
  Kind convolution;
  float alpha, beta;
  int64_t stride[2], padding[2], dilation[2];
  int64_t input, filter, output;  // ids: x or dx, w or dw, y or dy; one of them may be virtual
  int64_t computed;               // which of the three the convolution computes
  int64_t result;                 // what is stored at the end
  std::vector<Step> steps;
  std::map<int64_t, Tensor> tensors;
};
Tensor tensor_of(const Descriptor& descriptor);
Graph graph_of(const Descriptor& descriptor);

}  // namespace dnn

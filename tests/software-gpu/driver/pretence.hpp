// What the tests make this device pretend: SOFTWARE_GPU_PRETEND=devices=0,driver=11080,capability=75,memory=BYTES,failing=NAME:NUMBER,cudnn=mixed
//
// What goes wrong has a name: a kernel, a call of the driver such as cuInit, cublasLtMatmul, nvrtcCompileProgram, or a convolution
// (convolution_forward, convolution_backward_data, convolution_backward_filter). A name that ends in `*` is that of all that begin like
// it. With a number it goes wrong that time, without one every time.
//
//   failing=NAME    an error is reported       skipping=NAME    nothing is done, and success is reported: wrong numbers
//   crashing=NAME   the process aborts         hanging=NAME     it never comes back
#pragma once
#include <cstdint>
#include <string>

namespace device {

// The value of a name, or empty.
std::string pretence(const std::string& name);
int64_t pretended_number(const std::string& name, int64_t otherwise);

// How an execution is to go wrong; where it crashes or hangs, the question does.
enum class Wrong { Not, Fails, IsSkipped };
Wrong goes_wrong(const std::string& name);
inline bool is_to_fail(const std::string& name) { return goes_wrong(name) == Wrong::Fails; }

}  // namespace device

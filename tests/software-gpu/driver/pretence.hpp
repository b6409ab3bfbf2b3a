// What the tests make this device pretend: SOFTWARE_GPU_PRETEND=devices=0,driver=11080,capability=75,memory=BYTES,failing=KERNEL:NUMBER,cudnn=mixed
#pragma once
#include <cstdint>
#include <string>

namespace device {

// The value of a name, or empty.
std::string pretence(const std::string& name);
int64_t pretended_number(const std::string& name, int64_t otherwise);
// Whether this execution of a kernel is the one that is to fail.
bool is_to_fail(const std::string& kernel);

}  // namespace device

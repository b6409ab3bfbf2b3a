// Runs kernels elsewhere than in the emulator: where a test process has registered who executes them.
#pragma once
#include <optional>
#include <vector>

#include "abi.hpp"
#include "launch.hpp"

namespace device {

// Whether somebody is.
bool is_interpreted();

// The result of a launch, or nothing when nobody is registered or who is does not know the kernel.
std::optional<CUresult> interpret(const emulator::Kernel& kernel, const emulator::Launch& launch, const std::vector<uint8_t>& params);

}  // namespace device

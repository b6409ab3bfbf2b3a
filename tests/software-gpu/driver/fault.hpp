#pragma once

namespace device {

void install_fault_handler();
// Whether a kernel has faulted on this thread since the last call.
bool take_fault();

}  // namespace device

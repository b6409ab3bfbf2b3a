"""The cost of compiled kernels, read from their machine code; .ci/kernel_budget.py says what is counted."""

// Tensor-core products of 16 x 16 and 16 x 8 tiles of 16-bit numbers, accumulated in 32 bits (sm_80 and later).
//
// A fragment of A is four registers, of B two, of the result four floats; lane / 4 and lane % 4 say which elements they are (the
// PTX manual's figures; tests/software-gpu/emulator/fragments.hpp has them as formulas).
#pragma once
#include "numbers.cuh"

#if defined(__CUDACC__)

// Four 8 x 8 matrices; lane 8 m + r gives the address of row r of matrix m.
DEVICE void load_matrices(uint32_t (&registers)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(row_address)
               : "memory");
}
DEVICE void load_matrices_transposed(uint32_t (&registers)[4], uint32_t row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
               : "r"(row_address)
               : "memory");
}
DEVICE void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Half) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Bfloat) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

#else

DEVICE void load_matrices(uint32_t (&registers)[4], uint32_t row_address) { emulator::load_matrices(registers, row_address, false); }
DEVICE void load_matrices_transposed(uint32_t (&registers)[4], uint32_t row_address) {
  emulator::load_matrices(registers, row_address, true);
}
DEVICE void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Half) {
  const uint32_t b[2] = {b0, b1};
  emulator::multiply_accumulate(d, a, b, emulator::Format::Half);
}
DEVICE void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Bfloat) {
  const uint32_t b[2] = {b0, b1};
  emulator::multiply_accumulate(d, a, b, emulator::Format::Bfloat);
}

#endif

// Offset of a 16-byte chunk of a row in a tile of rows of COLUMNS 16-bit numbers: chunks are exchanged within groups of eight by
// the row number, so that the eight rows of a matrix load lie in eight different bank groups.
template <int COLUMNS>
DEVICE uint32_t swizzled(uint32_t row, uint32_t chunk) {
  static_assert(COLUMNS % 64 == 0, "a row is whole groups of eight chunks");
  return row * (COLUMNS * 2) + ((chunk ^ (row & 7)) << 4);
}

// What compute capability 9.0 alone has (sm_90a): clusters of blocks, mbarriers, copies of tiles by tensor maps, and matrix products of
// a warpgroup, four warps that multiply out of shared memory.
#pragma once
#include "numbers.cuh"
#include "threads.cuh"

constexpr unsigned GROUP_THREADS = 128, GROUP_WARPS = 4;
// Operands of products in shared memory are panels: rows of 64 16-bit numbers, whose 16-byte chunks are exchanged by the row number (the
// 128-byte swizzle), from a multiple of 1,024 bytes on.
constexpr uint32_t PANEL_COLUMNS = 64, PANEL_ROW_BYTES = 128;

// cuTensorMapEncodeTiled writes it.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

// WARPGROUP_KERNEL(NAME, PARAMS, THREADS, FUNCTION) is a kernel that calls the function where it can be compiled. The emulator cannot run
// it, and only knows that it is there: it is executed as PTX.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HAS_WARPGROUPS 1
#define WARPGROUP_KERNEL(NAME, PARAMS, THREADS, ...) \
  KERNEL(NAME, PARAMS, THREADS) { __VA_ARGS__(params); }
#elif defined(__CUDACC__)
#define HAS_WARPGROUPS 0
#define WARPGROUP_KERNEL(NAME, PARAMS, THREADS, ...)
#else
#define HAS_WARPGROUPS 0
#define WARPGROUP_KERNEL(NAME, PARAMS, THREADS, ...) PTX_KERNEL(NAME, PARAMS, THREADS)
#endif

#if HAS_WARPGROUPS

// The same value, which all lanes have, where the compiler knows that they have: products may not lie on a path that it thinks divergent.
template <class T>
DEVICE T uniform(T value) {
  return warp_read(value, 0);
}

// How the registers of a block are divided anew; every warp of a warpgroup calls it.
template <int COUNT>
DEVICE void keep_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// ---- Clusters: blocks that see each other's shared memory. A block's rank counts x first, then y, then z.

DEVICE uint32_t cluster_blocks_x() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(blocks));
  return blocks;
}
DEVICE uint32_t cluster_blocks_y() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctaid.y;" : "=r"(blocks));
  return blocks;
}
DEVICE uint32_t cluster_rank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// Of every thread of the cluster; what was written before is seen after.
DEVICE void cluster_barrier() {
  asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}
// The same place in the shared memory of the block of that rank.
DEVICE uint32_t in_block(uint32_t shared, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(address) : "r"(shared), "r"(rank));
  return address;
}
DEVICE Vector<float, 4> load_in_cluster(uint32_t address) {
  Vector<float, 4> value;
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(value.values[0]), "=f"(value.values[1]), "=f"(value.values[2]), "=f"(value.values[3])
               : "r"(address)
               : "memory");
  return value;
}

DEVICE void store_in_cluster(uint32_t address, const Vector<float, 4>& value) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1,%2,%3,%4};" ::"r"(address), "f"(value.values[0]), "f"(value.values[1]), "f"(value.values[2]),
               "f"(value.values[3])
               : "memory");
}
DEVICE void store_in_cluster(uint32_t address, uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

// ---- Mbarriers, 8 bytes of shared memory: a phase ends when all have arrived and all bytes that were announced have landed.

DEVICE void barrier_init(uint32_t barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
// Before the barrier of the cluster after which others may arrive.
DEVICE void barriers_are_initialised() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void barrier_arrive(uint32_t barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
DEVICE void barrier_arrive_expecting(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// At the barrier at the same place in the block of that rank, to say that something has been read.
DEVICE void barrier_arrive_in_block(uint32_t barrier, uint32_t rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(in_block(barrier, rank)) : "memory");
}
// To say that something has been written, in whichever block: many times as dear.
DEVICE void barrier_arrive_releasing(uint32_t barrier, uint32_t rank) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(in_block(barrier, rank)) : "memory");
}
// Until the phase of this parity has ended; that before the first counts as one of parity 1.
DEVICE void barrier_wait(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
  } while (!done);
}
// The same for what other blocks of the cluster have written.
DEVICE void barrier_wait_acquiring(uint32_t barrier, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
  } while (!done);
}

// ---- Copies by a tensor map.

// The box of the map at this column and row; its bytes count for the barrier. One thread calls it.
DEVICE void copy_box(uint32_t destination, const TensorMap& map, uint32_t column, uint32_t row, uint32_t barrier) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(destination),
               "l"(&map), "r"(column), "r"(row), "r"(barrier)
               : "memory");
}
// To the same place in every block of the cluster whose bit is set, with its own barrier.
DEVICE void copy_box_to_blocks(uint32_t destination, const TensorMap& map, uint32_t column, uint32_t row, uint32_t barrier, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(
          destination),
      "l"(&map), "r"(column), "r"(row), "r"(barrier), "h"(blocks)
      : "memory");
}
// What threads wrote to shared memory, of their block or any, is seen by copies and products that follow a barrier.
DEVICE void publish_to_products() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void publish_to_products_of_cluster() { asm volatile("fence.proxy.async.shared::cluster;" ::: "memory"); }

// ---- Products of a warpgroup.

// Offset of a 16-byte chunk in a panel.
DEVICE uint32_t panel_chunk(uint32_t row, uint32_t chunk) { return row * PANEL_ROW_BYTES + ((chunk ^ (row & 7)) << 4); }

// How rows of an operand follow each other: along the inner dimension where its numbers are contiguous there, or else across panels that
// are `panel_bytes` apart. Eight rows of a panel are 1,024 bytes.
DEVICE uint64_t operand(uint32_t shared, uint32_t panel_bytes) {
  constexpr uint64_t SWIZZLE_128 = uint64_t(1) << 62, EIGHT_ROWS = uint64_t(1024 >> 4) << 32;
  return SWIZZLE_128 | EIGHT_ROWS | uint64_t(panel_bytes >> 4) << 16 | (shared & 0x3ffff) >> 4;
}

// Registers that products read or write are not touched by what was before.
DEVICE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int GROUPS_LEFT>
DEVICE void products_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS_LEFT) : "memory");
}
// Keeps the compiler from moving uses of the accumulators over what is before or after.
template <int BLOCKS>
DEVICE void products_own(float (&d)[BLOCKS][4]) {
  UNROLL
  for (int block = 0; block < BLOCKS; block++) {
    asm volatile("" : "+f"(d[block][0]), "+f"(d[block][1]), "+f"(d[block][2]), "+f"(d[block][3])::"memory");
  }
}

// d (64 rows x 8 BLOCKS columns) = or += a (64 x 16) . b (16 x 8 BLOCKS). A warp holds 16 rows of d, in blocks of 8 columns, each as that of
// mma.sync. A lies in shared memory with contiguous inner dimension, or in registers as that of mma.sync.
#define D_4(I) "+f"(d[I][0]), "+f"(d[I][1]), "+f"(d[I][2]), "+f"(d[I][3])
#define D_16(I) D_4(I), D_4(I + 1), D_4(I + 2), D_4(I + 3)
#define D_32(I) D_16(I), D_16(I + 4)
#define D_64(I) D_32(I), D_32(I + 8)
#define D_128(I) D_64(I), D_64(I + 16)
#define R_16 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define R_32 R_16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define R_64                                                                                                             \
  R_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59," \
       "%60,%61,%62,%63"
#define R_128                                                                                                                        \
  R_64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,"    \
       "%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%119,"  \
       "%120,%121,%122,%123,%124,%125,%126,%127"

// B's inner dimension is contiguous: rows of B are columns of d.
#define SIMILARITY_PRODUCT(COLUMNS, BLOCKS, COUNT, A, B, ADD, FORMAT, NAME)                                                            \
  DEVICE void similarity_product(float (&d)[BLOCKS][4], uint64_t a, uint64_t b, bool add, FORMAT) {                                    \
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %" ADD ", 0; wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." NAME "." NAME      \
                 " {" R_##COUNT "}, %" A ", %" B ", p, 1, 1, 0, 0; }"                                                                  \
                 : D_##COUNT(0)                                                                                                        \
                 : "l"(a), "l"(b), "r"(int32_t(add)));                                                                                 \
  }
#define SIMILARITY_PRODUCTS(FORMAT, NAME)                                    \
  SIMILARITY_PRODUCT("32", 4, 16, "16", "17", "18", FORMAT, NAME)            \
  SIMILARITY_PRODUCT("64", 8, 32, "32", "33", "34", FORMAT, NAME)            \
  SIMILARITY_PRODUCT("128", 16, 64, "64", "65", "66", FORMAT, NAME)
SIMILARITY_PRODUCTS(Half, "f16")
SIMILARITY_PRODUCTS(Bfloat, "bf16")

// Columns of B are contiguous, as those of d.
#define GRADIENT_PRODUCT(COLUMNS, BLOCKS, COUNT, A0, A1, A2, A3, B, FORMAT, NAME)                                                      \
  DEVICE void gradient_product(float (&d)[BLOCKS][4], const uint32_t (&a)[4], uint64_t b, FORMAT) {                                    \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." NAME "." NAME " {" R_##COUNT "}, {%" A0 ",%" A1 ",%" A2 ",%" A3 \
                 "}, %" B ", 1, 1, 1, 1;"                                                                                              \
                 : D_##COUNT(0)                                                                                                        \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                                \
  }                                                                                                                                    \
  DEVICE void gradient_product(float (&d)[BLOCKS][4], uint64_t a, uint64_t b, FORMAT) {                                                \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" COLUMNS "k16.f32." NAME "." NAME " {" R_##COUNT "}, %" A0 ", %" A1                \
                 ", 1, 1, 1, 0, 1;"                                                                                                    \
                 : D_##COUNT(0)                                                                                                        \
                 : "l"(a), "l"(b));                                                                                                    \
  }
#define GRADIENT_PRODUCTS(FORMAT, NAME)                                                      \
  GRADIENT_PRODUCT("128", 16, 64, "64", "65", "66", "67", "68", FORMAT, NAME)                \
  GRADIENT_PRODUCT("256", 32, 128, "128", "129", "130", "131", "132", FORMAT, NAME)
GRADIENT_PRODUCTS(Half, "f16")
GRADIENT_PRODUCTS(Bfloat, "bf16")

#endif

// The tilings that kernels exist for: EACH_TILING(MAKE) is MAKE(longest row, end of the kernel's name, whether it takes large tiles) for
// each of them. NVRTC compiles while a user waits, so it is asked for those of one length, ONLY_LENGTH, at a time.
#pragma once

#if !defined(ONLY_LENGTH)
#define EACH_TILING(MAKE)    \
  MAKE(64, 64, false)        \
  MAKE(128, 128, false)      \
  MAKE(256, 256, false)      \
  MAKE(512, 512, false)      \
  MAKE(512, 512_large, true) \
  MAKE(1024, 1024_large, true)
#elif ONLY_LENGTH == 64
#define EACH_TILING(MAKE) MAKE(64, 64, false)
#elif ONLY_LENGTH == 128
#define EACH_TILING(MAKE) MAKE(128, 128, false)
#elif ONLY_LENGTH == 256
#define EACH_TILING(MAKE) MAKE(256, 256, false)
#elif ONLY_LENGTH == 512
#define EACH_TILING(MAKE) MAKE(512, 512, false) MAKE(512, 512_large, true)
#elif ONLY_LENGTH == 1024
#define EACH_TILING(MAKE) MAKE(1024, 1024_large, true)
#elif ONLY_LENGTH == 2048
// fused_warpgroup.cu alone
#define EACH_TILING(MAKE)
#else
#error "ONLY_LENGTH is none of the lengths"
#endif

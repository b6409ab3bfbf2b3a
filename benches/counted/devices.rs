//! What devices do in a cycle.

/// A device, as its maker and those who timed its instructions describe it.
pub struct Device {
    pub name: &'static str,
    /// The nearest architecture that the budget has.
    pub architecture: &'static str,
    pub capability: i32,
    pub multiprocessors: f64,
    /// Of the boost clock, in Hz.
    pub clock: f64,
    /// From one HMMA.16816.F32 to the next of a sub-core.
    pub cycles_per_hmma: f64,
    /// Dense 16-bit products with 32-bit sums by whatever instruction is quickest, in FLOP/s.
    pub peak: f64,
    /// Of device memory.
    pub bytes_per_second: f64,
    /// Of the second-level cache, in bytes.
    pub cache: usize,
    /// Of a block's shared memory that tilings may ask for, and of a multiprocessor's, in bytes.
    pub shared_limit: usize,
    pub shared: usize,
}

const LARGE: usize = 163 << 10;
const SMALL: usize = 99 << 10;
const MIB: usize = 1 << 20;

/// Multiprocessors, clocks, peaks, caches and memory: NVIDIA's data sheets and architecture papers (A100, A10, L4, Ada, H100, H200, B200,
/// Blackwell of GeForce). Cycles of an HMMA: peak over multiprocessors and clock, but for Hopper and B200, whose peaks only `wgmma` and
/// `tcgen05` reach: ptxas places independent ones 6 and 8 cycles apart, and the unit may take longer. On GeForce, sums in 32 bits halve the
/// rate.
pub const DEVICES: [Device; 8] = [
    Device {
        name: "A100",
        architecture: "sm_80",
        capability: 80,
        multiprocessors: 108.0,
        clock: 1.41e9,
        cycles_per_hmma: 8.0,
        peak: 312e12,
        bytes_per_second: 2.04e12,
        cache: 40 * MIB,
        shared_limit: LARGE,
        shared: 164 << 10,
    },
    Device {
        name: "A10",
        architecture: "sm_80",
        capability: 86,
        multiprocessors: 72.0,
        clock: 1.695e9,
        cycles_per_hmma: 16.0,
        peak: 125e12,
        bytes_per_second: 0.6e12,
        cache: 6 * MIB,
        shared_limit: SMALL,
        shared: 100 << 10,
    },
    Device {
        name: "L4",
        architecture: "sm_80",
        capability: 89,
        multiprocessors: 58.0,
        clock: 2.04e9,
        cycles_per_hmma: 16.0,
        peak: 121e12,
        bytes_per_second: 0.3e12,
        cache: 48 * MIB,
        shared_limit: SMALL,
        shared: 100 << 10,
    },
    Device {
        name: "RTX 4090",
        architecture: "sm_80",
        capability: 89,
        multiprocessors: 128.0,
        clock: 2.52e9,
        cycles_per_hmma: 32.0,
        peak: 165e12,
        bytes_per_second: 1.008e12,
        cache: 72 * MIB,
        shared_limit: SMALL,
        shared: 100 << 10,
    },
    Device {
        name: "H100",
        architecture: "sm_90a",
        capability: 90,
        multiprocessors: 132.0,
        clock: 1.83e9,
        cycles_per_hmma: 6.0,
        peak: 989e12,
        bytes_per_second: 3.35e12,
        cache: 50 * MIB,
        shared_limit: LARGE,
        shared: 228 << 10,
    },
    Device {
        name: "H200",
        architecture: "sm_90a",
        capability: 90,
        multiprocessors: 132.0,
        clock: 1.83e9,
        cycles_per_hmma: 6.0,
        peak: 989e12,
        bytes_per_second: 4.8e12,
        cache: 50 * MIB,
        shared_limit: LARGE,
        shared: 228 << 10,
    },
    Device {
        name: "B200",
        architecture: "sm_90a",
        capability: 100,
        multiprocessors: 148.0,
        clock: 1.85e9,
        cycles_per_hmma: 8.0,
        peak: 2250e12,
        bytes_per_second: 8e12,
        cache: 126 * MIB,
        shared_limit: LARGE,
        shared: 228 << 10,
    },
    Device {
        name: "RTX 5090",
        architecture: "sm_120",
        capability: 120,
        multiprocessors: 170.0,
        clock: 2.407e9,
        cycles_per_hmma: 32.0,
        peak: 209e12,
        bytes_per_second: 1.79e12,
        cache: 96 * MIB,
        shared_limit: SMALL,
        shared: 100 << 10,
    },
];

/// Bytes of the second-level cache that a multiprocessor receives in a cycle at most (NVIDIA's tuning guides).
const CACHE_BYTES_PER_CYCLE: f64 = 64.0;

impl Device {
    /// Of all multiprocessors, of something each of them does so often a cycle.
    pub fn per_second(&self, per_cycle: f64) -> f64 {
        self.multiprocessors * self.clock * per_cycle
    }

    /// FLOP of a multiprocessor in a cycle, at the peak.
    pub fn flops_per_cycle(&self) -> f64 {
        self.peak / (self.multiprocessors * self.clock)
    }

    /// Of the second-level cache, at most.
    pub fn cache_bytes_per_second(&self) -> f64 {
        self.per_second(CACHE_BYTES_PER_CYCLE)
    }
}

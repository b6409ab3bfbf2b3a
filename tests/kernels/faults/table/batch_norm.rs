//! Of batch norm.

use super::Fault;

/// The source of batch norms.
pub const BATCH_NORM: &str = "batch_norm.cu";
/// Of batch norms.
pub const BATCH_NORM_FAULTS: [Fault; 11] = [
    (
        "barrier before moments of lanes are read",
        BATCH_NORM,
        "  block_barrier();\n  if (!has_column(params, owned)) return;\n  const uint32_t",
        "  if (!has_column(params, owned)) return;\n  const uint32_t",
    ),
    (
        "barrier before gradients of lanes are read",
        BATCH_NORM,
        "  block_barrier();\n  if (!has_column(params, owned)) return;\n  float",
        "  if (!has_column(params, owned)) return;\n  float",
    ),
    (
        "barrier before moments of ranges are read",
        BATCH_NORM,
        "  }\n  block_barrier();\n  if (lane != 0 || channel",
        "  }\n  if (lane != 0 || channel",
    ),
    ("barrier before gradients of ranges are read", BATCH_NORM, "= sums;\n  block_barrier();\n", "= sums;\n"),
    ("threads to spare", BATCH_NORM, "owned.row_lane < owned.row_lanes && ", ""),
    ("end of the channels", BATCH_NORM, " && owned.channel < params.channels", ""),
    ("end of the columns", BATCH_NORM, "thread_index() < owned.columns && ", ""),
    ("end of the channels, of columns", BATCH_NORM, " && column_channel(owned) < params.channels", ""),
    (
        "end of the last range",
        BATCH_NORM,
        "left < params.rows_per_range ? uint32_t(left) : params.rows_per_range",
        "params.rows_per_range",
    ),
    (
        "end of the channels, of the sums of moments",
        BATCH_NORM,
        "if (lane != 0 || channel >= params.channels) return;\n  const Moments",
        "if (lane != 0) return;\n  const Moments",
    ),
    (
        "end of the channels, of the sums of gradients",
        BATCH_NORM,
        "if (lane != 0 || channel >= params.channels) return;\n  for",
        "if (lane != 0) return;\n  for",
    ),
];

//! Of ranks and nearest rows.

use super::Fault;

/// The source of retrieval.
pub const RETRIEVAL: &str = "retrieval.cu";
/// Of retrieval: what its block shares, the order of neighbours, and where a search ends.
pub const RETRIEVAL_FAULTS: [Fault; 20] = [
    ("barrier before the best is raised", RETRIEVAL, "shared_best = 0;\n  block_barrier();", "shared_best = 0;"),
    ("barrier before the best is read", RETRIEVAL, "best);\n  block_barrier();", "best);"),
    ("the query itself", RETRIEVAL, " && int32_t(row) != own_row) use", ") use"),
    ("end of the gallery", RETRIEVAL, "if (row < gallery_count && int32_t", "if (int32_t"),
    ("minus zero", RETRIEVAL, "ordered_bits(s + 0.0f)", "ordered_bits(s)"),
    ("positives before the best", RETRIEVAL, " && !query.is_positive(row);", ";"),
    ("equal negatives", RETRIEVAL, "similarity_order(s) >= best &&", "similarity_order(s) > best &&"),
    ("negatives first", RETRIEVAL, "(positive ? 0u : 0x80000000u)", "(positive ? 0x80000000u : 0u)"),
    ("barrier after bins are cleared", RETRIEVAL, "bins[i] = 0;\n    block_barrier();", "bins[i] = 0;"),
    (
        "barrier before bins are read",
        RETRIEVAL,
        "block_barrier();\n    choose_bin(shared, pass, wanted);",
        "choose_bin(shared, pass, wanted);",
    ),
    ("barrier after a bin is chosen", RETRIEVAL, "shared.done = 1;\n  block_barrier();", "shared.done = 1;"),
    ("more candidates than a sort holds", RETRIEVAL, "before + shared.bins[bin] <= CANDIDATES || shift == 0", "true"),
    ("bits that earlier passes fixed", RETRIEVAL, "if (fixed_bits(key, pass) == fixed) atomic_add", "atomic_add"),
    ("rows of an earlier step, on counting", RETRIEVAL, "row);\n        if (key >= below) return;", "row);"),
    ("rows of an earlier step, on gathering", RETRIEVAL, " || key >= range.below) return;", ") return;"),
    ("barrier before candidates are counted", RETRIEVAL, "shared.found = 0;\n  block_barrier();", "shared.found = 0;"),
    ("barrier after candidates are gathered", RETRIEVAL, "block_barrier();\n  return shared.found <", "return shared.found <"),
    ("keys that are missing to a power of two", RETRIEVAL, "i += THREADS) keys[i] = 0;", "i += THREADS) (void)i;"),
    ("barrier of the exchanges", RETRIEVAL, "block_barrier();\n      for", "for"),
    ("barrier after the last exchange", RETRIEVAL, "  }\n  block_barrier();\n}\n\nKERNEL", "  }\n}\n\nKERNEL"),
];

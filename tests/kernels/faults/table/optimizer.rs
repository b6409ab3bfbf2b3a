//! Of optimizers.

use super::Fault;

/// The source of optimisers.
pub const OPTIMIZER: &str = "optimizer.cu";
/// Of optimisers: groups, and neighbours that move together.
pub const OPTIMIZER_FAULTS: [Fault; 9] = [
    (
        "neighbours of several groups",
        OPTIMIZER,
        "const bool together = stretch.holds(index, count.VALUE);",
        "const bool together = true;",
    ),
    ("neighbours one by one", OPTIMIZER, "visit_if_together(index + i, Count<1>{});", "(void)i;"),
    ("the group found last", OPTIMIZER, "if (!stretch.holds(index, 1)) stretch", "if (stretch.end == 0) stretch"),
    ("parameters of no group", OPTIMIZER, "if (together && stretch.in_group) visit", "if (together) visit"),
    ("end of a group", OPTIMIZER, "end = before.start + before.len;", "end = before.start + before.len + 1;"),
    ("end of the parameters between groups", OPTIMIZER, "low < count ? groups[low].start : ~uint64_t(0)", "~uint64_t(0)"),
    ("end of the vectors", OPTIMIZER, "in_vectors ? len / N : 0", "in_vectors ? len / N + 1 : 0"),
    (
        "values behind the vectors",
        OPTIMIZER,
        "i < len; i += threads) visit(i, Count<1>{});",
        "i < vectors * N; i += threads) visit(i, Count<1>{});",
    ),
    ("a gradient that is not finite", OPTIMIZER, "if (scalars.skip) return;", ""),
];

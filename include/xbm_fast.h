/* xbm_fast.h: the embedding memory and its fused pair loss for programs in C and whatever calls C.
 *
 * Every function that can fail returns a status; xbm_last_error() has the words. No call ends the program: NULL, handles that were
 * destroyed, sizes that do not fit, NaN are all answered with a status. What a library cannot see is a pointer to memory that is not
 * there or is shorter than the sizes say.
 *
 * Threads: every function may be called from every thread. Calls on one memory wait for each other; a handle that is destroyed while
 * another thread's call uses it lives until that call returns. xbm_last_error() is the calling thread's own. After fork() the child
 * must not use handles of its parent.
 *
 * Memory: pointers are the caller's and are read and written during the call only. They may be unaligned, and an output may be an
 * input. On a failure outputs are not written (a handle that was to be made is NULL) and a memory is as before.
 *
 * Versions: XBM_ABI_VERSION grows with every change that a compiled program would notice; compare it with xbm_abi_version() at start.
 */
#ifndef XBM_FAST_H
#define XBM_FAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XBM_ABI_VERSION 2

typedef int32_t xbm_status;
#define XBM_OK 0
#define XBM_ERROR_ARGUMENT 1   /* a pointer is NULL, a text is not UTF-8, a constant has no meaning here */
#define XBM_ERROR_HANDLE 2     /* a handle was destroyed, is of another type, or never was one */
#define XBM_ERROR_SHAPE 3      /* lengths do not fit each other, or a row is not of length 1 */
#define XBM_ERROR_NOT_FINITE 4 /* NaN or infinity */
#define XBM_ERROR_CONFIG 5     /* a setting that cannot be honoured, or no memory is left */
#define XBM_ERROR_FILE 6       /* a file that cannot be read, written or understood */
#define XBM_ERROR_DEVICE 7     /* the device or its driver refused, or is not there */
#define XBM_ERROR_INTERNAL 8   /* a fault of this library */

/* Handles. They are never followed: any value is safe to pass. */
typedef struct xbm_engine xbm_engine;
typedef struct xbm_memory xbm_memory;
typedef struct xbm_weighting xbm_weighting;

/* Where the pointers of a call lie. */
#define XBM_HOST 0   /* host memory */
#define XBM_DEVICE 1 /* the engine's GPU, aligned as their types are; device `cpu` has no memory of its own and refuses this */

/* Types of numbers. */
#define XBM_DTYPE_DEFAULT 0 /* as the place says where it stands */
#define XBM_F32 1
#define XBM_F16 2
#define XBM_BF16 3

/* A batch in the caller's memory. */
typedef struct xbm_batch {
    const void *embeddings;  /* (rows, dim) numbers of type `dtype`, row after row, each of length 1 within 0.01, or all zeros */
    const int32_t *labels;   /* (rows), any values; equal labels are positives */
    const int32_t *ids;      /* (rows): which image a row is of; NULL stands for -1 in every row */
    size_t rows;             /* 0 to 2^31 - 1 */
    size_t dim;              /* 1 or more */
    int32_t location;        /* XBM_HOST or XBM_DEVICE, of the outputs too */
    int32_t dtype;           /* of the embeddings: XBM_F32, for which XBM_DTYPE_DEFAULT stands; of XBM_HOST also XBM_F16 and XBM_BF16 */
} xbm_batch;

/* The version of the interface the library was built with. */
uint32_t xbm_abi_version(void);

/* The version of the library, such as "0.1.0". */
const char *xbm_version(void);

/* The words of the calling thread's last failure, UTF-8; "" before the first one. Valid until the thread's next failure. */
const char *xbm_last_error(void);

/* Opens a device: "cpu", or "cuda", "cuda:1" and so on, whose primary context is used. `threads` is the number of worker threads of
 * "cpu", 0 for one per core; the results do not depend on it, to the bit.
 * `stream` is a CUstream of the caller's, which must live while it is set: a call comes after what is on it so far, and what is put on it
 * afterwards comes after the call. (CUstream)1 is the default stream. With NULL a call begins at once, so that what it reads on the
 * device must be there, and everything has happened when it returns. "cpu" takes NULL only.
 * A call still looks at the rows it is given and keeps its books on the host, so it waits for the device and cannot be captured in a
 * CUDA graph. */
xbm_status xbm_engine_create(const char *device, const void *stream, size_t threads, xbm_engine **engine);

/* Sets another stream for later calls on the engine and its memories. */
xbm_status xbm_engine_set_stream(const xbm_engine *engine, const void *stream);

/* Closes an engine. Its memories live on and keep what they need. NULL is left alone, as by the other destroy functions. */
xbm_status xbm_engine_destroy(xbm_engine *engine);

/* The weights of positive and negative pairs. Either the name of a loss, with parameters where they differ from the published ones:
 * contrastive (the default of the engine: every positive weighs 1, a negative weighs 1 where its similarity exceeds 0.5), triplet,
 * lifted-structure, nca, info-nce, n-pair, binomial-deviance, multi-similarity, circle; "info-nce:t=0.1". Or TOML:
 *     positive = { curve = "constant:1", scale = "mean-all" }
 *     negative = { curve = "exp:k=10,s0=1", gate = "above:0.5", scale = "mean-all" } */
xbm_status xbm_weighting_create(const char *name_or_toml, xbm_weighting **weighting);
xbm_status xbm_weighting_destroy(xbm_weighting *weighting);

/* An empty memory: a ring of `capacity` rows of length `dim`, held in `dtype`: half the memory in 16 bit, and similarities that are off
 * by up to 2^-11 (XBM_F16). XBM_DTYPE_DEFAULT is XBM_F32 on the CPU and XBM_F16 on a GPU. The CPU has no XBM_BF16. */
xbm_status xbm_memory_create(const xbm_engine *engine, size_t capacity, size_t dim, int32_t dtype, xbm_memory **memory);
xbm_status xbm_memory_destroy(xbm_memory *memory);

/* Where a memory stands. */
typedef struct xbm_memory_info {
    size_t capacity; /* number of slots */
    size_t dim;      /* length of a row */
    size_t count;    /* slots in use */
    size_t head;     /* slot that the next row takes */
} xbm_memory_info;
xbm_status xbm_memory_get_info(const xbm_memory *memory, xbm_memory_info *info);

/* Forgets every row. */
xbm_status xbm_memory_clear(xbm_memory *memory);

/* Writes a batch into the ring: each row takes the slot at the head, and the head moves on, starting over at the end. */
xbm_status xbm_memory_enqueue(xbm_memory *memory, const xbm_batch *batch);

/* Which memory rows are an anchor itself and no pair with it. */
#define XBM_OWN_INSTANCE 0     /* rows with its instance id; the anchors then need ids */
#define XBM_OWN_LAST_ENQUEUE 1 /* its row of the batch enqueued last; the anchors must be that batch */
#define XBM_OWN_NONE 2         /* none: no anchor is in the memory */

typedef struct xbm_loss_settings {
    float scale;        /* factor of loss and gradient, such as 1.0f / rows for a mean */
    int32_t own;        /* one of XBM_OWN_* */
    int32_t accumulate; /* 1: the gradient is added to what its memory holds; 0: it replaces that */
} xbm_loss_settings;

/* Where results go; NULL where one is not wanted. */
typedef struct xbm_loss_outputs {
    float *gradient;   /* (rows, dim): of the loss with respect to the embeddings; the memory is constant */
    float *row_losses; /* (rows): the loss of each anchor, not scaled */
    int32_t *kept;     /* (rows, 2): positives and negatives of each anchor that have a weight */
    double *loss;      /* one number, always in host memory: scale * sum of row_losses */
} xbm_loss_outputs;

/* Loss and gradient of anchors against every row in use, without storing the similarities. An empty memory gives zeros.
 * XBM_ERROR_NOT_FINITE also where a result leaves the range of float, as a huge `scale` makes it. */
xbm_status xbm_pair_loss(xbm_memory *memory, const xbm_weighting *weighting, const xbm_batch *anchors, const xbm_loss_settings *settings, const xbm_loss_outputs *outputs);

typedef struct xbm_evaluation {
    const xbm_batch *queries; /* what looks for its class */
    const xbm_batch *gallery; /* what is looked at; NULL: the queries, each leaving itself out */
    const int32_t *own_rows;  /* (queries): the gallery row that is the query itself, or -1; NULL: none is, or, without a gallery, each */
    const size_t *ks;         /* (k_count): recall is wanted at each of these */
    size_t k_count;
} xbm_evaluation;

/* Scores in [0, 1], of the queries whose class the gallery holds. */
typedef struct xbm_scores {
    double *recall;              /* (k_count), set by the caller and written to: share of queries with a positive among their k nearest */
    double map_at_r;             /* mean average precision at R, R being a query's number of positives */
    double r_precision;          /* mean of: positives among the R nearest / R */
    double mean_reciprocal_rank; /* mean of: 1 / place of the first positive */
    size_t queries;              /* queries that count */
    size_t excluded_queries;     /* queries left out, as the gallery holds no positive of theirs */
} xbm_scores;
xbm_status xbm_evaluate(const xbm_engine *engine, const xbm_evaluation *evaluation, xbm_scores *scores);

typedef struct xbm_search {
    const xbm_batch *queries; /* rows whose neighbours are wanted; labels have no meaning here and may be NULL */
    const xbm_batch *gallery; /* what is looked at; NULL: the queries, each leaving itself out */
    const int32_t *own_rows;  /* (queries): the gallery row that is the query itself, or -1; NULL: none is, or, without a gallery, each */
    size_t k;                 /* neighbours of each query, 1 or more */
} xbm_search;

/* Where neighbours go, always in host memory; NULL where one is not wanted. */
typedef struct xbm_neighbours {
    int32_t *rows;       /* (queries, k): gallery rows, the most similar first; -1 where the gallery is too small */
    int32_t *ids;        /* (queries, k): the gallery's ids of these rows; -1 where there is no row or the gallery has no ids */
    float *similarities; /* (queries, k), in [-1, 1]; minus infinity where the gallery is too small */
} xbm_neighbours;

/* The k most similar rows of each query among all rows of the gallery, exactly: what is passed over (the CPU looks at rows in 8 bit
 * first) cannot be among them. */
xbm_status xbm_nearest(const xbm_engine *engine, const xbm_search *search, const xbm_neighbours *neighbours);

/* A memory as a safetensors file, written whole or not at all, and back into a memory of the same capacity and dim, which then goes on
 * as the saved one would have, to the bit. Paths are UTF-8. */
xbm_status xbm_memory_save(const xbm_memory *memory, const char *path);
xbm_status xbm_memory_load(xbm_memory *memory, const char *path);

/* The same without a file. `*len` receives the number of bytes, also if `bytes` is NULL or `room` is too small for them. */
xbm_status xbm_memory_to_bytes(const xbm_memory *memory, uint8_t *bytes, size_t room, size_t *len);
xbm_status xbm_memory_from_bytes(xbm_memory *memory, const uint8_t *bytes, size_t len);

#ifdef __cplusplus
}
#endif

#endif

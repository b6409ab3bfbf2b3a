/* The interface from C: losses and gradients against plain loops through several wraps of the ring, a memory saved and gone on with,
 * scores, and misuse. Prints what differs and returns 1, or "all as expected". */
#include "xbm_fast.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 12, BATCH = 10, CAPACITY = 23, STEPS = 9, CLASSES = 4 };

/* Sums of about a hundred 32-bit products. */
#define TOLERANCE 1e-5

static int failures = 0;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, xbm_last_error());          \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

/* A call that must fail with this status and say these words. */
#define REFUSED(call, status, words) EXPECT((call) == (status) && strstr(xbm_last_error(), (words)) != NULL)

static float uniform(void) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) / 16777216.0f * 2.0f - 1.0f;
}

static void unit_rows(float *rows, size_t count) {
    for (size_t row = 0; row < count; row++, rows += DIM) {
        float squares = 0;
        for (size_t i = 0; i < DIM; i++) {
            rows[i] = uniform() + (i == 0 ? 1.5f : 0.0f); /* alike enough that some negatives are hard */
            squares += rows[i] * rows[i];
        }
        for (size_t i = 0; i < DIM; i++) rows[i] /= sqrtf(squares);
    }
}

/* What the memory must hold, kept the plain way. */
typedef struct Reference {
    float rows[CAPACITY][DIM];
    int32_t labels[CAPACITY];
    size_t slots[BATCH];
    size_t head, count;
} Reference;

static void reference_enqueue(Reference *memory, const float *rows, const int32_t *labels) {
    for (size_t row = 0; row < BATCH; row++) {
        memcpy(memory->rows[memory->head], rows + row * DIM, sizeof memory->rows[0]);
        memory->labels[memory->head] = labels[row];
        memory->slots[row] = memory->head;
        memory->head = (memory->head + 1) % CAPACITY;
        if (memory->count < CAPACITY) memory->count++;
    }
}

static double reference_loss(const Reference *memory, const float *anchors, const int32_t *labels, double *gradient, int32_t *kept) {
    double loss = 0;
    memset(gradient, 0, BATCH * DIM * sizeof *gradient);
    memset(kept, 0, 2 * BATCH * sizeof *kept);
    for (size_t row = 0; row < BATCH; row++) {
        for (size_t slot = 0; slot < memory->count; slot++) {
            if (slot == memory->slots[row]) continue;
            double similarity = 0;
            for (size_t i = 0; i < DIM; i++) similarity += (double)anchors[row * DIM + i] * memory->rows[slot][i];
            int positive = memory->labels[slot] == labels[row];
            if (!positive && similarity <= 0.5) continue;
            loss += positive ? 1 - similarity : similarity - 0.5;
            kept[2 * row + !positive]++;
            for (size_t i = 0; i < DIM; i++) gradient[row * DIM + i] += (positive ? -1.0 : 1.0) * memory->rows[slot][i];
        }
    }
    return loss;
}

static void losses_agree(xbm_engine *engine, xbm_weighting *weighting) {
    static Reference reference;
    xbm_memory *memory = NULL, *restored = NULL;
    EXPECT(xbm_memory_create(engine, CAPACITY, DIM, XBM_DTYPE_DEFAULT, &memory) == XBM_OK);
    EXPECT(xbm_memory_create(engine, CAPACITY, DIM, XBM_DTYPE_DEFAULT, &restored) == XBM_OK);
    for (int step = 0; step < STEPS; step++) {
        float rows[BATCH * DIM], gradient[BATCH * DIM], losses[BATCH];
        double expected_gradient[BATCH * DIM], loss = NAN;
        int32_t labels[BATCH], kept[2 * BATCH], expected_kept[2 * BATCH];
        unit_rows(rows, BATCH);
        for (int row = 0; row < BATCH; row++) labels[row] = row % CLASSES;
        xbm_batch batch = {.embeddings = rows, .labels = labels, .rows = BATCH, .dim = DIM, .location = XBM_HOST};
        xbm_loss_settings settings = {.scale = 1.0f, .own = XBM_OWN_LAST_ENQUEUE, .accumulate = 0};
        xbm_loss_outputs outputs = {.gradient = gradient, .row_losses = losses, .kept = kept, .loss = &loss};
        EXPECT(xbm_memory_enqueue(memory, &batch) == XBM_OK);
        EXPECT(xbm_pair_loss(memory, weighting, &batch, &settings, &outputs) == XBM_OK);

        reference_enqueue(&reference, rows, labels);
        double expected = reference_loss(&reference, rows, labels, expected_gradient, expected_kept);
        EXPECT(fabs(loss - expected) <= TOLERANCE * fabs(expected));
        EXPECT(memcmp(kept, expected_kept, sizeof kept) == 0);
        for (int i = 0; i < BATCH * DIM; i++) EXPECT(fabs(gradient[i] - expected_gradient[i]) <= TOLERANCE * BATCH);

        EXPECT(xbm_memory_save(memory, "memory.safetensors") == XBM_OK);
        EXPECT(xbm_memory_load(restored, "memory.safetensors") == XBM_OK);
        double again = NAN;
        outputs = (xbm_loss_outputs){.loss = &again};
        settings.own = XBM_OWN_NONE;
        EXPECT(xbm_pair_loss(restored, weighting, &batch, &settings, &outputs) == XBM_OK);
        outputs.loss = &loss;
        EXPECT(xbm_pair_loss(memory, weighting, &batch, &settings, &outputs) == XBM_OK);
        EXPECT(loss == again);
    }
    EXPECT(xbm_memory_destroy(memory) == XBM_OK);
    REFUSED(xbm_memory_destroy(memory), XBM_ERROR_HANDLE, "was destroyed");
    EXPECT(xbm_memory_destroy(restored) == XBM_OK);
}

static void scores_agree(xbm_engine *engine) {
    /* Two classes on two axes, and one row on the wrong one: its nearest are of the other class. */
    float rows[] = {1, 0, 1, 0, 0, 1, 0, 1, 0, 1};
    int32_t labels[] = {1, 1, 2, 2, 1};
    size_t ks[] = {1, 5};
    double recall[2] = {NAN, NAN};
    xbm_batch queries = {.embeddings = rows, .labels = labels, .rows = 5, .dim = 2};
    xbm_evaluation evaluation = {.queries = &queries, .ks = ks, .k_count = 2};
    xbm_scores scores = {.recall = recall};
    EXPECT(xbm_evaluate(engine, &evaluation, &scores) == XBM_OK);
    /* Among equal similarities negatives come first, so the two of class 2 meet the stray one first. */
    EXPECT(recall[0] == 0.4 && recall[1] == 1.0 && scores.queries == 5 && scores.excluded_queries == 0);
    evaluation.queries = NULL;
    REFUSED(xbm_evaluate(engine, &evaluation, &scores), XBM_ERROR_ARGUMENT, "queries: expected a pointer, found NULL");
}

static void neighbours_agree(xbm_engine *engine) {
    /* Four points of a circle, and one of them as the query. */
    float rows[] = {1, 0, 0.8f, 0.6f, 0, 1, -1, 0};
    float query[] = {0.8f, 0.6f};
    int32_t ids[] = {10, 11, 12, 13}, found_rows[5], found_ids[5], own = 1;
    float similarities[5];
    xbm_batch gallery = {.embeddings = rows, .ids = ids, .rows = 4, .dim = 2};
    xbm_batch queries = {.embeddings = query, .rows = 1, .dim = 2};
    xbm_search search = {.queries = &queries, .gallery = &gallery, .k = 5};
    xbm_neighbours neighbours = {.rows = found_rows, .ids = found_ids, .similarities = similarities};
    EXPECT(xbm_nearest(engine, &search, &neighbours) == XBM_OK);
    int32_t order[] = {1, 0, 2, 3, -1};
    for (int i = 0; i < 5; i++) EXPECT(found_rows[i] == order[i] && found_ids[i] == (order[i] < 0 ? -1 : ids[order[i]]));
    EXPECT(similarities[0] == 1 && fabs(similarities[2] - 0.6) < TOLERANCE && similarities[4] == -INFINITY);
    search.own_rows = &own;
    search.k = 1;
    neighbours = (xbm_neighbours){.rows = found_rows};
    EXPECT(xbm_nearest(engine, &search, &neighbours) == XBM_OK && found_rows[0] == 0);
    search.k = 0;
    REFUSED(xbm_nearest(engine, &search, &neighbours), XBM_ERROR_CONFIG, "k: expected at least 1, found 0");
}

static void misuse_is_refused(xbm_engine *engine, xbm_weighting *weighting) {
    xbm_engine *none = engine;
    REFUSED(xbm_engine_create("cuda:99", NULL, 0, &none), XBM_ERROR_DEVICE, "cuda:99");
    EXPECT(none == NULL);
    REFUSED(xbm_engine_create("cpu", &none, 0, &none), XBM_ERROR_CONFIG, "no streams");
    xbm_memory *memory = NULL;
    REFUSED(xbm_memory_create((xbm_engine *)weighting, 4, 2, XBM_F32, &memory), XBM_ERROR_HANDLE, "found a handle of a weighting");
    REFUSED(xbm_memory_create(engine, SIZE_MAX, SIZE_MAX, XBM_F32, &memory), XBM_ERROR_CONFIG, "memory of");
    EXPECT(xbm_memory_create(engine, 4, 2, XBM_F32, &memory) == XBM_OK);
    float row[] = {NAN, 1};
    int32_t label[] = {1};
    xbm_batch batch = {.embeddings = row, .labels = label, .rows = 1, .dim = 2};
    REFUSED(xbm_memory_enqueue(memory, &batch), XBM_ERROR_NOT_FINITE, "first in row 0");
    batch.dim = 1;
    row[0] = 1;
    REFUSED(xbm_memory_enqueue(memory, &batch), XBM_ERROR_SHAPE, "expected 2, as the memory has");
    batch.labels = NULL;
    REFUSED(xbm_memory_enqueue(memory, &batch), XBM_ERROR_ARGUMENT, "labels of batch");
    REFUSED(xbm_memory_enqueue((xbm_memory *)row, &batch), XBM_ERROR_HANDLE, "never gave out");
    REFUSED(xbm_memory_load(memory, "nothing.safetensors"), XBM_ERROR_FILE, "nothing.safetensors");
    EXPECT(xbm_memory_destroy(memory) == XBM_OK);
    EXPECT(xbm_memory_destroy(NULL) == XBM_OK);
}

int main(void) {
    xbm_engine *engine = NULL;
    xbm_weighting *weighting = NULL;
    EXPECT(xbm_abi_version() == XBM_ABI_VERSION);
    EXPECT(xbm_last_error()[0] == '\0');
    EXPECT(xbm_engine_create("cpu", NULL, 2, &engine) == XBM_OK);
    EXPECT(xbm_weighting_create("contrastive", &weighting) == XBM_OK);
    losses_agree(engine, weighting);
    scores_agree(engine);
    neighbours_agree(engine);
    misuse_is_refused(engine, weighting);
    EXPECT(xbm_weighting_destroy(weighting) == XBM_OK);
    EXPECT(xbm_engine_destroy(engine) == XBM_OK);
    if (failures == 0) printf("xbm-fast %s: all as expected\n", xbm_version());
    return failures == 0 ? 0 : 1;
}

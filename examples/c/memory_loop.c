/* A training loop of one's own in C: a linear embedding learns to tell classes apart that differ in a few of many noisy features, from
 * batches that hold no two of most classes: their positives are in the memory.
 *
 * From the repository:
 *     cargo build --release
 *     cc -Iinclude examples/c/memory_loop.c -Ltarget/release -lxbm_fast -lm -Wl,-rpath,"$PWD/target/release" -o memory_loop
 *     ./memory_loop
 */
#include "xbm_fast.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEATURES = 64, SIGNAL = 8, DIM = 16, CLASSES = 50, BATCH = 32, CAPACITY = 512, STEPS = 300, GALLERY = 400 };

static float weights[DIM][FEATURES];
static float centres[2 * CLASSES][SIGNAL];

/* Ends the program with the engine's words if a call did not succeed. */
static void check(xbm_status status) {
    if (status == XBM_OK) return;
    fprintf(stderr, "error: %s\n", xbm_last_error());
    exit(1);
}

static float uniform(void) {
    static uint64_t state = 42;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)(state >> 40) / 16777216.0f * 2.0f - 1.0f;
}

/* Features of an item: its class in the first few, noise in all. */
static void item(int class, float *features) {
    for (int i = 0; i < FEATURES; i++) features[i] = (i < SIGNAL ? centres[class][i] : 0.0f) + 0.5f * uniform();
}

/* The embedding of an item: weights times features, normalised. Returns the length before. */
static float embed(const float *features, float *embedding) {
    float squares = 0;
    for (int i = 0; i < DIM; i++) {
        embedding[i] = 0;
        for (int j = 0; j < FEATURES; j++) embedding[i] += weights[i][j] * features[j];
        squares += embedding[i] * embedding[i];
    }
    for (int i = 0; i < DIM; i++) embedding[i] /= sqrtf(squares);
    return sqrtf(squares);
}

/* One step of gradient descent, through the normalisation: dz = (g - f (f . g)) / |z|. */
static void descend(const float *features, const float *embedding, float length, const float *gradient, float rate) {
    float radial = 0;
    for (int i = 0; i < DIM; i++) radial += embedding[i] * gradient[i];
    for (int i = 0; i < DIM; i++) {
        float step = rate * (gradient[i] - embedding[i] * radial) / length;
        for (int j = 0; j < FEATURES; j++) weights[i][j] -= step * features[j];
    }
}

/* Recall@1 on classes that are never trained on. */
static double score(const xbm_engine *engine) {
    static float features[FEATURES], embeddings[GALLERY][DIM];
    static int32_t labels[GALLERY];
    for (int row = 0; row < GALLERY; row++) {
        labels[row] = CLASSES + row % CLASSES;
        item(labels[row], features);
        embed(features, embeddings[row]);
    }
    size_t k = 1;
    double recall;
    xbm_batch queries = {.embeddings = embeddings[0], .labels = labels, .rows = GALLERY, .dim = DIM, .location = XBM_HOST};
    xbm_evaluation evaluation = {.queries = &queries, .ks = &k, .k_count = 1};
    xbm_scores scores = {.recall = &recall};
    check(xbm_evaluate(engine, &evaluation, &scores));
    return recall;
}

int main(void) {
    static float features[BATCH][FEATURES], embeddings[BATCH][DIM], lengths[BATCH], gradient[BATCH][DIM];
    static int32_t labels[BATCH], kept[BATCH][2];
    if (xbm_abi_version() != XBM_ABI_VERSION) {
        fprintf(stderr, "error: the library has interface %u, this program was compiled for %u\n", xbm_abi_version(), XBM_ABI_VERSION);
        return 1;
    }
    xbm_engine *engine;
    xbm_weighting *weighting;
    xbm_memory *memory;
    check(xbm_engine_create("cpu", NULL, 0, &engine));
    check(xbm_weighting_create("contrastive", &weighting));
    check(xbm_memory_create(engine, CAPACITY, DIM, XBM_DTYPE_DEFAULT, &memory));

    for (int i = 0; i < 2 * CLASSES * SIGNAL; i++) centres[i / SIGNAL][i % SIGNAL] = uniform();
    for (int i = 0; i < DIM * FEATURES; i++) weights[i / FEATURES][i % FEATURES] = 0.1f * uniform();
    printf("before training      Recall@1 %.3f\n", score(engine));

    xbm_batch batch = {.embeddings = embeddings[0], .labels = labels, .rows = BATCH, .dim = DIM, .location = XBM_HOST};
    xbm_loss_settings settings = {.scale = 1.0f / BATCH, .own = XBM_OWN_LAST_ENQUEUE, .accumulate = 0};
    double loss;
    xbm_loss_outputs outputs = {.gradient = gradient[0], .kept = kept[0], .loss = &loss};
    for (int step = 1; step <= STEPS; step++) {
        for (int row = 0; row < BATCH; row++) {
            labels[row] = (step * BATCH + row) % CLASSES;
            item(labels[row], features[row]);
            lengths[row] = embed(features[row], embeddings[row]);
        }
        check(xbm_memory_enqueue(memory, &batch));
        check(xbm_pair_loss(memory, weighting, &batch, &settings, &outputs));
        for (int row = 0; row < BATCH; row++) descend(features[row], embeddings[row], lengths[row], gradient[row], 0.003f);
        if (step % 100 == 0) {
            int positives = 0, negatives = 0;
            for (int row = 0; row < BATCH; row++) positives += kept[row][0], negatives += kept[row][1];
            printf("step %d  loss %.3f  pairs kept an anchor: %.1f positive, %.1f negative  Recall@1 %.3f\n", step, loss,
                   (double)positives / BATCH, (double)negatives / BATCH, score(engine));
        }
    }
    check(xbm_memory_save(memory, "memory.safetensors"));
    check(xbm_memory_destroy(memory));
    check(xbm_weighting_destroy(weighting));
    check(xbm_engine_destroy(engine));
    return 0;
}

/* A chain of fully connected layers over columns of float32, a block of rows at a time.

   Built on the machine it runs on (see building.py), so vectors are as wide as the machine's.
   No memory is allocated here and nothing is kept between calls. */

#include <stdint.h>
#include <string.h>

typedef float lanes __attribute__((vector_size(64), aligned(4)));
typedef int32_t bits __attribute__((vector_size(64), aligned(4)));

enum { LANES = 16, STEP = 64, BLOCK = 256, TERMS = 128, RELU = 1 };

/* `weight`: panels of 8, then 4, then 1 outputs, each [inputs][outputs of the panel]. */
struct layer {
    int64_t inputs, outputs, activation;
    const float *weight, *bias;
};

static inline __attribute__((always_inline)) lanes broadcast(float value) {
    return value - (lanes){0};
}

/* `outputs` rows of results for `vectors` vectors of rows; both are known when compiling. */
static inline __attribute__((always_inline)) void
panel(const float *const *x, int64_t inputs, int64_t at, const float *weight, const float *bias,
      int64_t activation, float *y, int outputs, int vectors, lanes *check) {
    lanes total[8][4];
    for (int j = 0; j < outputs; j++)
        for (int v = 0; v < vectors; v++) total[j][v] = broadcast(bias[j]);
    for (int64_t i = 0; i < inputs;) { /* shorter sums are rounded less */
        int64_t stop = i + TERMS < inputs ? i + TERMS : inputs;
        lanes sum[8][4] = {{{0}}};
        for (; i < stop; i++, weight += outputs) {
            const float *column = x[i] + at;
            for (int j = 0; j < outputs; j++)
                for (int v = 0; v < vectors; v++)
                    sum[j][v] += weight[j] * *(const lanes *)(column + v * LANES);
        }
        for (int j = 0; j < outputs; j++)
            for (int v = 0; v < vectors; v++) total[j][v] += sum[j][v];
    }
    if (check)
        for (int v = 0; v < vectors; v++) *check += total[0][v];
    for (int j = 0; j < outputs; j++)
        for (int v = 0; v < vectors; v++) {
            lanes made = total[j][v];
            if (activation == RELU) made = (lanes)((bits)made & ~(made < 0)); /* NaN stays NaN */
            *(lanes *)(y + j * BLOCK + at + v * LANES) = made;
        }
}

/* y[outputs][BLOCK] from columns x; `rows` is a multiple of STEP. With `check` x are a table's
   columns, of which the next block is fetched: there are more of them than a processor foresees. */
static void run(const struct layer *l, const float *const *x, float *y, int64_t rows, lanes *check) {
    for (int64_t at = 0; at < rows; at += STEP) {
        for (int64_t i = 0; check && i < l->inputs; i++)
            for (int line = 0; line < STEP; line += LANES)
                __builtin_prefetch(x[i] + at + BLOCK + line, 0, 2);
        const float *weight = l->weight;
        int64_t j = 0;
        for (; j + 8 <= l->outputs; j += 8, weight += 8 * l->inputs)
            for (int half = 0; half < STEP; half += STEP / 2)
                panel(x, l->inputs, at + half, weight, l->bias + j, l->activation, y + j * BLOCK, 8,
                      2, j ? 0 : check);
        for (; j + 4 <= l->outputs; j += 4, weight += 4 * l->inputs)
            panel(x, l->inputs, at, weight, l->bias + j, l->activation, y + j * BLOCK, 4, 4,
                  j ? 0 : check);
        for (; j < l->outputs; j++, weight += l->inputs)
            panel(x, l->inputs, at, weight, l->bias + j, l->activation, y + j * BLOCK, 1, 4,
                  j ? 0 : check);
    }
}

/* out[outputs of the last layer][rows] for `columns` of `rows` values.

   `pointers` has room for as many addresses as the widest layer, `scratch` for three times so many
   blocks. Returns a sum that is finite only where every value of every column is. */
float gradbase_layers(const struct layer *layers, int64_t count, const float *const *columns,
                      int64_t rows, float *out, const float **pointers, float *scratch,
                      int64_t widest) {
    lanes check = {0};
    for (int64_t start = 0; start < rows; start += BLOCK) {
        int64_t here = rows - start < BLOCK ? rows - start : BLOCK;
        int64_t padded = (here + STEP - 1) / STEP * STEP;
        float *from = scratch + 2 * widest * BLOCK, *to = scratch;
        for (int64_t i = 0; i < layers->inputs; i++) {
            pointers[i] = columns[i] + start;
            if (padded > here) { /* the last rows, and zeros behind them */
                memset(from + i * BLOCK, 0, BLOCK * sizeof(float));
                memcpy(from + i * BLOCK, pointers[i], here * sizeof(float));
                pointers[i] = from + i * BLOCK;
            }
        }
        for (int64_t k = 0; k < count; k++) {
            run(layers + k, pointers, to, padded, k ? 0 : &check);
            for (int64_t j = 0; j < layers[k].outputs; j++) pointers[j] = to + j * BLOCK;
            to = to == scratch ? scratch + widest * BLOCK : scratch;
        }
        for (int64_t j = 0; j < layers[count - 1].outputs; j++)
            memcpy(out + j * rows + start, pointers[j], here * sizeof(float));
    }
    float total = 0;
    for (int i = 0; i < LANES; i++) total += check[i];
    return total;
}

/* A step of Adam over flat vectors, in one pass over memory.

   Every operation rounds as torch's rounds it, one after the other: `adam.py` compares both before
   the first use. Built without contraction of products and sums; where torch contracts, fmaf says so. */

#include <math.h>
#include <stdint.h>

enum { NO_DECAY, DECOUPLED, COUPLED };

struct step {
    float of_mean, kept, of_square, corrected, eps, scale;
};

static inline __attribute__((always_inline)) void
run(int64_t count, float *restrict weight, const float *restrict gradient, float *restrict mean,
    float *restrict square, const float *restrict rate, const float *restrict decay, int kind,
    struct step s) {
    for (int64_t i = 0; i < count; i++) {
        float w = weight[i], g = gradient[i];
        if (kind == DECOUPLED) w *= decay[i];
        if (kind == COUPLED) g = fmaf(w, decay[i], g);
        float m = fmaf(s.of_mean, g - mean[i], mean[i]);
        float v = fmaf(s.of_square * g, g, square[i] * s.kept);
        float root = fmaf(1 / (1 / sqrtf(v)), s.corrected, s.eps);
        mean[i] = m;
        square[i] = v;
        weight[i] = fmaf(s.scale * (m / root), rate[i], w);
    }
}

/* `decay`: what weights are multiplied by (kind DECOUPLED), or added to gradients times (COUPLED). */
void gradbase_adam(int64_t count, float *weight, const float *gradient, float *mean, float *square,
                   const float *rate, const float *decay, int64_t kind, float of_mean, float kept,
                   float of_square, float corrected, float eps, float scale) {
    struct step s = {of_mean, kept, of_square, corrected, eps, scale};
    if (kind == DECOUPLED)
        run(count, weight, gradient, mean, square, rate, decay, DECOUPLED, s);
    else if (kind == COUPLED)
        run(count, weight, gradient, mean, square, rate, decay, COUPLED, s);
    else
        run(count, weight, gradient, mean, square, rate, decay, NO_DECAY, s);
}

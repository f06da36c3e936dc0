/* layer.c - see layer.h. */
#include "engine/layer.h"

#include <stdarg.h>
#include <stdio.h>

enum { NAME_MAX_BYTES = 192 };

static struct tensor take(struct layer_loader *l, const char *stem, const char *suffix, int ndim, const int64_t *shape)
{
    struct tensor t = { 0 };
    char name[NAME_MAX_BYTES + 16];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    if (!l->failed && !weights_get(l->weights, &t, name, ndim, shape, l->err))
        l->failed = true;
    return t;
}

#define STEM(stem, fmt)                        \
    char stem[NAME_MAX_BYTES];                 \
    do {                                       \
        va_list ap;                            \
        va_start(ap, fmt);                     \
        vsnprintf(stem, sizeof stem, fmt, ap); \
        va_end(ap);                            \
    } while (0)

struct linear layer_linear(struct layer_loader *l, int64_t out, int64_t in, bool bias, const char *fmt, ...)
{
    STEM(stem, fmt);
    struct linear r = { .w = take(l, stem, ".weight", WEIGHTS_SHAPE(out, in)) };
    if (bias)
        r.b = take(l, stem, ".bias", WEIGHTS_SHAPE(out));
    return r;
}

struct norm layer_norm(struct layer_loader *l, int64_t n, bool bias, const char *fmt, ...)
{
    STEM(stem, fmt);
    struct norm r = { .w = take(l, stem, ".weight", WEIGHTS_SHAPE(n)) };
    if (bias)
        r.b = take(l, stem, ".bias", WEIGHTS_SHAPE(n));
    return r;
}

struct conv layer_conv(struct layer_loader *l, int64_t out, int64_t in, int64_t kernel, const char *fmt, ...)
{
    STEM(stem, fmt);
    return (struct conv){ .w = take(l, stem, ".weight", WEIGHTS_SHAPE(out, in, kernel, kernel)),
                          .b = take(l, stem, ".bias", WEIGHTS_SHAPE(out)) };
}

struct tensor layer_table(struct layer_loader *l, int64_t rows, int64_t cols, const char *fmt, ...)
{
    STEM(stem, fmt);
    return take(l, stem, ".weight", WEIGHTS_SHAPE(rows, cols));
}

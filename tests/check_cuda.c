/* check_cuda.c - see check_cuda.h. */
#include "tests/check_cuda.h"

#include <string.h>

static bool make(const struct check_target *t, int threads, struct device **out, struct err *e)
{
    (void)threads;
    struct cuda_options o = { .attention = (enum cuda_attention)t->attention };
    return cuda_device_new(out, t->compute, &o, e);
}

struct check_target check_cuda(const char *name, enum dtype compute, enum cuda_attention attention)
{
    return (struct check_target){
        .name = name,
        .compute = compute,
        .device_memory = true,
        .rounds = 1,
        .rounding = { .weights = true, .attention = true },
        .nan_meets_padding = true, /* where a convolution is a product of pixels laid out in rows */
        .attention = attention,
        .make = make,
        .drop = device_free,
    };
}

bool check_cuda_attends(int check) { return !strncmp(check_name(check), "attention", strlen("attention")); }

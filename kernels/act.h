/* act.h - the activation functions that an operation can apply to its result. C and CUDA C++. */
#ifndef SLUICE_ACT_H
#define SLUICE_ACT_H

enum act {
    ACT_NONE,
    ACT_SILU,       /* x * sigmoid(x) */
    ACT_QUICK_GELU, /* x * sigmoid(1.702 x): CLIP-L */
    ACT_GELU_TANH,  /* 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): FLUX, T5 v1.1 */
    ACT_GELU_ERF,   /* 0.5 x (1 + erf(x / sqrt 2)) */
    ACT_RELU,       /* max(x, 0): TAEF1; NaN stays NaN */
};

#endif

/* fake_libs.h - what a test asks of the fake libraries beside their own interfaces: exported
 * from the fake module, as fake.h's. C and C++. */
#ifndef FAKE_LIBS_H
#define FAKE_LIBS_H

#ifdef __cplusplus
extern "C" {
#endif

/* Products and plans that were queued since the module was loaded. */
long fake_cublaslt_products(void);
long fake_cudnn_plans(void);

#ifdef __cplusplus
}
#endif

#endif

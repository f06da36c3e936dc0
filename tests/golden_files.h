/* golden_files.h - the small pipelines of tests/golden as model folders. */
#ifndef SLUICE_GOLDEN_FILES_H
#define SLUICE_GOLDEN_FILES_H

#include "kernels/err.h"

#define GOLDEN_DIR "tests/golden" /* from the repository's root, where tests run */

/* Makes the model folder `to` of GOLDEN_DIR/name: configs and tokenizers
 * copied, weights filled by synth_from_header with the golden's own seed. */
bool golden_write(const char *name, const char *to, struct err *e);

#endif

/* service_tokens.h - counts the tokens of the prompts while they are typed: CLIP's and
 * T5's, and how much of the text each of them sees.
 *
 * On the loop's worker; the newest text is counted, those before it are not. The
 * tokenizers are opened once, when the first text is counted; where that fails
 * nothing is counted, and the engine says why when it needs them. */
#ifndef SLUICE_SERVICE_TOKENS_H
#define SLUICE_SERVICE_TOKENS_H

#include "engine/model.h"
#include "tui/view.h"
#include "tui/worker.h"

struct service_tokens;

/* m, w and v are borrowed until service_tokens_free. kind: of its jobs, on w no other's. */
bool service_tokens_start(struct service_tokens **out, const struct model *m, struct worker *w, int kind,
                          struct view *v, struct err *e);
/* To be called after each key: what has changed is counted, and comes by view_tokens. */
void service_tokens_update(struct service_tokens *s);
/* After worker_stop and the last worker_take; NULL is fine. */
void service_tokens_free(struct service_tokens *s);

#endif

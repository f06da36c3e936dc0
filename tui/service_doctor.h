/* service_doctor.h - what the doctor's screen shows: engine/doctor's report, made
 * by the worker, and the terminal's own lines. For the loop's thread. */
#ifndef SLUICE_SERVICE_DOCTOR_H
#define SLUICE_SERVICE_DOCTOR_H

#include "tui/term.h"
#include "tui/view.h"
#include "tui/worker.h"

/* Then view_doctor. Half a second; where the machine's speed is not known yet two more, once. The
 * view must live until the worker has given the job back. */
void service_doctor(struct worker *w, struct view *v);
/* view_doctor_terminal, at once. */
void service_doctor_terminal(struct view *v, const struct term_report *r);

#endif

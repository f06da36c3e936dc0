/* pace.h - how fast the way to the terminal is, and how much may be on it.
 *
 * Pictures go out in pieces, each with a question behind it (DSR) that the terminal
 * answers when it has come so far. From that: the round trip, by questions that
 * stand alone; the rate, by how long a piece's bytes took beyond it. There is never
 * more on the way than keeps it busy and QUEUE_MS more, so that what is typed
 * meanwhile comes through. Pure: times are the caller's, in us. */
#ifndef SLUICE_PACE_H
#define SLUICE_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PACE_FLIGHTS = 16, PACE_TRIPS = 8, PACE_QUEUE_MS = 8 };

/* Zeroed, nothing is known. */
struct pace {
    struct { int64_t sent_us; size_t bytes; } flight[PACE_FLIGHTS]; /* oldest first */
    int flights;
    int64_t trip_us[PACE_TRIPS]; /* the last ones */
    int trips;
    int64_t answered_us;
    double seconds_per_byte;     /* 0: unknown */
};

/* So many bytes have been written, a question last. */
void pace_sent(struct pace *p, size_t bytes, int64_t now_us);
/* An answer has come. False: to nothing that was asked here. */
bool pace_answered(struct pace *p, int64_t now_us);
/* May so many bytes more be written? */
bool pace_open(const struct pace *p, size_t bytes);
/* No answer will come any more. */
void pace_forget(struct pace *p);

double pace_rate(const struct pace *p);            /* bytes a second; 0: unknown */
int64_t pace_trip_us(const struct pace *p);        /* the shortest of late; 0: unknown */
size_t pace_bytes(const struct pace *p, double ms); /* what goes through in that time; unknown: at 64 KB/s */
bool pace_quick(const struct pace *p);             /* known, and a picture more or less is nothing to it */

#endif
